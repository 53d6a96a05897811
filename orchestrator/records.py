"""What the state machine remembers of jobs, cells, leases and slots; plain records, changed by `SweepState` alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.placement import Slot, SlotId
    from quants.fit.verdict import Verdict

Place = tuple[str, str]
"""Host name and place id (`orchestrator.placement.whose_doing`): what stays the same when a node, or the whole cluster,
is started again."""


class Where(IntEnum):
    """Where a job is."""

    WAITING = 0  # it never failed
    RETRY = 1  # it waits, and has failed or is suspected before
    LEASED = 2
    DONE = 3
    HELD = 4  # it waits to be asked for, see orchestrator.seeding


@dataclass(slots=True, eq=False)
class Failures:
    """What went wrong with a job so far.

    Attributes:
        count: attempts that failed and are the job's own, as far as is known.
        vouched: those of them on slots on which the job before had gone well: the slot is hardly to blame.
        losses: those of them in which the whole node was lost.
        suspected: how often a node was lost while this job was one of several that ran there.
        places: where it failed, and how often.
    """

    count: int = 0
    vouched: int = 0
    losses: int = 0
    suspected: int = 0
    places: dict[Place, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Job:
    """One job. `kept` has bit n set where attempt n is in the store; `attempts` is the highest number given out.

    `bundle` are the jobs of its cell that need the same of a node. `asked_for` says whether it is to be run.
    """

    job_id: str
    cell_id: str
    bundle: Bundle
    where: Where = Where.WAITING
    attempts: int = 0
    kept: int = 0
    failed_final: bool = False
    lease_id: str | None = None
    failures: Failures | None = None
    asked_for: bool = True

    def record(self) -> Failures:
        """Its failures, begun now if it had none."""
        if self.failures is None:
            self.failures = Failures()
        return self.failures


@dataclass(slots=True, eq=False)
class Lease:
    """A cell on a slot. `failed_jobs` are those that failed in it since the last one that went well."""

    lease_id: str
    cell_id: str
    station: Station
    jobs: list[str] = field(default_factory=list)
    failed_jobs: set[str] = field(default_factory=set)
    ready: bool = False
    closing: bool = False


@dataclass(slots=True, eq=False)
class Bundle:
    """The jobs of a cell that need the same of a node: a slot can run all of them, or none.

    Attributes:
        needs: what a node must have for them.
        waiting: jobs that never failed, in order; may hold ids that are no longer `WAITING`, which are passed over.
        retry: jobs that wait and failed before, in order.
        open: how many jobs wait, in both.
    """

    needs: frozenset[str]
    waiting: deque[str] = field(default_factory=deque)
    retry: dict[str, None] = field(default_factory=dict)
    open: int = 0

    def runs_on(self, station: Station) -> bool:
        """Whether the slot's node has what they need."""
        return station.lacking.keys().isdisjoint(self.needs)


@dataclass(slots=True, eq=False)
class Cell:
    """One cell.

    Attributes:
        bundles: its jobs, by what they need of a node.
        verdicts: by slot, for every slot where its engine is.
        classes: the hardware class by slot, where it is another than the slot's own: the backend is part of it.
        unserved: by node, why it cannot be served there at all.
        able: the slots that it fits.
        tries: failed loads by place since a job of it went well there; a `retries + 1`-th ends the tries there.
        reasons: outcome and sentence of the last failed load by place.
        programs: by node, what serves the cell there.
        refused: places with the program whose engine refuses the cell there, and would again.
        refused_programs: programs that refuse the cell wherever they run, with the sentence of the first refusal.
        losses: nodes that were lost while they loaded it and nothing else.
        queued_on: the slot in whose queue it stands, None outside of any.
        queued_s: what it was estimated to take there.
    """

    cell_id: str
    file_bytes: int
    bundles: dict[frozenset[str], Bundle] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    verdicts: dict[SlotId, Verdict] = field(default_factory=dict)
    classes: dict[SlotId, str] = field(default_factory=dict)
    unserved: dict[str, str] = field(default_factory=dict)
    able: dict[SlotId, Station] = field(default_factory=dict)
    tries: dict[Place, int] = field(default_factory=dict)
    reasons: dict[Place, tuple[str, str]] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    refused: set[tuple[Place, str]] = field(default_factory=set)
    refused_programs: dict[str, str] = field(default_factory=dict)
    losses: int = 0
    hardware_class: str | None = None
    job_seconds: float = 0.0
    jobs_timed: int = 0
    load_s: float | None = None
    queued_on: SlotId | None = None
    queued_s: float = 0.0

    @property
    def open(self) -> int:
        """How many jobs wait."""
        return sum(bundle.open for bundle in self.bundles.values())

    def bundle(self, needs: frozenset[str]) -> Bundle:
        """The jobs that need this of a node, begun now if there was none."""
        return self.bundles.setdefault(needs, Bundle(needs))

    def bundles_on(self, station: Station) -> Iterable[Bundle]:
        """Its bundles with open jobs that the slot can run."""
        return (bundle for bundle in self.bundles.values() if bundle.open and bundle.runs_on(station))

    def open_on(self, station: Station) -> int:
        """How many of the jobs that wait the slot can run."""
        count = 0
        for bundle in self.bundles.values():  # `bundles_on`, without generators: asked a dozen times an event
            if bundle.open and bundle.runs_on(station):
                count += bundle.open
        return count

    def program_on(self, station: Station) -> str:
        """What serves it there; where its name is not known, no other node has the same."""
        return self.programs.get(station.node_id) or station.slot.hostname

    def class_on(self, station: Station) -> str:
        """The hardware class of its timings on that slot."""
        return self.classes.get(station.slot_id, station.slot.hardware_class)

    @property
    def job_s(self) -> float | None:
        """Mean seconds a job, None before one was timed."""
        return self.job_seconds / self.jobs_timed if self.jobs_timed else None


@dataclass(slots=True, eq=False)
class Health:
    """How a place did lately.

    Attributes:
        ok: whether the last job that ended there went well.
        failed_jobs: jobs that failed there since one went well, with their cells.
        failed_cells: cells that could not be served there since a job went well.
        level: how often it was quarantined in a row; each job that goes well halves it.
        quarantined: whether nothing is started there for now.
        reason: the sentence of its last failure.
    """

    ok: bool = False
    failed_jobs: dict[str, str] = field(default_factory=dict)
    failed_cells: set[str] = field(default_factory=set)
    level: int = 0
    quarantined: bool = False
    reason: str = ""


@dataclass(slots=True, eq=False)
class Station:
    """A slot that is there, what it serves and which cells stand in line for it (`queued_s`: their estimated time).

    `lacking` are the needs of exams that its node does not have, each with a sentence. `rivals` are the slots that
    cannot be used beside it: those of its node that have a device in common with it, or those of other nodes that are
    the same place in line at an endpoint. While one of them has a lease, this one cannot have any.
    """

    slot: Slot
    place: Place
    health: Health
    lease: Lease | None = None
    queue: deque[str] = field(default_factory=deque)
    queued_s: float = 0.0
    silent: bool = False
    lacking: Mapping[str, str] = field(default_factory=dict)
    rivals: tuple[Station, ...] = ()

    @property
    def slot_id(self) -> SlotId:
        """Node id and place id."""
        return self.slot.slot_id

    @property
    def node_id(self) -> str:
        """The node it belongs to."""
        return self.slot.slot_id[0]

    @property
    def occupant(self) -> Lease | None:
        """The lease that has its devices, or one of them, or its place in line; None if they are free."""
        if self.lease is not None or not self.rivals:
            return self.lease
        return next((rival.lease for rival in self.rivals if rival.lease is not None), None)

    @property
    def usable(self) -> bool:
        """Whether something may be started there now."""
        return not self.silent and not self.health.quarantined
