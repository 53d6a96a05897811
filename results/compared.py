"""Two sides held against each other: what differs in their conditions, and a verdict for each cell that both have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from results.bounded import mean_interval
from results.matching import Alone, Difference, differences, match
from results.stats import CONFIDENCE, Interval
from results.verdict import ALLOWANCE, Verdict, compared, paired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from results.sides import Side, SideCell

How = Literal["paired", "means", "none"]
"""By answers of equal task and seed; by the means of different answers; not at all."""


@dataclass(frozen=True, slots=True)
class CellComparison:
    """A cell of the first side against the one of the second that answers it.

    Attributes:
        scoring: by which points are compared; None where there is none that both have.
        how: what the verdict rests on.
        why_not: why there is no verdict; empty where there is one.
        ours, theirs: answers that are compared, and their means.
        difference: of the means, ours - theirs, in points, with its interval at 95%.
        verdict: on ours.
        more_seeds: about how many more would decide; None where that is not known.
        sure: whether the scores behind their mean are the only ones it can have.
    """

    cell: str
    other: str
    exam: str
    score_max: float | None
    scoring: str | None
    how: How
    why_not: str
    ours: int
    theirs: int
    our_mean: float | None
    their_mean: float | None
    difference: float | None
    interval: Interval | None
    verdict: Verdict | None
    more_seeds: int | None
    sure: bool
    our_tps: float | None
    their_tps: float | None
    wrong: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it: `alone` names cells that nothing answers, each with the reason."""

    ours: str
    theirs: str
    differences: tuple[Difference, ...]
    cells: tuple[CellComparison, ...]
    alone: tuple[Alone, ...]
    left_out: tuple[str, ...]


def compare_sides(ours: Side, theirs: Side, given: Mapping[str, str]) -> Compared:
    """Each cell of `ours` against the one of `theirs` that answers it.

    Args:
        ours: the first side, on which the verdicts are.
        theirs: the second.
        given: names of models or cells of ours to those of theirs (`--map`).

    Raises:
        MappingError: one of these names is not there.
    """
    found = match(ours, theirs, given)
    cells = [_compare(cell, other, published=theirs.published or ours.published) for cell, other in found.both]
    left_out = [f"{side.name}: {text}" for side in (ours, theirs) for text in side.left_out]
    return Compared(ours.name, theirs.name, differences(found.both), tuple(cells), found.alone, tuple(left_out))


def _compare(cell: SideCell, other: SideCell, *, published: bool) -> CellComparison:
    scoring = next((name for name in cell.scorings if name in other.scorings), None)
    points = () if scoring is None else cell.points(scoring)
    theirs = () if scoring is None else other.points(scoring)
    full = cell.score_max or other.score_max
    why_not = _why_not(cell, other, scoring, published=published)
    how: How = "none"
    difference = interval = verdict = more = None
    if scoring is not None and not why_not and full:
        ours_by, theirs_by = cell.scores.get(scoring, {}), other.scores.get(scoring, {})
        pairs = paired(cell.label, ours_by, other.label, theirs_by, full)
        if pairs.differences:
            (judged,) = compared([pairs])
            how, difference, interval = "paired", judged.difference, judged.interval
            verdict, more = judged.verdict, judged.more_seeds
            both = ours_by.keys() & theirs_by.keys()
            points = tuple(ours_by[key] for key in both)
            theirs = tuple(theirs_by[key] for key in both)
        else:
            how, difference = "means", fmean(points) - fmean(theirs)
            wide, narrow = (of_means(points, theirs, full, each) for each in (CONFIDENCE, 2 * CONFIDENCE - 1))
            interval, verdict = wide, _judged(wide, narrow, full)
    return CellComparison(
        cell=cell.label,
        other=other.label,
        exam=cell.exam,
        score_max=full,
        scoring=scoring,
        how=how,
        why_not=why_not,
        ours=len(points),
        theirs=len(theirs),
        our_mean=fmean(points) if points else None,
        their_mean=fmean(theirs) if theirs else None,
        difference=difference,
        interval=interval,
        verdict=verdict,
        more_seeds=more,
        sure=cell.loose_sure and other.loose_sure,
        our_tps=cell.decode_tps,
        their_tps=other.decode_tps,
        wrong={**cell.wrong, **other.wrong} if published else {},
    )


def _why_not(cell: SideCell, other: SideCell, scoring: str | None, *, published: bool) -> str:
    """Why the scores of two cells cannot be compared; empty where they can.

    Other prompts and graders are a reason between runs. A report has its own in any case, which is said first.
    """
    if not cell.scorings or not other.scorings:
        return "no score" if not cell.scorings and not other.scorings else "no score on one side"
    if scoring is None:
        return f"no scoring in common: {', '.join(cell.scorings)} against {', '.join(other.scorings)}"
    if cell.score_max and other.score_max and cell.score_max != other.score_max:
        return f"full marks are {cell.score_max:g} and {other.score_max:g}"
    if published:
        return ""
    for what, mend in (("prompt version", "other questions"), ("grader version", "regrade both with one version")):
        mine, yours = cell.conditions.get(what), other.conditions.get(what)
        if mine and yours and mine != yours:
            return f"{what} {', '.join(mine)} against {', '.join(yours)}: {mend}"
    return ""


def of_means(ours: tuple[float, ...], theirs: tuple[float, ...], full: float, confidence: float) -> Interval | None:
    """Interval of the difference of two means of different answers, in points.

    From the interval of each by the method of variance estimates recovery (Zou and Donner 2008, Statistics in
    Medicine 27, 1693-1702): the distances of the limits from the means add up as squares.
    """
    first = mean_interval(ours, 0.0, full, confidence=confidence)
    second = mean_interval(theirs, 0.0, full, confidence=confidence)
    if first is None or second is None:
        return None
    mean, other = fmean(ours), fmean(theirs)
    below = math.hypot(mean - first.low, second.high - other)
    above = math.hypot(first.high - mean, other - second.low)
    return Interval(max(mean - other - below, -full), min(mean - other + above, full), confidence)


def _judged(wide: Interval | None, narrow: Interval | None, full: float) -> Verdict:
    """As results.verdict has it, from intervals at 95% and at 90%."""
    if narrow is not None and -ALLOWANCE * full <= narrow.low and narrow.high <= ALLOWANCE * full:
        return "equivalent"
    if wide is not None and wide.low > 0:
        return "better"
    if wide is not None and wide.high < 0:
        return "worse"
    return "undecided"
