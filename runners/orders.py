"""What a node is asked to do, and what it tells back: plain values that cross the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from runners.engines.base import RefusedBy
    from runners.work import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a lease occupies on a node.

    Attributes:
        devices: as the node's profile calls them: one, several where one model is spread over them, or none.
        endpoint: the id of the place in line at an endpoint that it is, where it has no devices.
        engine_device: the devices by the engine's own names, joined by commas; None for its choice.
        tensor_split: the share of the model that each of several devices gets.
        hardware_class: devices whose timings may be compared.
        visible: variables, as NAME=value, under which the engine calls it that, and which hide other cards from it.
        backend: what computes there: `cuda`, `vulkan`, `cpu` ...
        device_match: how it is known that this is the device; None for the CPU.
        unmatched: the node's other GPUs that the engine cannot be given, each with the reason.
        predicted_bytes: what the plan expects the engine to need there.
        memory_bytes: of all devices.
        bandwidth_bytes_per_s: at which the weights are read, from what the makers say of each device.
    """

    devices: tuple[str, ...]
    endpoint: str = ""
    engine_device: str | None = None
    tensor_split: tuple[float, ...] | None = None
    hardware_class: str = "unknown"
    visible: tuple[str, ...] = ()
    backend: str | None = None
    device_match: str | None = None
    unmatched: tuple[str, ...] = ()
    memory_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    predicted_bytes: int | None = None

    @property
    def place_id(self) -> str:
        """Unique on its node: the ids of its devices, joined by `+`, or `endpoint`."""
        return "+".join(self.devices) or self.endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOrder:
    """Load this and keep it loaded while jobs come.

    Attributes:
        run_id: of the run folder; names the spool and the logs on the node.
        lease_id: of this load.
        scoring: exam name to the scoring that fills the score column.
        overlap_grading: whether the next answer may be generated while one is graded.
        exams: those that are not ours by name, packed (`runners.exams.folder`).
        reloads: how often in a row a server that died or hung may be started again; a finished answer begins anew.
    """

    run_id: str
    sweep: str
    lease_id: str
    cell: Cell
    place: Place
    scoring: dict[str, str]
    generation_timeout_s: float
    overlap_grading: bool = False
    reloads: int = 2
    exams: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """One job of a cell; `number` of `total` is what a progress display shows."""

    job_id: str
    attempt: int
    exam: str
    prompt_version: str
    seed: int
    number: int
    total: int
    task: str = "main"


Phase = Literal["fetching", "waiting for device", "loading", "pausing", "generating", "grading", "waiting", "unloading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChanged:
    """What a lease does now; `number` of `total` jobs of its cell, `fraction` of a download or load if known.

    `note` says why it is so, where that is worth a line; `holder` says who has the device that is waited for. Both are
    texts of others, of bounded length.
    """

    lease_id: str
    phase: Phase
    number: int | None = None
    total: int | None = None
    fraction: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None
    holder: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoaded:
    """The lease's server is ready after `load_s` seconds."""

    lease_id: str
    load_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReady:
    """An attempt is over and its row is spooled. `row` has every column but `final`, which the driver decides.

    `files` holds what the files that the row names hold, by sha256 (`runners.files`).
    """

    row: dict[str, Any]
    lease_id: str | None
    duration_s: float
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEnded:
    """The lease is over and no process of it is left.

    `how` is `failed` if the cell could not be served: `outcome` and `reason` say why. `log` is the engine's own log
    (its end, if it is long). `refused_by` says who would refuse the same cell again.
    """

    lease_id: str
    how: Literal["done", "cancelled", "failed"]
    outcome: str = ""
    reason: str = ""
    log: str = ""
    refused_by: RefusedBy = ""


CellEvent = PhaseChanged | ModelLoaded | RowReady | CellEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What every row of a node says about it."""

    hostname: str
    os: str | None = None
    cpu: str | None = None
    ram_bytes: int | None = None
    governor: str | None = None
    platform_profile: str | None = None
    drivers: dict[str, str] = field(default_factory=dict)
