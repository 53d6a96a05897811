"""What a store remembers of the attempts that it holds: enough to go on with a sweep, and where each of them is."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

Key = tuple[str, int]
"""job_id and attempt."""
Mark = tuple[bool, bool | None]
"""The columns final and taken_out."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the store remembers of a committed attempt: no texts, no figures."""

    job_id: str
    attempt: int
    final: bool
    outcome: str
    outcome_class: str
    hardware_class: str | None
    node: str | None
    device: str | None
    regrade_of: int | None = None
    taken_out: bool | None = None
    score: float | None = None
    score_max: float | None = None

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.job_id, self.attempt

    @property
    def answer(self) -> int:
        """The attempt whose answer was graded: this one, or the one that this is a regrade of."""
        return self.attempt if self.regrade_of is None else self.regrade_of

    @property
    def has_failed(self) -> bool:
        """Whether the infrastructure failed it, so that it has no score."""
        return self.outcome_class == "infrastructure"

    def gives_way(self, other: Attempt) -> bool:
        """Whether this attempt, which is final, gives its mark up to `other` of the same job.

        A failure does, to a later attempt or a scored one: a scored row with a lower number lay in the spool of a node
        that was lost, and came when the node came back. A scored one does only to a new grade of its answer.
        """
        if self.has_failed:
            return not other.has_failed or other.attempt > self.attempt
        return other.regrade_of is not None and other.answer == self.answer and other.attempt > self.attempt


def standing(attempts: Iterable[Attempt]) -> Attempt | None:
    """Of the attempts of a job the one that is to be final where none is: the latest grade of its first answer.

    None where none is scored: the job is to run again.
    """
    scored = sorted((each for each in attempts if not each.has_failed), key=lambda each: each.attempt)
    of_first = [each for each in scored if each.answer == scored[0].answer]
    return of_first[-1] if of_first else None


INDEXED: Final = tuple(field.name for field in fields(Attempt))
"""The columns that an `Attempt` is made from."""


def to_attempt(row: Mapping[str, Any]) -> Attempt:
    """The attempt of a row."""
    return Attempt(**{name: row[name] for name in INDEXED})


def attempts_of(table: Any) -> Iterator[Attempt]:
    """The attempts in a `pyarrow.Table` that has their columns."""
    columns = [table[name].to_pylist() for name in INDEXED]
    for name in ("outcome", "outcome_class", "hardware_class", "node", "device"):  # a few texts, many times
        place = INDEXED.index(name)
        columns[place] = [None if text is None else sys.intern(text) for text in columns[place]]
    return starmap(Attempt, zip(*columns, strict=True))


class Index:
    """Attempts by key, with the file that each is in; a job has one final at most."""

    def __init__(self) -> None:
        self._found: dict[Key, tuple[Attempt, Path]] = {}
        self._finals: dict[str, Attempt] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def __iter__(self) -> Iterator[Attempt]:
        return iter([attempt for attempt, _ in self._found.values()])

    def keys(self) -> frozenset[Key]:
        """The keys of all attempts."""
        return frozenset(self._found)

    def finals(self) -> dict[str, Attempt]:
        """The jobs that have ended, each with its final attempt."""
        return dict(self._finals)

    def final_of(self, job_id: str) -> Attempt | None:
        """The final attempt of a job."""
        return self._finals.get(job_id)

    def path_of(self, attempt: Attempt) -> Path:
        """The file that an attempt is in."""
        return self._found[attempt.key][1]

    def put(self, attempt: Attempt, path: Path) -> None:
        """Remember an attempt, as it is now."""
        if (held := self._finals.get(attempt.job_id)) is not None and held.key == attempt.key:
            del self._finals[attempt.job_id]
        self._found[attempt.key] = attempt, path
        if attempt.final:
            self._finals[attempt.job_id] = attempt

    def unmark(self, attempt: Attempt) -> None:
        """Remember that an attempt is not its job's final any more."""
        self.mark(attempt.key, (False, attempt.taken_out))

    def mark(self, key: Key, mark: Mark) -> None:
        """Remember how an attempt is marked from now on."""
        attempt, path = self._found[key]
        final, taken_out = mark
        self.put(replace(attempt, final=final, taken_out=taken_out), path)

    def marks_for(self, jobs: Collection[str]) -> dict[Path, dict[Key, Mark]]:
        """The marks that change, by file, where only `jobs` are to count: what is taken out, and what comes back.

        A job that comes back, or has lost its final, has the one again that stands for it, if any of it is scored.
        """
        by_job: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self:
            by_job[attempt.job_id].append(attempt)
        marks: dict[Path, dict[Key, Mark]] = defaultdict(dict)
        for job_id, attempts in by_job.items():
            stays = job_id in jobs
            final = (self.final_of(job_id) or standing(attempts)) if stays else None
            for attempt in attempts:
                mark = (final is not None and attempt.key == final.key, None if stays else True)
                if mark != (attempt.final, attempt.taken_out):
                    marks[self.path_of(attempt)][attempt.key] = mark
        return marks

    def forget(self, path: Path) -> int:
        """Forget what is in a file; how many attempts that were."""
        gone = [attempt for attempt, place in self._found.values() if place == path]
        for attempt in gone:
            del self._found[attempt.key]
            if (held := self._finals.get(attempt.job_id)) is not None and held.key == attempt.key:
                del self._finals[attempt.job_id]
        return len(gone)
