"""The protocol every engine follows: settings in, a served model out, chat completions from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from runners.errors import RunnersError
from runners.outcomes import Outcome

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from quants.models import EndpointModel
    from runners.chat import ChatRequest, ChatResult, OnEvent
    from runners.engines.llama_told import ServedSettings
    from runners.engines.settings import EngineSettings

OnSpawn: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSizes:
    """The buffers the engine says it allocated: bytes per device name (CPU, CPU_Mapped, CUDA0, CUDA_Host ...).

    Parsed from llama.cpp's log, so to the precision printed there (0.01 MiB). None: the log did not print that kind.
    """

    model_bytes: dict[str, int] | None = None
    kv_bytes: dict[str, int] | None = None
    recurrent_bytes: dict[str, int] | None = None
    compute_bytes: dict[str, int] | None = None
    output_bytes: dict[str, int] | None = None

    def total_bytes(self) -> dict[str, int]:
        """Sum over the kinds, per device name."""
        totals: dict[str, int] = {}
        for each in fields(self):
            for device, size in (getattr(self, each.name) or {}).items():
                totals[device] = totals.get(device, 0) + size
        return totals


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """An engine that is there: its build, and the devices it can use besides the CPU, by its own names."""

    kind: str
    build: str
    devices: tuple[str, ...] = ()
    binary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUnavailable:
    """An engine that is not there: why, and what would mend it."""

    kind: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """The request made after a load and before the first that counts: its time to first token and whole time.

    `gap_s` is the mean time between its tokens by the server's clock, `prompt_chars` the length of its prompt in
    characters.
    """

    ttft_s: float | None
    e2e_s: float | None
    gap_s: float | None
    prompt_chars: int


class EngineError(RunnersError):
    """An engine could not do what was asked."""

    outcome: Outcome = Outcome.SERVER_START


class EngineUnavailableError(EngineError):
    """The engine is not there, or cannot be started here."""


LoadFailure: TypeAlias = Literal[
    "not_ready",
    "bad_build",
    "unknown_architecture",
    "bad_file",
    "no_file",
    "bad_settings",
    "refused_here",
    "changed_settings",
    "wrong_device",
    "out_of_memory",
    "port_taken",
    "timeout",
    "stopped",
    "cancelled",
    "exited",
]
"""Why a load failed: `bad_build` does not run on this machine, `refused_here` are settings that another device may
take, `no_file` could not be opened, `stopped` stood still by a signal, `exited` ended for a reason of none of these."""

RefusedBy: TypeAlias = Literal["", "place", "program"]
"""Whether a cell would be refused again: not known to be, on this place, or by this program wherever it runs."""

_OUTCOMES: Final[dict[LoadFailure, Outcome]] = {
    "not_ready": Outcome.SERVER_START,
    "bad_build": Outcome.SERVER_START,
    "unknown_architecture": Outcome.UNSUPPORTED_MODEL,
    "bad_file": Outcome.UNREADABLE_MODEL,
    "no_file": Outcome.UNREADABLE_MODEL,
    "bad_settings": Outcome.REFUSED_SETTINGS,
    "refused_here": Outcome.REFUSED_SETTINGS,
    "changed_settings": Outcome.CHANGED_SETTINGS,
    "wrong_device": Outcome.WRONG_DEVICE,
    "out_of_memory": Outcome.OUT_OF_MEMORY,
    "port_taken": Outcome.PORT_TAKEN,
    "timeout": Outcome.LOAD_TIMEOUT,
    "stopped": Outcome.LOAD_STALLED,
    "cancelled": Outcome.CANCELLED,
    "exited": Outcome.LOAD_CRASH,
}
# Memory may be free, a port or a disk at leisure another time. A file was verified just before it was loaded: what a
# program cannot read in it, it will not read at a second look.
_REFUSALS: Final[dict[LoadFailure, RefusedBy]] = {
    "unknown_architecture": "program",
    "bad_file": "program",
    "bad_settings": "program",
    "bad_build": "place",
    "refused_here": "place",
    "changed_settings": "place",
}


class LoadError(EngineError):
    """A model did not load. `reason` is what the log tells, `log_tail` its last lines."""

    def __init__(self, message: str, *, hint: str = "", reason: LoadFailure = "not_ready", log_tail: str = "") -> None:
        super().__init__(message, hint)
        self.reason: LoadFailure = reason
        self.outcome = _OUTCOMES[reason]
        self.log_tail = log_tail

    @property
    def refused_by(self) -> RefusedBy:
        """Who would refuse the same model under the same settings again."""
        return _REFUSALS.get(self.reason, "")


class Served(Protocol):
    """A model that is loaded and answers. Thread-safe; `stop` may be called from any thread, any number of times."""

    base_url: str | None
    """http://127.0.0.1:PORT of a server of ours, the endpoint of a remote one, None if it is not reached by HTTP."""
    pid: int | None
    """The serving process, whose tree holds the model's memory; None for a remote endpoint."""
    load_s: float
    """Seconds from spawning the process to its first "ready"."""
    engine_build: str
    buffers: BufferSizes | None
    log_path: Path | None
    chat_template: str | None
    """The template that it makes prompts with, as it says: text of the model or of the spec. None: it does not say."""
    supports_tools: bool | None
    """Whether that template has a place for tools; None: it does not say."""
    warm_up: WarmUp | None
    told: ServedSettings | None
    """What it says that it serves with; None for an engine that says nothing of the kind."""
    device_busy: Callable[[], bool | None] | None
    """Set by whoever knows the device: whether it computes, None if that cannot be told. For a GPU only."""

    @property
    def context(self) -> int | None:
        """Tokens of context for each slot, as the server says it has; None: it does not say."""
        ...

    def chat(
        self,
        request: ChatRequest,
        *,
        cancelled: threading.Event | None = None,
        on_event: OnEvent | None = None,
    ) -> ChatResult:
        """Answer one request, streamed. Raises a `ChatError` if it does not end as it should."""
        ...

    def is_alive(self) -> bool:
        """Whether the server still runs (for a remote endpoint: whether it was not stopped)."""
        ...

    def kill(self) -> None:
        """End it at once, without asking first: for one that hangs. `stop` is still to be called."""
        ...

    def stop(self) -> None:
        """End it: afterwards no process of its tree is left. Does nothing the second time."""
        ...


class Engine(Protocol):
    """One kind of engine on this node that loads files."""

    kind: str

    def available(self) -> EngineInfo | EngineUnavailable:
        """Whether this node has it. Starts the program at most to ask its version and devices."""
        ...

    def load(
        self,
        model: Path,
        settings: EngineSettings,
        *,
        log_path: Path,
        device: str | None = None,
        cancelled: threading.Event | None = None,
        on_spawn: OnSpawn | None = None,
        held: tuple[int, ...] = (),
        visible: tuple[str, ...] = (),
        tensor_split: tuple[float, ...] | None = None,
    ) -> Served:
        """Start it with `model` (the first file of a split set) and wait until it answers.

        `device` is one of `EngineInfo.devices`, several joined by commas, "CPU" for none of them, or None for the
        engine's choice. `on_spawn` is told the serving process's id as soon as there is one, so that its memory can
        be sampled while it loads; a start that had to be repeated tells it again. `held` are descriptors that have to
        stay open until the server is gone: the devices' locks. `visible` are variables (NAME=value) under which the
        engine calls the device so, and which hide other cards from it. `tensor_split` is the share of the model that
        each of several devices gets.

        Raises `EngineUnavailableError` or `LoadError`; then no process is left behind.
        """
        ...


class EndpointEngine(Protocol):
    """One kind of engine that asks a server which is not ours; its settings are `EndpointSettings`."""

    kind: str

    def available(self, settings: EngineSettings) -> EngineInfo | EngineUnavailable:
        """Whether this node can use it with these settings: it has the key. Asks nobody for an answer."""
        ...

    def connect(
        self,
        model: EndpointModel,
        settings: EngineSettings,
        *,
        log_path: Path,
        cancelled: threading.Event | None = None,
    ) -> Served:
        """Make sure that the endpoint can be asked for `model`, within `settings.load_timeout_s`.

        It generates nothing: that would count against the endpoint's limits. Secrets are found here, on the node, and
        are neither in `settings` nor in `log_path`, a file for whatever is worth reading when something failed.

        Raises `EngineUnavailableError` or `LoadError`.
        """
        ...


__all__ = [
    "BufferSizes",
    "EndpointEngine",
    "Engine",
    "EngineError",
    "EngineInfo",
    "EngineUnavailable",
    "EngineUnavailableError",
    "LoadError",
    "LoadFailure",
    "OnSpawn",
    "RefusedBy",
    "Served",
    "WarmUp",
]
