"""Which attempts lost points or failed, gathered by what they lost: the exam, the item and the outcome."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from results.summary import finals_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from results.summary import Row

LOOKED_AT: Final = (
    *("job_id", "attempt", "final", "taken_out", "regrade_of", "model", "quant", "variant", "exam", "task", "seed"),
    *("scoring", "score", "score_max", "grade_items", "outcome", "outcome_class", "error"),
)
"""The columns that failures are gathered from."""

_TOLD_BY: Final = ("job_id", "attempt", "final", "taken_out", "exam", "score", "score_max", "outcome_class", "outcome")
"""Of these, the ones by which it is told whether anything was lost."""
_MOST_ITEMS: Final = 10_000
"""Of one grade; ours have a few dozen."""


class Item(NamedTuple):
    """One thing that a grader looked at, as a row has it."""

    name: str
    points: float
    points_max: float
    passed: bool
    note: str
    scoring: str

    @property
    def is_lost(self) -> bool:
        """Whether it gave less than there was to be had, or was not passed."""
        return not self.passed or self.points < self.points_max


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that lost points, or has no score."""

    job_id: str
    attempt: int
    model: str
    quant: str
    variant: str
    task: str
    seed: int
    score: float | None
    score_max: float | None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Attempts that lost the same thing.

    Attributes:
        exam, outcome, outcome_class: of all of them.
        item: what was lost; None where the grade has no items, or there is none.
        retried: whether they are earlier attempts of jobs that were tried again, and in no figure.
        jobs: how many jobs of this exam have ended: what the number of failures is of.
        note: what most of them say of it, in a sentence of the grader's or the engine's; empty where they say nothing.
        noted: how many say just that.
        failures: the attempts, by cell and seed.
    """

    exam: str
    item: str | None
    outcome: str
    outcome_class: str
    retried: bool
    jobs: int
    note: str
    noted: int
    failures: tuple[Failure, ...]


def failure_groups(table: Any) -> list[FailureGroup]:
    """The failures of a run, most frequent first; an attempt that lost several items is in a group of each.

    What counts is the final attempt of each job, and each earlier one without a score. What was taken out of the sweep
    is left out.

    Args:
        table: A `pyarrow.Table` with the columns LOOKED_AT.
    """
    import pyarrow as pa

    told = [row for row in table.select(list(_TOLD_BY)).to_pylist() if not row["taken_out"]]
    finals = finals_of(told)
    jobs = Counter(row["exam"] for row in finals)
    retried = [row for row in told if not row["final"] and row["outcome_class"] == "infrastructure"]
    wanted = {(row["job_id"], row["attempt"]) for row in [*finals, *retried] if not _has_all(row)}
    keys = zip(table["job_id"].to_pylist(), table["attempt"].to_pylist(), strict=True)
    places = [place for place, key in enumerate(keys) if key in wanted]
    gathered: dict[tuple[str, str | None, str, str, bool], list[tuple[Row, str]]] = defaultdict(list)
    # With their texts only those that lost something: the rows of a large run as dicts would take gigabytes.
    for row in table.select(list(LOOKED_AT)).combine_chunks().take(pa.array(places, pa.int64())).to_pylist():
        for item, note in _losses(row):
            key = row["exam"], item, row["outcome"], row["outcome_class"], not row["final"]
            gathered[key].append((row, note))
    groups = [
        FailureGroup(
            exam=exam,
            item=item,
            outcome=outcome,
            outcome_class=outcome_class,
            retried=retried,
            jobs=jobs[exam],
            note=(said := _commonest(note for _, note in found))[0],
            noted=said[1],
            failures=tuple(sorted((_failure(row) for row, _ in found), key=_place)),
        )
        for (exam, item, outcome, outcome_class, retried), found in gathered.items()
    ]
    return sorted(groups, key=lambda g: (g.retried, -len(g.failures), g.exam, g.item or "", g.outcome))


def items_of(text: str | None, scoring: str | None = None) -> tuple[Item, ...]:
    """The items in a column `grade_items`, those of one scoring or of all; none where it holds something else."""
    items = _parsed(text)
    return tuple(item for item in items if scoring is None or item.scoring in {"", scoring})


@lru_cache(maxsize=1024)
def _parsed(text: str | None) -> tuple[Item, ...]:
    """Remembered, as the attempts of a cell often lose the same items."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(item for each in found[:_MOST_ITEMS] if (item := _item(each)) is not None)


def _item(each: Any) -> Item | None:
    """An item of somebody's row, which may hold anything."""
    if not isinstance(each, dict):
        return None
    points, points_max = each.get("points"), each.get("points_max")
    if not isinstance(points, int | float) or not isinstance(points_max, int | float):
        return None
    name, note, scoring = (str(each.get(key) or "") for key in ("name", "note", "scoring"))
    return Item(name, float(points), float(points_max), bool(each.get("passed", points >= points_max)), note, scoring)


def _has_all(row: Row) -> bool:
    """Whether an attempt has full marks. Its items of the scoring that counts are then not looked at."""
    return row["score"] is not None and row["score_max"] is not None and row["score"] >= row["score_max"]


def _losses(row: Row) -> list[tuple[str | None, str]]:
    """What an attempt lost, item by item, each with what is said of it; None stands for an item that has no name."""
    if row["score"] is None:
        return [(None, row["error"] or "")]
    lost: list[tuple[str | None, str]] = [
        (item.name, item.note) for item in items_of(row["grade_items"], row["scoring"]) if item.is_lost
    ]
    if lost:
        return lost
    return [(None, row["error"] or "")] if row["score_max"] is not None else []


def _commonest(notes: Iterable[str]) -> tuple[str, int]:
    found = Counter(note for note in notes if note)
    return found.most_common(1)[0] if found else ("", 0)


def _failure(row: Row) -> Failure:
    names = ("job_id", "attempt", "model", "quant", "variant", "seed", "score", "score_max")
    return Failure(task=row["task"] or "main", **{name: row[name] for name in names})


def _place(failure: Failure) -> tuple[str, str, str, str, int, int]:
    return failure.model, failure.variant, failure.quant, failure.task, failure.seed, failure.attempt
