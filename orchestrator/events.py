"""What the sweep's state machine is told, and what it tells the driver to do: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.placement import Slot
    from quants.fit.verdict import Verdict
    from runners.engines.base import RefusedBy

# --- events: what happened ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node can be leased.

    `verdicts[cell_id][place_id]` is absent where the cell's engine does not serve it on that place; `classes` has the
    hardware class for the same keys. `unserved[cell_id]` says why the node cannot serve a cell at all, `lacking` which
    needs of exams it does not have, each with a sentence. `programs[cell_id]` names what serves the cell there: two
    of one name take the same files and settings.
    """

    node_id: str
    slots: tuple[Slot, ...]
    verdicts: Mapping[str, Mapping[str, Verdict]]
    classes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unserved: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSilent:
    """A node does not answer and may be alive: nothing new goes there, nothing there is given up yet."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NodeBack:
    """A silent node answers again."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node, or its agent, is gone, and everything that ran on it."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeaseReady:
    """The model of a lease is loaded; loading took `load_s` seconds."""

    lease_id: str
    load_s: float


@dataclass(frozen=True, slots=True)
class AttemptOffered:
    """A node has a complete row. It may come from a spool that outlived an earlier driver: then `lease_id` is None.

    `hostname` and `place_id` say where it was made, `reason` what failed where it is a failure, `share` which part of
    full marks it has, None without a score.
    """

    job_id: str
    attempt: int
    outcome: str
    outcome_class: str
    duration_s: float
    hardware_class: str
    lease_id: str | None = None
    hostname: str = ""
    place_id: str = ""
    reason: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """A lease is over and its server gone. `reason` is a sentence for all but `done`.

    `refused_by` says who would refuse the cell again: it gets no other try on this place, or on any place where the
    same program serves it, and the place no blame.
    """

    lease_id: str
    how: Literal["done", "cancelled", "failed"]
    outcome: str = ""
    reason: str = ""
    refused_by: RefusedBy = ""


@dataclass(frozen=True, slots=True)
class QuarantineOver:
    """The time of a `Quarantine` has passed: the slot may be tried again."""

    hostname: str
    place_id: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A person, or a disk that is full, wants the sweep to end; what is finished is kept."""


Event = (
    NodeJoined
    | NodeSilent
    | NodeBack
    | NodeLost
    | LeaseReady
    | AttemptOffered
    | LeaseEnded
    | QuarantineOver
    | StopRequested
)

# --- instructions: what the driver is to do -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartLease:
    """Load the cell on the device; jobs follow."""

    lease_id: str
    cell_id: str
    node_id: str
    place_id: str


@dataclass(frozen=True, slots=True)
class AssignJob:
    """Hand one more job to a lease: it runs after those the lease has."""

    lease_id: str
    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CloseLease:
    """The lease gets no more jobs: it ends when those it has are done."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class CancelLease:
    """End the lease now; what it is doing is dropped."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the row that was offered. `final`: the job is finished with it."""

    job_id: str
    attempt: int
    final: bool


@dataclass(frozen=True, slots=True)
class CommitUnrun:
    """Write a final row for a job that could not be run; the place is where that was tried last."""

    job_id: str
    attempt: int
    outcome: str
    reason: str
    hostname: str
    place_id: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The row that was offered is in the store already: the node need not keep it."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Blame:
    """Remember this failure over a restart of the driver: it has no row.

    Attributes:
        kind: `cell`: the cell could not be served at the place; `cell_loss`, `job_loss`: the node was lost, and this
            ran there alone; `suspect`: the node was lost, and this job was one of several.
        subject: the cell's or the job's id.
        hostname: of the place.
        place_id: of the place.
        reason: a sentence.
        outcome: how it ended, for `cell`.
        refused_by: who would refuse it again, for `cell`.
        program: what served the cell there, for `cell`.
    """

    kind: Literal["cell", "cell_loss", "job_loss", "suspect"]
    subject: str
    hostname: str
    place_id: str
    reason: str
    outcome: str = ""
    refused_by: RefusedBy = ""
    program: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Nothing is started on the slot for `seconds`; then `QuarantineOver` is due. `reason` is its last failure."""

    hostname: str
    place_id: str
    seconds: float
    reason: str


Instruction = StartLease | AssignJob | CloseLease | CancelLease | Commit | CommitUnrun | Drop | Blame | Quarantine
