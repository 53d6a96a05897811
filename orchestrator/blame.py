"""Whose failure it is: a job's, a cell's on one slot, or a slot's. Rules over records, without I/O or clock.

One failure says little: a job may have crashed its engine, the engine may not bear the model on this card, the machine
may be ill. So each failure is noted for the job *and* the slot, and what follows tells them apart:

- A slot on which the job before had gone well is hardly to blame, so the failure is *vouched*: the job's own.
- A job that failed on a slot where others failed too is tried on a slot where it has not failed, if there is one.
- Several failures in a row on a slot, of different cells, put the slot into quarantine, longer each time; a job that
  goes well there ends the row.
- A cell that several times in a row could not be served on one slot is tried on others; it is given up when every
  slot that it fits has had its tries.
- A cell that a program refuses (a kind of model that it does not know, a flag that it does not have) is loaded by it
  once: no other place where the same program would serve it is tried.
- A node that was lost is blamed on what ran there alone. Where several jobs ran, all are suspects, and of suspects one
  at a time runs on a node until it is cleared or caught.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.events import Blame
from orchestrator.records import Where

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.events import LeaseEnded
    from orchestrator.records import Bundle, Cell, Health, Job, Lease, Place, Station
    from runners.engines.base import RefusedBy

JOBS_IN_A_ROW = 3
"""So many jobs that fail one after the other end a lease, and count as one failed load of its cell on that slot."""
CELLS_IN_A_ROW = 2
"""So many cells that fail on a slot one after the other put it into quarantine."""
QUARANTINE_S = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds of the first, second, ... quarantine in a row; later ones are as long as the last."""


def went_well(job: Job, cell: Cell, lease: Lease | None) -> None:
    """Takes in a job that ended by the model's or the budget's doing: its slot works, and so does its cell there."""
    if job.failures is not None:
        job.failures.suspected = 0
    if lease is None:
        return  # from the spool of a machine that may be another by now
    health = lease.station.health
    health.ok = True
    health.level //= 2
    health.failed_jobs.clear()
    health.failed_cells.clear()
    lease.failed_jobs.clear()
    cell.tries.pop(lease.station.place, None)


def failed(job: Job, place: Place, health: Health | None, lease: Lease | None, reason: str) -> None:
    """Takes in an attempt that the infrastructure failed at `place`; `health` is None for a place that is not there."""
    record = job.record()
    record.count += 1
    record.places[place] = record.places.get(place, 0) + 1
    if health is None or lease is None:
        return
    record.vouched += health.ok
    health.ok = False
    health.failed_jobs[job.job_id] = job.cell_id
    health.reason = reason
    lease.failed_jobs.add(job.job_id)


def not_served(cell: Cell, place: Place, health: Health | None, outcome: str, reason: str) -> None:
    """Takes in that `cell` could not be served at `place`: it did not load, or nothing that it was given went well."""
    cell.tries[place] = cell.tries.get(place, 0) + 1
    cell.reasons[place] = (outcome, reason)
    if health is not None:
        health.ok = False
        health.failed_cells.add(cell.cell_id)
        health.reason = reason


def lease_failed(cell: Cell, station: Station, event: LeaseEnded) -> Blame:
    """Takes in that a lease of `cell` on `station` came to nothing; a program that refuses a cell is no ill slot's."""
    health, program = None if event.refused_by else station.health, cell.program_on(station)
    not_served(cell, station.place, health, event.outcome, event.reason)
    refused(cell, station.place, program, event.refused_by, event.reason)
    return Blame(
        "cell", cell.cell_id, *station.place, event.reason, event.outcome, refused_by=event.refused_by, program=program
    )


def load_lost(cell: Cell, lease: Lease, reason: str, *, alone: bool) -> Blame:
    """Takes in that a node was lost while `cell` was loaded there, `alone` or beside others."""
    reason = f"the node was lost while it loaded: {reason}"
    not_served(cell, lease.station.place, lease.station.health, "node_lost", reason)
    cell.losses += alone
    return Blame("cell_loss" if alone else "cell", cell.cell_id, *lease.station.place, reason, "node_lost")


def job_lost(job: Job, place: Place, reason: str, *, alone: bool) -> Blame:
    """Takes in that a node was lost while `job` ran there, `alone` or beside others."""
    record = job.record()
    record.suspected += 1
    if not alone:
        return Blame("suspect", job.job_id, *place, reason)
    record.losses += 1
    failed(job, place, None, None, reason)
    return Blame("job_loss", job.job_id, *place, reason)


def lease_is_sick(lease: Lease) -> bool:
    """Whether so many jobs failed in it one after the other that it should end."""
    return len(lease.failed_jobs) >= JOBS_IN_A_ROW


def should_quarantine(health: Health) -> bool:
    """Whether what failed on the slot lately is of too many kinds to be anything but the slot's own doing."""
    if health.quarantined:
        return False
    cells = health.failed_cells | set(health.failed_jobs.values())
    in_a_row = len(health.failed_cells) >= CELLS_IN_A_ROW or len(health.failed_jobs) >= JOBS_IN_A_ROW
    return len(cells) >= CELLS_IN_A_ROW and in_a_row


def quarantine(health: Health) -> float:
    """Begins a quarantine; how many seconds it is to last."""
    seconds = QUARANTINE_S[min(health.level, len(QUARANTINE_S) - 1)]
    health.level += 1
    health.quarantined = True
    return seconds


def refused(cell: Cell, place: Place, program: str, refused_by: RefusedBy, reason: str) -> None:
    """Takes in that `program` would refuse the cell again: on this place, or wherever it runs."""
    if refused_by == "place":
        cell.refused.add((place, program))
    elif refused_by == "program":
        cell.refused_programs.setdefault(program, reason)


def is_refused(cell: Cell, station: Station) -> bool:
    """Whether what serves the cell on this slot has refused it, and would again."""
    if not cell.refused and not cell.refused_programs:
        return False
    program = cell.program_on(station)
    return program in cell.refused_programs or (station.place, program) in cell.refused


def tries_left(cell: Cell, station: Station, retries: int) -> bool:
    """Whether the cell may still be brought to this slot."""
    return cell.tries.get(station.place, 0) <= retries and not is_refused(cell, station)


def may_run(job: Job, cell: Cell, station: Station, retries: int) -> bool:
    """Whether a job that failed before may be tried on this slot.

    Anywhere where it has what it needs, unless it failed here, it failed less often on another slot, and either this
    slot looks ill or this is the job's last try.
    """
    if not job.bundle.runs_on(station):
        return False
    record = job.failures
    if record is None or station.place not in record.places:
        return True
    failed_here = station.health.failed_jobs
    looks_ill = job.job_id in failed_here and len(failed_here) > 1
    if not looks_ill and record.count < retries:
        return True
    here = record.places[station.place]
    return not any(record.places.get(other.place, 0) < here for other in slots_with_tries(cell, job.bundle, retries))


def slots_with_tries(cell: Cell, bundle: Bundle, retries: int) -> Iterable[Station]:
    """The slots that answer, fit the cell, have tries left, and what these of its jobs need."""
    return (
        station
        for station in cell.able.values()
        if not station.silent and tries_left(cell, station, retries) and bundle.runs_on(station)
    )


def is_given_up(job: Job, cell: Cell, retries: int) -> bool:
    """Whether a job that has just failed is not tried again.

    It has had its tries, and either slots that work have vouched that it is the job, or it has had them on every slot.
    A job that takes nodes with it does not get to try them all.
    """
    record = job.failures
    if record is None or record.count <= retries:
        return False
    if record.vouched > retries or record.losses > retries:
        return True
    able = slots_with_tries(cell, job.bundle, retries)
    return all(record.places.get(station.place, 0) > retries for station in able)


def is_suspect(job: Job) -> bool:
    """Whether a node was lost while this job and others ran there, and it is not cleared."""
    return job.where is not Where.DONE and job.failures is not None and job.failures.suspected > 0
