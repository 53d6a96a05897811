"""The state machine of a sweep: events in, instructions out, no I/O, no clock, no Ray.

Invariants, checked by `tests/orchestrator/test_state.py` over random histories:

- a job has one final row: once it is `done`, no second final `Commit` for it is ever issued;
- an attempt number is given out once, also across restarts;
- a slot has one lease; a lease is for one cell; a job is assigned to one lease at a time;
- when no more events can come, every job is done or its cell is in `unplaced()`, with a reason a slot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator import events as ev
from orchestrator.placement import Need, Slot, SlotId, choose, job_estimate_s, why_not, worth_splitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from quants.fit import Verdict

PREFETCH = 2
"""Jobs that a lease holds: the one that runs, and the next, so that no server waits for the driver."""
INFRASTRUCTURE = "infrastructure"


@dataclass(slots=True)
class _Job:
    job_id: str
    cell_id: str
    attempts: int = 0  # the highest attempt number given out
    failures: int = 0  # attempts that ended with the infrastructure's failure
    lease_id: str | None = None
    done: bool = False


@dataclass(slots=True)
class _Cell:
    cell_id: str
    file_bytes: int
    waiting: deque[str] = field(default_factory=deque)
    load_failures: int = 0
    failed_slots: set[SlotId] = field(default_factory=set)
    hardware_class: str | None = None
    job_seconds: float = 0.0
    jobs_timed: int = 0
    load_s: float | None = None

    @property
    def job_s(self) -> float | None:
        return self.job_seconds / self.jobs_timed if self.jobs_timed else None


@dataclass(slots=True)
class _Lease:
    lease_id: str
    cell_id: str
    slot_id: SlotId
    jobs: list[str] = field(default_factory=list)
    ready: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True)
class CommittedAttempt:
    """A row that is in the store: what the state needs to know of it."""

    job_id: str
    attempt: int
    final: bool
    used_a_try: bool


class SweepState:
    """All that a driver knows. `apply` is the only way to change it."""

    def __init__(self, cells: Iterable[tuple[str, int]], jobs: Iterable[tuple[str, str]], *, retries: int) -> None:
        """`cells` are (cell_id, file_bytes), `jobs` are (job_id, cell_id), both in the order of the plan."""
        self._retries = retries
        self._cells = {cell_id: _Cell(cell_id, file_bytes) for cell_id, file_bytes in cells}
        self._jobs = {job_id: _Job(job_id, cell_id) for job_id, cell_id in jobs}
        self._slots: dict[SlotId, Slot] = {}
        self._verdicts: dict[str, dict[SlotId, Verdict]] = {cell_id: {} for cell_id in self._cells}
        self._silent: set[str] = set()
        self._leases: dict[str, _Lease] = {}
        self._lease_number = 0
        self._stopping = False
        for job in self._jobs.values():
            self._cells[job.cell_id].waiting.append(job.job_id)

    # --- restoring --------------------------------------------------------------------------------------------

    def restore(self, committed: Sequence[CommittedAttempt], journal: Iterable[Mapping[str, object]]) -> None:
        """Folds what an earlier driver left: the store says what is done, the journal which numbers were given out."""
        for row in committed:
            if (job := self._jobs.get(row.job_id)) is None:
                continue
            job.attempts = max(job.attempts, row.attempt)
            job.failures += row.used_a_try
            if row.final:
                self._finish(job)
        for line in journal:
            lease = line.get("lease_id")
            if isinstance(lease, str) and lease.startswith("L"):
                self._lease_number = max(self._lease_number, int(lease[1:]))
            assigned = self._jobs.get(str(line.get("job_id")))
            if assigned is not None and line["event"] in {"assigned", "failed_unrun"}:
                attempt = line.get("attempt")
                assigned.attempts = max(assigned.attempts, attempt if isinstance(attempt, int) else 0)

    # --- questions --------------------------------------------------------------------------------------------

    @property
    def jobs_total(self) -> int:
        """How many jobs the plan has."""
        return len(self._jobs)

    @property
    def jobs_done(self) -> int:
        """How many have their final row."""
        return sum(job.done for job in self._jobs.values())

    @property
    def complete(self) -> bool:
        """Whether every job has its final row."""
        return all(job.done for job in self._jobs.values())

    @property
    def idle(self) -> bool:
        """Whether no lease is alive: nothing more happens unless a node joins."""
        return not self._leases

    @property
    def stopping(self) -> bool:
        """Whether the sweep was asked to end."""
        return self._stopping

    def leases(self) -> dict[str, tuple[str, SlotId]]:
        """The leases that are alive: lease id to cell id and slot."""
        return {lease.lease_id: (lease.cell_id, lease.slot_id) for lease in self._leases.values()}

    def unplaced(self) -> dict[str, list[str]]:
        """The cells that wait and that no known slot can serve, with a sentence for each slot."""
        found = {}
        for cell in self._cells.values():
            if cell.waiting and not any(lease.cell_id == cell.cell_id for lease in self._leases.values()):
                need = self._need(cell)
                reasons = [why_not(need, slot) for slot in self._slots.values()]
                if all(reasons):
                    found[cell.cell_id] = [reason for reason in reasons if reason]
        return found

    # --- events -----------------------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> list[ev.Instruction]:
        """Takes in what happened; returns what the driver is to do now, in order."""
        out: list[ev.Instruction] = []
        match event:
            case ev.NodeJoined():
                self._join(event)
            case ev.NodeSilent():
                self._silent.add(event.node_id)
            case ev.NodeBack():
                self._silent.discard(event.node_id)
            case ev.NodeLost():
                self._lose(event, out)
            case ev.LeaseReady():
                if (lease := self._leases.get(event.lease_id)) is not None:
                    lease.ready = True
                    self._cells[lease.cell_id].load_s = event.load_s
            case ev.AttemptOffered():
                self._offer(event, out)
            case ev.LeaseEnded():
                self._end(event, out)
            case ev.StopRequested():
                self._stopping = True
                out += [ev.CancelLease(lease_id) for lease_id in self._leases]
        if not self._stopping:
            self._feed(out)
            self._schedule(out)
        return out

    def _join(self, event: ev.NodeJoined) -> None:
        for slot in event.slots:
            self._slots[slot.slot_id] = slot
        for cell_id, by_device in event.verdicts.items():
            for device_id, verdict in by_device.items():
                self._verdicts[cell_id][event.node_id, device_id] = verdict

    def _lose(self, event: ev.NodeLost, out: list[ev.Instruction]) -> None:
        self._silent.discard(event.node_id)
        for slot_id in [slot_id for slot_id in self._slots if slot_id[0] == event.node_id]:
            del self._slots[slot_id]
            for verdicts in self._verdicts.values():
                verdicts.pop(slot_id, None)
        for lease in [lease for lease in self._leases.values() if lease.slot_id[0] == event.node_id]:
            del self._leases[lease.lease_id]
            # Only the job that ran is suspected of the loss. It gets no row while it may be tried again: its
            # finished row may lie in the node's spool, and is taken when the node comes back.
            running = self._jobs[lease.jobs[0]] if lease.ready and lease.jobs else None
            self._release(lease)
            if running is not None and not running.done:
                running.failures += 1
                if running.failures > self._retries:
                    reason = f"its node was lost {running.failures} times: {event.reason}"
                    self._give_up(running, "node_lost", reason, lease.slot_id, out)

    def _offer(self, event: ev.AttemptOffered, out: list[ev.Instruction]) -> None:
        job = self._jobs[event.job_id]
        cell = self._cells[job.cell_id]
        job.attempts = max(job.attempts, event.attempt)
        lease = self._leases.get(event.lease_id or "")
        if lease is not None and job.job_id in lease.jobs:
            lease.jobs.remove(job.job_id)
            job.lease_id = None
        if event.outcome_class != INFRASTRUCTURE:
            cell.hardware_class = cell.hardware_class or event.hardware_class
            cell.job_seconds += event.duration_s
            cell.jobs_timed += 1
        if job.done:
            out.append(ev.Commit(event.job_id, event.attempt, final=False))
            return
        job.failures += event.outcome_class == INFRASTRUCTURE
        if event.outcome_class != INFRASTRUCTURE or job.failures > self._retries:
            out.append(ev.Commit(event.job_id, event.attempt, final=True))
            self._finish(job)
            return
        out.append(ev.Commit(event.job_id, event.attempt, final=False))
        if job.lease_id is None and job.job_id not in cell.waiting:
            cell.waiting.append(job.job_id)

    def _end(self, event: ev.LeaseEnded, out: list[ev.Instruction]) -> None:
        lease = self._leases.pop(event.lease_id, None)
        if lease is None:
            return
        self._release(lease)
        if event.how != "failed":
            return
        cell = self._cells[lease.cell_id]
        cell.load_failures += 1
        cell.failed_slots.add(lease.slot_id)
        if cell.load_failures > self._retries:
            for job_id in list(cell.waiting):
                self._give_up(self._jobs[job_id], event.outcome, event.reason, lease.slot_id, out)

    # --- what follows -----------------------------------------------------------------------------------------

    def _finish(self, job: _Job) -> None:
        job.done = True
        cell = self._cells[job.cell_id]
        if job.job_id in cell.waiting:
            cell.waiting.remove(job.job_id)

    def _give_up(self, job: _Job, outcome: str, reason: str, slot_id: SlotId, out: list[ev.Instruction]) -> None:
        job.attempts += 1
        out.append(ev.CommitUnrun(job.job_id, job.attempts, outcome, reason, *slot_id))
        self._finish(job)

    def _release(self, lease: _Lease) -> None:
        """Puts the jobs of a lease that is over back in front of those that wait."""
        cell = self._cells[lease.cell_id]
        for job_id in reversed(lease.jobs):
            job = self._jobs[job_id]
            job.lease_id = None
            if not job.done:
                cell.waiting.appendleft(job_id)
        lease.jobs.clear()

    def _feed(self, out: list[ev.Instruction]) -> None:
        """Keeps every lease supplied; closes those whose cell has nothing left."""
        for lease in self._leases.values():
            if lease.closing or lease.slot_id[0] in self._silent:
                continue
            waiting = self._cells[lease.cell_id].waiting
            while waiting and len(lease.jobs) < PREFETCH:
                job = self._jobs[waiting.popleft()]
                job.attempts += 1
                job.lease_id = lease.lease_id
                lease.jobs.append(job.job_id)
                out.append(ev.AssignJob(lease.lease_id, job.job_id, job.attempts))
            if not waiting:
                lease.closing = True
                out.append(ev.CloseLease(lease.lease_id))

    def _need(self, cell: _Cell) -> Need:
        verdicts = self._verdicts[cell.cell_id]
        # A device on which the cell would not load is tried again only if there is no other.
        fresh = {slot_id: verdict for slot_id, verdict in verdicts.items() if slot_id not in cell.failed_slots}
        return Need(
            cell.cell_id,
            jobs=len(cell.waiting),
            file_bytes=cell.file_bytes,
            verdicts=fresh or verdicts,
            hardware_class=cell.hardware_class,
            job_s=cell.job_s,
        )

    def _slots_now(self) -> list[Slot]:
        """The slots of nodes that answer, each with the time until it is free."""
        busy = {}
        for lease in self._leases.values():
            cell = self._cells[lease.cell_id]
            sharing = sum(other.cell_id == lease.cell_id for other in self._leases.values())
            jobs = len(lease.jobs) + len(cell.waiting) / sharing
            slot = self._slots[lease.slot_id]
            busy[lease.slot_id] = max(jobs * job_estimate_s(cell.job_s, cell.file_bytes, slot), 1e-6)
        return [
            Slot(s.slot_id, s.hostname, s.hardware_class, s.bandwidth_bytes_per_s, busy.get(s.slot_id, 0.0))
            for s in self._slots.values()
            if s.slot_id[0] not in self._silent
        ]

    def _schedule(self, out: list[ev.Instruction]) -> None:
        served = {lease.cell_id for lease in self._leases.values()}
        needs = [self._need(cell) for cell in self._cells.values() if cell.waiting and cell.cell_id not in served]
        slots = self._slots_now()
        for assignment in choose(needs, slots):
            self._start(assignment.cell_id, assignment.slot_id, out)
        self._split([slot for slot in self._slots_now() if slot.busy_s == 0], out)
        self._feed(out)

    def _split(self, free: list[Slot], out: list[ev.Instruction]) -> None:
        """Gives idle slots to cells that are being served, where a second server of the same class pays."""
        for slot in free:
            for cell in self._cells.values():
                leases = [lease for lease in self._leases.values() if lease.cell_id == cell.cell_id]
                if (
                    leases
                    and slot.hardware_class == cell.hardware_class
                    and why_not(self._need(cell), slot) is None
                    and worth_splitting(
                        waiting=len(cell.waiting), leases=len(leases), job_s=cell.job_s, load_s=cell.load_s
                    )
                ):
                    self._start(cell.cell_id, slot.slot_id, out)
                    break

    def _start(self, cell_id: str, slot_id: SlotId, out: list[ev.Instruction]) -> None:
        self._lease_number += 1
        lease = _Lease(f"L{self._lease_number}", cell_id, slot_id)
        self._leases[lease.lease_id] = lease
        out.append(ev.StartLease(lease.lease_id, cell_id, *slot_id))
