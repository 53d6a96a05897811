"""Folds what an earlier driver left, the store's rows and the journal's lines, into the records of a new one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator import blame
from orchestrator.journal import DAMAGED
from orchestrator.placement import whose_doing
from orchestrator.records import Where

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.records import Cell, Job

INFRASTRUCTURE = "infrastructure"
_GIVES_OUT = frozenset({"assigned", "failed_unrun"})
_LEASE = re.compile(r"L[0-9]{1,9}")
MOST_LEFT_OUT = 100
"""So many attempt numbers no job was ever given."""


@dataclass(frozen=True, slots=True)
class CommittedAttempt:
    """A row that is in the store: what the state needs to know of it."""

    job_id: str
    attempt: int
    final: bool
    outcome_class: str
    hostname: str = ""
    place_id: str = ""
    hardware_class: str | None = None
    share: float | None = None


class Numbered(Protocol):
    """A row of the store, as far as its number goes."""

    @property
    def job_id(self) -> str:
        """Its job."""
        ...

    @property
    def attempt(self) -> int:
        """Its number, from 1."""
        ...


class Restorer:
    """Brings records to where an earlier driver left them. `forgive` forgets every failure: what is not done gets all
    its tries again.
    """

    def __init__(self, cells: Mapping[str, Cell], jobs: Mapping[str, Job], *, forgive: bool) -> None:
        self._cells, self._jobs, self._forgive = cells, jobs, forgive
        self.last_lease = 0
        self._unread = 0

    def take_row(self, row: CommittedAttempt) -> Job | None:
        """Takes in a row of the store; the job that is finished with it, if one is."""
        if (job := self._jobs.get(row.job_id)) is None:
            return None
        job.attempts = max(job.attempts, row.attempt)
        job.kept |= 1 << row.attempt
        if row.outcome_class != INFRASTRUCTURE:
            cell = self._cells[job.cell_id]
            cell.hardware_class = cell.hardware_class or row.hardware_class
            return job if row.final else None
        if self._forgive:
            return None
        blame.failed(job, whose_doing(row.hostname, row.place_id), None, None, "")
        return job if row.final else None

    def take_line(self, line: Mapping[str, object]) -> None:
        """Takes in a line of the journal: numbers that were given out, failures that have no row."""
        if line["event"] == DAMAGED:
            events = line.get("events")
            self._unread += events if isinstance(events, int) else 1
            return
        lease = line.get("lease_id")
        if isinstance(lease, str) and _LEASE.fullmatch(lease):
            self.last_lease = max(self.last_lease, int(lease[1:]))
        job = self._jobs.get(str(line.get("job_id")))
        if job is not None and line["event"] in _GIVES_OUT:
            attempt = line.get("attempt")
            job.attempts = max(job.attempts, attempt if isinstance(attempt, int) else 0)
        elif job is not None and line["event"] == "committed" and line.get("outcome_class") != INFRASTRUCTURE:
            self._cells[job.cell_id].tries.clear()
        elif line["event"] == "blamed" and not self._forgive:
            self._take_blame(line)

    def _take_blame(self, line: Mapping[str, object]) -> None:
        place = str(line.get("hostname")), str(line.get("place_id"))
        kind, subject = line.get("kind"), str(line.get("subject"))
        cell, job = self._cells.get(subject), self._jobs.get(subject)
        if cell is not None:
            reason, refused_by = str(line.get("reason")), line.get("refused_by")
            blame.not_served(cell, place, None, str(line.get("outcome")), reason)
            if refused_by in {"place", "program"}:
                blame.refused(cell, place, str(line.get("program")), refused_by, reason)
            cell.losses += kind == "cell_loss"
        elif job is not None and job.where is not Where.DONE:
            job.record().suspected += 1
            if kind == "job_loss":
                job.record().losses += 1
                blame.failed(job, place, None, None, "")

    def finish(self) -> None:
        """Puts the jobs that wait and have failed before where they belong.

        A line of the journal that cannot be read may have given out the next number of any of them: it is left out.
        """
        for job in self._jobs.values():
            if job.where is not Where.DONE:
                job.attempts += min(self._unread, MOST_LEFT_OUT)
            if job.where is Where.WAITING and job.failures is not None:
                job.where = Where.RETRY  # its id among those that never failed is passed over
                job.bundle.retry[job.job_id] = None


def numbers_given(
    rows: Iterable[Numbered], lines: Iterable[Mapping[str, object]], jobs: Iterable[str] = ()
) -> dict[str, int]:
    """The highest attempt number that each job was ever given, by the store's rows and the journal's lines.

    Of the jobs that have a row, and of `jobs`. A row with that number may still lie on a node, so the next one begins
    behind it.
    """
    numbers = dict.fromkeys(jobs, 0)
    for row in rows:
        numbers[row.job_id] = max(numbers.get(row.job_id, 0), row.attempt)
    unread = 0
    for line in lines:
        job_id, attempt, events = str(line.get("job_id")), line.get("attempt"), line.get("events")
        if line["event"] == DAMAGED:
            unread += events if isinstance(events, int) else 1
        elif line["event"] in _GIVES_OUT and job_id in numbers and isinstance(attempt, int):
            numbers[job_id] = max(numbers[job_id], attempt)
    return {job_id: number + min(unread, MOST_LEFT_OUT) for job_id, number in numbers.items()}
