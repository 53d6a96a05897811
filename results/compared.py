"""Two sides held against each other: what differs in their conditions, and a verdict for each cell that both have."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from results.bounded import WHOLE, mean_quantile, weighed, with_ends
from results.matching import Alone, Difference, differences, match
from results.stats import CONFIDENCE, Interval
from results.verdict import ALLOWANCE, Verdict, compared, paired

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
        our_tps_wrong, their_tps_wrong: whether that side's decode rate is known to be wrong (`profiles.bus`, reports).
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
    our_tps_wrong: bool = False
    their_tps_wrong: bool = False


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
    cells = [_beside(cell, other, published=theirs.published or ours.published) for cell, other in found.both]
    left_out = [f"{side.name}: {text}" for side in (ours, theirs) for text in side.left_out]
    judged = tuple(_judged_together([*zip(cells, found.both, strict=True)]))
    return Compared(ours.name, theirs.name, differences(found.both), judged, found.alone, tuple(left_out))


def _beside(cell: SideCell, other: SideCell, *, published: bool) -> CellComparison:
    """Two cells without a verdict yet."""
    scoring = next((name for name in cell.scorings if name in other.scorings), None)
    points = () if scoring is None else cell.points(scoring)
    theirs = () if scoring is None else other.points(scoring)
    why_not = _why_not(cell, other, scoring, published=published)
    how: How = "none"
    if scoring is not None and not why_not:
        ours_by, theirs_by = cell.scores.get(scoring, {}), other.scores.get(scoring, {})
        both = [key for key in ours_by if key in theirs_by]
        how = "paired" if both else "means"
        if both:
            points, theirs = tuple(ours_by[key] for key in both), tuple(theirs_by[key] for key in both)
    return CellComparison(
        cell=cell.label,
        other=other.label,
        exam=cell.exam,
        score_max=cell.score_max or other.score_max,
        scoring=scoring,
        how=how,
        why_not=why_not,
        ours=len(points),
        theirs=len(theirs),
        our_mean=fmean(points) if points else None,
        their_mean=fmean(theirs) if theirs else None,
        difference=fmean(points) - fmean(theirs) if how != "none" else None,
        interval=None,
        verdict=None,
        more_seeds=None,
        sure=cell.loose_sure and other.loose_sure,
        our_tps=cell.decode_tps,
        their_tps=other.decode_tps,
        wrong={**cell.wrong, **other.wrong},
        our_tps_wrong="decode_tps" in cell.wrong,
        their_tps_wrong="decode_tps" in other.wrong,
    )


def _judged_together(
    found: Sequence[tuple[CellComparison, tuple[SideCell, SideCell]]],
) -> Iterator[CellComparison]:
    """The same with verdicts, which are looked at together: at most 5% that any `better` or `worse` of them is wrong.

    Pairs by Holm's correction, as in the tables of a run. Means by intervals of 1 - 5%/n for n of them (Bonferroni);
    the intervals that are shown are those of 95%. Where there are both, each kind is corrected by itself.
    """
    pairs = [
        paired(cell.label, cell.scores[one.scoring], other.label, other.scores[one.scoring], one.score_max or 1.0)
        for one, (cell, other) in found
        if one.how == "paired" and one.scoring is not None
    ]
    by_pairs = iter(compared(pairs))
    many = sum(one.how == "means" for one, _ in found)
    for one, (cell, other) in found:
        if one.how == "paired":
            judged = next(by_pairs)
            yield replace(one, interval=judged.interval, verdict=judged.verdict, more_seeds=judged.more_seeds)
        elif one.how == "means" and one.scoring is not None:
            full = one.score_max or 1.0
            wide, shown, narrow = (
                of_means(cell.points(one.scoring), other.points(one.scoring), full, confidence)
                for confidence in (1 - (1 - CONFIDENCE) / many, CONFIDENCE, 2 * CONFIDENCE - 1)
            )
            yield replace(one, interval=shown, verdict=_judged(wide, narrow, full))
        else:
            yield one


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


def of_means(ours: Sequence[float], theirs: Sequence[float], full: float, confidence: float) -> Interval:
    """Interval of the difference of two means of different answers, in points; both have answers.

    From the limits of each by the method of variance estimates recovery (Zou and Donner 2008, Statistics in Medicine
    27, 1693-1702): their distances from the means add up as squares. The limits are those of results.bounded with a
    whole score at the end of the scale that speaks against them: with half a one, equal cells of five pass-or-fail
    answers were told apart in 6% of draws at 95%, with a whole one in 2%.
    """
    mean, other = fmean(ours), fmean(theirs)
    low, high = _limits(ours, full, confidence)
    other_low, other_high = _limits(theirs, full, confidence)
    below, above = math.hypot(mean - low, other_high - other), math.hypot(high - mean, other - other_low)
    return Interval(max(mean - other - below, -full), min(mean - other + above, full), confidence)


def _limits(points: Sequence[float], full: float, confidence: float) -> tuple[float, float]:
    """Of the mean of points from 0 to `full`; for pass and fail those of Clopper and Pearson."""
    values, mean, tail = weighed(min(max(each, 0.0), full) for each in points), fmean(points), (1 - confidence) / 2
    low = mean_quantile(with_ends(values, 0.0, full, at_low=WHOLE, at_high=0), tail) if mean > 0 else 0.0
    high = mean_quantile(with_ends(values, 0.0, full, at_low=0, at_high=WHOLE), 1 - tail) if mean < full else full
    return min(low, mean), max(high, mean)


def _judged(wide: Interval, narrow: Interval, full: float) -> Verdict:
    """As results.verdict has it, from intervals for `better` or `worse`, and for `equivalent` (TOST: at 90%)."""
    if -ALLOWANCE * full <= narrow.low and narrow.high <= ALLOWANCE * full:
        return "equivalent"
    if wide.low > 0:
        return "better"
    if wide.high < 0:
        return "worse"
    return "undecided"
