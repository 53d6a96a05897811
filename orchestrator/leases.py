"""Which jobs a lease holds: handing them out two at a time, taking them back, closing what has nothing left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import blame
from orchestrator import events as ev
from orchestrator.records import Lease, Where

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.records import Cell, Job, Station
    from orchestrator.schedule import Schedule
    from orchestrator.seeding import Change, Seeding

PREFETCH = 2
"""Jobs that a lease holds: the one that runs, and the next, so that no server waits for the driver."""


class LeaseBook:
    """The leases that are alive. Of the suspects of a lost node, one at a time runs on any node (`suspects`).

    `held` counts the jobs that wait to be asked for.
    """

    def __init__(
        self,
        cells: Mapping[str, Cell],
        jobs: Mapping[str, Job],
        schedule: Schedule,
        *,
        retries: int,
        seeding: Seeding | None = None,
    ) -> None:
        self._cells, self._jobs, self._schedule, self._retries = cells, jobs, schedule, retries
        self._seeding = seeding
        self.held = 0
        self.leases: dict[str, Lease] = {}
        self.suspects: dict[str, str] = {}
        self.last_number = 0

    def start(self, cell: Cell, station: Station, out: list[ev.Instruction]) -> None:
        """Leases a free slot to a cell."""
        self.last_number += 1
        lease = Lease(f"L{self.last_number}", cell.cell_id, station)
        self.leases[lease.lease_id] = lease
        cell.leases[lease.lease_id] = lease
        station.lease = lease
        self._schedule.served[cell.cell_id] = None
        self._schedule.insert(cell)  # served now: out of every queue
        out.append(ev.StartLease(lease.lease_id, cell.cell_id, *station.slot_id))
        self.feed(lease, out)

    def drop(self, lease: Lease) -> None:
        """Forgets a lease that is over, and frees its slot; its jobs are still to be put back."""
        cell = self._cells[lease.cell_id]
        lease.station.lease = None
        del self.leases[lease.lease_id]
        cell.leases.pop(lease.lease_id, None)
        if not cell.leases:
            self._schedule.served.pop(cell.cell_id, None)
        node_id = lease.station.node_id
        if self.suspects.get(node_id) in lease.jobs:
            del self.suspects[node_id]

    def put_back(self, lease: Lease, *, last: bool = False) -> None:
        """Puts the jobs of a lease that is over back in front of those that wait, or behind them."""
        for job_id in lease.jobs if last else reversed(lease.jobs):
            job = self._jobs[job_id]
            job.lease_id = None
            if job.where is Where.LEASED:
                self.wait(job, last=last)
        lease.jobs.clear()

    def take(self, lease: Lease, job: Job) -> bool:
        """Takes a job whose row is here off its lease; whether it was the suspect that ran on that node."""
        if job.job_id not in lease.jobs:
            return False
        lease.jobs.remove(job.job_id)
        job.lease_id = None
        if job.where is Where.LEASED:
            self.wait(job)
        node_id = lease.station.node_id
        if self.suspects.get(node_id) != job.job_id:
            return False
        del self.suspects[node_id]
        return True

    def wait(self, job: Job, *, last: bool = False) -> None:
        """Has a job wait in front of those that never failed, or behind them; out of sight if it is not asked for."""
        if not job.asked_for:
            job.where = Where.HELD
            self.held += 1
            return
        job.bundle.open += 1
        if job.failures is not None:
            job.where = Where.RETRY
            job.bundle.retry[job.job_id] = None
            return
        job.where = Where.WAITING
        if last:
            job.bundle.waiting.append(job.job_id)
        else:
            job.bundle.waiting.appendleft(job.job_id)

    def follow(self, change: Change, out: list[ev.Instruction]) -> list[Cell]:
        """Takes in which jobs are asked for now, and which are not any more; the cells that this is about."""
        for job_id in change.fewer:
            self.hold(self._jobs[job_id])
        for job_id in change.more:
            self._ask_for(self._jobs[job_id])
        ids = dict.fromkeys(self._jobs[job_id].cell_id for job_id in (*change.fewer, *change.more))
        found = [self._cells[cell_id] for cell_id in ids]
        for cell in found:
            for lease in list(cell.leases.values()):
                self.feed(lease, out)
        self._schedule.changed()
        return found

    def hold(self, job: Job) -> None:
        """Takes in that a job is not asked for, or not any more; one that is leased runs on."""
        job.asked_for = False
        if job.where in (Where.WAITING, Where.RETRY):
            job.bundle.open -= 1
            job.bundle.retry.pop(job.job_id, None)
            job.where = Where.HELD
            self.held += 1

    def _ask_for(self, job: Job) -> None:
        job.asked_for = True
        if job.where is Where.HELD:
            self.held -= 1
            self.wait(job, last=True)

    def offer_share(self, cell: Cell, out: list[ev.Instruction]) -> None:
        """Gives an idle slot of the same class to a cell that is being served, if that pays."""
        if cell.open <= len(cell.leases):
            return
        for station in self._schedule.stations.values():
            if station.occupant is None and station.usable and self._schedule.is_worth_sharing(cell, station):
                self.start(cell, station, out)

    def check_health(self, station: Station, out: list[ev.Instruction]) -> None:
        """Puts a place into quarantine where that is due; its leases end."""
        if not blame.should_quarantine(station.health):
            return
        seconds = blame.quarantine(station.health)
        out.append(ev.Quarantine(*station.place, seconds, station.health.reason))
        for other in self._schedule.stations.values():
            if other.health is station.health:
                self._schedule.disperse(other)
                if other.lease is not None:
                    self.cancel(other.lease, out)

    def cancel(self, lease: Lease, out: list[ev.Instruction]) -> None:
        """Ends a lease now, once."""
        if not lease.closing:
            lease.closing = True
            out.append(ev.CancelLease(lease.lease_id))

    def feed(self, lease: Lease, out: list[ev.Instruction]) -> None:
        """Keeps a lease supplied; closes those of a cell that has nothing left for them."""
        if lease.closing or not lease.station.usable:
            return
        cell = self._cells[lease.cell_id]
        held_back = False
        while len(lease.jobs) < PREFETCH and cell.open_on(lease.station):
            job, held_back = self._next_job(cell, lease)
            if job is None:
                break
            job.where, job.lease_id = Where.LEASED, lease.lease_id
            job.attempts += 1
            job.bundle.open -= 1
            lease.jobs.append(job.job_id)
            if blame.is_suspect(job):
                self.suspects[lease.station.node_id] = job.job_id
            out.append(ev.AssignJob(lease.lease_id, job.job_id, job.attempts))
        if cell.open_on(lease.station) and (held_back or len(lease.jobs) == PREFETCH):
            return
        # The rows of the last jobs that are asked for may bring more, for which the model should not be loaded anew.
        more = self._seeding is not None and self._seeding.may_ask_for_more(cell.cell_id)
        if more and lease.jobs:
            return
        self._close(lease, out)
        if not cell.open and not more:
            for other in cell.leases.values():
                self._close(other, out)

    def _close(self, lease: Lease, out: list[ev.Instruction]) -> None:
        if not lease.closing:
            lease.closing = True
            out.append(ev.CloseLease(lease.lease_id))

    def _next_job(self, cell: Cell, lease: Lease) -> tuple[Job | None, bool]:
        """The next job for a lease, out of those that wait; else whether one is held back as a second suspect."""
        bundles = self._schedule.bundles_for(cell, lease.station)
        for bundle in bundles:
            while bundle.waiting:
                job = self._jobs[bundle.waiting.popleft()]
                if job.where is Where.WAITING:
                    return job, False
        held_back = False
        for bundle in bundles:
            for job_id in bundle.retry:
                job = self._jobs[job_id]
                if blame.is_suspect(job) and lease.station.node_id in self.suspects:
                    held_back = True
                elif blame.may_run(job, cell, lease.station, self._retries):
                    del bundle.retry[job_id]
                    return job, False
        return None, held_back
