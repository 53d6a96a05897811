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

PREFETCH = 2
"""Jobs that a lease holds: the one that runs, and the next, so that no server waits for the driver."""


class LeaseBook:
    """The leases that are alive. Of the suspects of a lost node, one at a time runs on any node (`suspects`)."""

    def __init__(self, cells: Mapping[str, Cell], jobs: Mapping[str, Job], schedule: Schedule, *, retries: int) -> None:
        self._cells, self._jobs, self._schedule, self._retries = cells, jobs, schedule, retries
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
                self._wait(job, last=last)
        lease.jobs.clear()

    def take(self, lease: Lease, job: Job) -> bool:
        """Takes a job whose row is here off its lease; whether it was the suspect that ran on that node."""
        if job.job_id not in lease.jobs:
            return False
        lease.jobs.remove(job.job_id)
        job.lease_id = None
        if job.where is Where.LEASED:
            self._wait(job)
        node_id = lease.station.node_id
        if self.suspects.get(node_id) != job.job_id:
            return False
        del self.suspects[node_id]
        return True

    def _wait(self, job: Job, *, last: bool = False) -> None:
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
        self._close(lease, out)
        if not cell.open:
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
