"""What a store remembers of the attempts that it holds: enough to go on with a sweep, and where each of them is."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Key = tuple[str, int]
"""job_id and attempt."""


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

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.job_id, self.attempt


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
        self.put(replace(attempt, final=False), self.path_of(attempt))

    def forget(self, path: Path) -> int:
        """Forget what is in a file; how many attempts that were."""
        gone = [attempt for attempt, place in self._found.values() if place == path]
        for attempt in gone:
            del self._found[attempt.key]
            if (held := self._finals.get(attempt.job_id)) is not None and held.key == attempt.key:
                del self._finals[attempt.job_id]
        return len(gone)
