"""Items of exams that tell no models apart: every one failed them, or every one passed; looked for in a sample."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from results.figures import count
from results.reading import ATTEMPTS_FOLDER, attempt_files, read_file
from results.seal import TornFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MOST_FILES: Final = 80
"""Of attempts that are looked at, evenly over the run: some 4,000 of them. A text a row is too much to read of more."""
MOST_BYTES: Final = 32 << 20
"""Of the items in one file; of ours it is a hundredth. A larger one is left out."""
MOST_CHARS: Final = 64 << 10
"""Of the items of one reply; longer ones are left out, as they are of no exam of ours."""
MOST_ITEMS: Final = 500
MOST_NAMED: Final = 8
FEWEST_MODELS: Final = 2
FEWEST_REPLIES: Final = 6
"""Fewer say nothing of an item."""

_NAME_CHARS: Final = 60
_COLUMNS: Final = (
    *("final", "taken_out", "model", "exam", "task", "grader_version", "scoring", "outcome_class", "grade_items"),
)

_Exam = tuple[str, str, str]
"""Name, task, version of the grader."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Items of an exam that every model failed, or every one passed, in the replies that were looked at.

    Attributes:
        exam, task: Where they stand; `task` is empty where the exam has one only.
        passed: Whether all passed them, or all failed.
        items: Their names.
        of: How many items the exam has there.
        models, replies: Of how many of each that is; replies that hold no program, or pass nothing, are not counted.
    """

    exam: str
    task: str
    passed: bool
    items: tuple[str, ...]
    of: int
    models: int
    replies: int

    def __str__(self) -> str:
        where = self.exam if not self.task else f"{self.exam} ({self.task})"
        looked = f"in all of {count(self.replies, 'reply').replace('replys', 'replies')}, of {self.models} models"
        shown = ", ".join(name[:_NAME_CHARS] for name in self.items[:MOST_NAMED])
        names = shown + (f" and {len(self.items) - MOST_NAMED} more" if len(self.items) > MOST_NAMED else "")
        what = f"{len(self.items)} of {count(self.of, 'item')} of {where}"
        if self.passed:
            return f"{what} passed {looked} ({names}): they tell no models apart."
        return (
            f"{what} failed {looked} ({names}): the grader may be wrong, or the task. `quantsweep exams check` tries "
            "the grader on answers that are known."
        )


@dataclass(slots=True)
class _Seen:
    """What became of one item."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    replies: int = 0


def alarms_of(run_folder: Path) -> tuple[Alarm, ...]:
    """The alarms of a run, those of failed items first. Files that cannot be read are left out: others tell of them."""
    return alarms(row for path in _sample(attempt_files(run_folder / ATTEMPTS_FOLDER)) for row in _rows(path))


def _sample(files: Sequence[Path]) -> list[Path]:
    """At most MOST_FILES of them, evenly."""
    if len(files) <= MOST_FILES:
        return list(files)
    return [files[place * len(files) // MOST_FILES] for place in range(MOST_FILES)]


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The scored final rows of one file that have items."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        parquet = pq.read_metadata(path)
        if _bytes_of_items(parquet) > MOST_BYTES:
            return
        table = read_file(path, _COLUMNS, whole=False)
    except (TornFileError, OSError, pa.ArrowException, ValueError):
        return
    counted = pc.and_(
        pc.fill_null(table["final"], fill_value=False), pc.invert(pc.fill_null(table["taken_out"], False))
    )
    short = pc.fill_null(pc.less_equal(pc.binary_length(table["grade_items"]), MOST_CHARS), fill_value=False)
    scored = pc.not_equal(table["outcome_class"], "infrastructure")
    yield from table.filter(pc.and_(pc.and_(counted, short), scored)).to_pylist()


def _bytes_of_items(parquet: Any) -> int:
    """What the column of items takes in memory, by the file's own word."""
    total = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.row_group(group)
        total += sum(
            column.total_uncompressed_size
            for column in (rows.column(number) for number in range(rows.num_columns))
            if column.path_in_schema == "grade_items"
        )
    return total


def alarms(rows: Iterable[Mapping[str, Any]]) -> tuple[Alarm, ...]:
    """The alarms of `rows`, which are scored and final."""
    exams: dict[_Exam, dict[str, _Seen]] = defaultdict(lambda: defaultdict(_Seen))
    for row in rows:
        found = dict(_items(row["grade_items"], row["scoring"] or ""))
        if not any(found.values()):
            continue
        seen = exams[row["exam"], row["task"] or "main", row["grader_version"] or ""]
        for name, passed in found.items():
            if name not in seen and len(seen) >= MOST_ITEMS:
                continue
            item = seen[name]
            item.replies += 1
            (item.passed if passed else item.failed).add(row["model"])
    failed, passed_by_all = [], []
    for (exam, task, _), seen in exams.items():
        where = exam, "" if task == "main" else task
        failed += _alarm(where, seen, passed=False)
        passed_by_all += _alarm(where, seen, passed=True)
    return (*failed, *passed_by_all)


def _items(text: str, scoring: str) -> Iterator[tuple[str, bool]]:
    """Name of each item that counts for `scoring`, and whether it was passed; nothing of what is none of ours."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(items, list):
        return
    for item in items[:MOST_ITEMS]:
        if (
            isinstance(item, dict)
            and isinstance(name := item.get("name"), str)
            and isinstance(passed := item.get("passed"), bool)
            and item.get("scoring") in ("", None, scoring)
        ):
            yield name[: MOST_CHARS // 64], passed


def _alarm(where: tuple[str, str], seen: Mapping[str, _Seen], *, passed: bool) -> list[Alarm]:
    """The alarm of the items that all passed, or all failed; none where there is no such item."""
    names = {
        name: item
        for name, item in seen.items()
        if not (item.failed if passed else item.passed)
        and len(item.passed | item.failed) >= FEWEST_MODELS
        and item.replies >= FEWEST_REPLIES
    }
    if not names:
        return []
    models = min(len(item.passed | item.failed) for item in names.values())
    replies = min(item.replies for item in names.values())
    return [Alarm(*where, passed, tuple(names), len(seen), models, replies)]
