"""What is known of the difference between two cells: better, worse, equivalent or undecided, and what would decide.

Cells are compared over the answers that both have: one for each seed, of each task where the exam has several. Pairs
share task and seed, not their random draws: pairing takes the exam's chance out, not the sampler's. Differences are in
shares of full marks, from -1 to 1, and their mean d is judged by `results.bounded`, which asks no more of scores than
that they lie on their scale:

- `better`, `worse`: d = 0 is refused at 5% on both sides together, with a whole pair at each end of the scale. Where
  several are compared a correction keeps that of all of them together: for the quants of a model the tests go from the
  smallest up (`results.stats.in_order`), for variants and models, which have no such order, it is Holm's.
- `equivalent`: two one-sided tests at 5% each (TOST; Schuirmann 1987) place d within ALLOWANCE, with a whole pair at
  the end that speaks against it: equal scores on a few seeds say little about a failure in twenty replies, which 59
  pairs without one rule out. Where d is surely above 0, but within the allowance, it is too little to matter.
- `undecided`: neither. `more_seeds` says about how many more would tell, if they go on as the ones so far.

A quant *kept* the score where d is at most ALLOWANCE below 0 and it is not `worse`; it is surely `not_worse` where the
lower of the two tests of equivalence says so. All of this is for a number of seeds that was settled before: whoever
looks, and adds seeds until the verdict is there, is wrong more often (results.sequential is made for that).

Tasks on which a difference differs widen the interval, although the tasks are the same every time: that errs on the
side of saying too little. The best of several is a little flattered by being the best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from results.bounded import WHOLE, Weighed, interval_of, mean_quantile, scaled, share_below, weighed, with_ends
from results.stats import CONFIDENCE, MOST_SEEDS, Interval, holm, mcnemar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ALLOWANCE: Final = 0.05
"""Share of full marks by which means may be apart and still be worth the same."""

FEWEST_SEEDS: Final = 3
GOOD_SEEDS: Final = 5

Verdict = Literal["better", "worse", "equivalent", "undecided"]
"""What is known of a true mean difference d, in shares of full marks, wherever two cells are compared.

`equivalent`: |d| is within the allowance. `better`, `worse`: d is above 0, below 0. `undecided`: none is shown yet.
Where d is shown to be above 0 and within the allowance, too little to matter, the verdict is `equivalent`. So every d
gives a verdict with enough seeds: there is no border on which seeds are spent for ever.
"""

_Task = TypeVar("_Task")
"""What a pair shares beside its seed: a task, or a quant and a task."""

_ERROR: Final = 1 - CONFIDENCE
_ROUNDING: Final = 1e-9
"""A fall of exactly the allowance is within it."""
_NORMAL: Final = NormalDist()
_WANTED: Final = _NORMAL.inv_cdf(CONFIDENCE)
_SEARCH_STEPS: Final = 12
_WIDEST_STEP: Final = 6
_NEAR: Final = 0.05
_NEAR_SHARE: Final = 0.01
"""So near the number of pairs that would decide is looked for: in pairs, or as a share of it."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The answers that two cells have in common.

    Attributes:
        name, reference: The cells; the second is what the first is held against.
        differences: name - reference, in shares of full marks; one a pair.
        tasks, seeds: How many different ones the pairs are of.
        full: Full marks, in points.
        pass_or_fail: Whether every answer of both has full marks or none.
        by_seed: Means over the tasks of a seed, in the order of the seeds; seeds that lack one of the tasks are left
            out.
    """

    name: str
    reference: str
    differences: tuple[float, ...]
    tasks: int
    seeds: int
    full: float
    pass_or_fail: bool = False
    by_seed: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell against another.

    Attributes:
        name: Of the quant, variant or model that is compared.
        reference: What it is held against: the larger quant with the highest mean, the first variant, the best model.
        pairs: Tasks and seeds that both have a score for.
        tasks, seeds: How many of each those are of.
        difference: Mean of name - reference over those pairs, in points; None without pairs.
        interval: Its interval at 95%, in points.
        lowest: The bound that the difference is above with 95%, one-sided, in points, for claims that it keeps.
        verdict: Beyond these seeds; see `Verdict`.
        p_value: Of no difference, two-sided; `p_adjusted` is that corrected for the comparisons beside it.
        mcnemar: Of McNemar's exact test, where every answer has full marks or none; None elsewhere.
        kept: Whether the difference seen is within the allowance, over at least FEWEST_SEEDS pairs, and not `worse`.
        not_worse: Whether it is at most the allowance below, beyond these seeds, at 95%.
        more_seeds: About how many more seeds, of all those tasks, would give a verdict; None where none are needed, or
            more than stats.MOST_SEEDS.
        more_to_keep: The same for `not_worse`, where it is `kept`.
    """

    name: str
    reference: str
    pairs: int
    tasks: int
    seeds: int
    difference: float | None
    interval: Interval | None
    lowest: float | None
    verdict: Verdict
    p_value: float | None
    p_adjusted: float | None
    mcnemar: float | None
    kept: bool
    not_worse: bool
    more_seeds: int | None
    more_to_keep: int | None


def paired(
    name: str,
    ours: Mapping[tuple[_Task, int], float],
    reference: str,
    theirs: Mapping[tuple[_Task, int], float],
    full: float,
) -> Pairs:
    """The pairs of two cells whose points are given by task and seed."""
    both = [key for key in ours if key in theirs]
    points = {value for key in both for value in (ours[key], theirs[key])}
    seeds: dict[int, list[float]] = {}
    for task, seed in both:
        seeds.setdefault(seed, []).append((ours[task, seed] - theirs[task, seed]) / full)
    tasks = len({task for task, _ in both})
    return Pairs(
        name,
        reference,
        tuple((ours[key] - theirs[key]) / full for key in both),
        tasks=tasks,
        seeds=len(seeds),
        full=full,
        pass_or_fail=points <= {0.0, full},
        by_seed=tuple(fmean(seeds[seed]) for seed in sorted(seeds) if len(seeds[seed]) == tasks),
    )


def verdict_on(differences: Sequence[float], allowance: float = ALLOWANCE) -> Verdict:
    """The verdict on pairs by themselves, of which there is at least one; differences are in shares of full marks."""
    one = _Differences(weighed(differences), len(differences), allowance)
    return one.verdict(one.p_value)


def compared(
    family: Sequence[Pairs], allowance: float = ALLOWANCE, correct: Callable[[Sequence[float]], list[float]] = holm
) -> tuple[Comparison, ...]:
    """A comparison for each of `family`, which are looked at together: `correct` turns their p-values into those that
    count then. Where there are fewer than FEWEST_SEEDS pairs there is no test, and nothing to correct for.
    """
    found = [_Differences(weighed(pairs.differences), len(pairs.differences), allowance) for pairs in family]
    adjusted = iter(correct([one.p_value for one in found if one.number >= FEWEST_SEEDS]))
    return tuple(
        _comparison(pairs, one, next(adjusted) if one.number >= FEWEST_SEEDS else 1.0)
        for pairs, one in zip(family, found, strict=True)
    )


def _comparison(pairs: Pairs, one: _Differences, p_adjusted: float) -> Comparison:
    if not one.number:
        return Comparison(
            *(pairs.name, pairs.reference, 0, 0, 0, None, None, None, "undecided", None, None, None),
            kept=False,
            not_worse=False,
            more_seeds=GOOD_SEEDS,
            more_to_keep=GOOD_SEEDS,
        )
    full = pairs.full
    factor = max(p_adjusted / one.p_value, 1.0) if one.p_value else 1.0
    verdict = one.verdict(p_adjusted)
    not_worse = verdict in {"better", "equivalent"} or one.below() <= _ERROR
    kept = one.mean >= -one.allowance - _ROUNDING and one.number >= FEWEST_SEEDS and verdict != "worse"
    interval = interval_of(one.values, -1.0, 1.0, end=WHOLE)
    won, lost = sum(value > 0 for value in pairs.differences), sum(value < 0 for value in pairs.differences)

    def seeds(needed: int | None) -> int | None:
        return None if needed is None else max(math.ceil((needed - one.number) / pairs.tasks), 1)

    return Comparison(
        name=pairs.name,
        reference=pairs.reference,
        pairs=one.number,
        tasks=pairs.tasks,
        seeds=pairs.seeds,
        difference=one.mean * full,
        interval=Interval(interval.low * full, interval.high * full),
        lowest=one.lowest() * full,
        verdict=verdict,
        p_value=one.p_value,
        p_adjusted=p_adjusted,
        mcnemar=mcnemar(won, lost) if pairs.pass_or_fail else None,
        kept=kept,
        not_worse=not_worse,
        more_seeds=seeds(one.needed(factor)) if verdict == "undecided" else None,
        more_to_keep=seeds(one.needed_to_keep()) if kept and not not_worse else None,
    )


class _Differences:
    """The tests of one comparison, and how many pairs each would need if they go on as those that are there."""

    def __init__(self, values: Weighed, number: int, allowance: float) -> None:
        self.values = values
        self.number = number
        self.allowance = allowance
        self.mean = sum(value * weight for value, weight in values) / number if number else 0.0
        self.p_value = self.p_of_none() if number else 1.0

    def p_of_none(self, times: float = 1.0) -> float:
        """Two-sided p-value of a mean of 0, for so many times as many pairs."""
        share = share_below(with_ends(scaled(self.values, times), -1.0, 1.0, at_low=WHOLE, at_high=WHOLE), 0.0)
        return min(2 * min(share, 1 - share), 1.0)

    def below(self, times: float = 1.0) -> float:
        """One-sided p-value of a mean that is lower by the allowance, or more."""
        return share_below(with_ends(scaled(self.values, times), -1.0, 1.0, at_low=WHOLE, at_high=0), -self.allowance)

    def above(self, times: float = 1.0) -> float:
        """One-sided p-value of a mean that is higher by the allowance, or more."""
        ends = with_ends(scaled(self.values, times), -1.0, 1.0, at_low=0, at_high=WHOLE)
        return 1 - share_below(ends, self.allowance)

    def lowest(self) -> float:
        """What the mean is above with 95%, one-sided."""
        return mean_quantile(with_ends(self.values, -1.0, 1.0, at_low=WHOLE, at_high=0), _ERROR)

    def verdict(self, p_adjusted: float) -> Verdict:
        """What the tests say together."""
        if abs(self.mean) <= self.allowance and max(self.below(), self.above()) <= _ERROR:
            return "equivalent"
        if p_adjusted > _ERROR:
            return "undecided"
        return "better" if self.mean > 0 else "worse"

    def needed(self, factor: float) -> int | None:
        """The pairs for a verdict, where the correction makes `factor` of a p-value; None: beyond all measure."""
        ways = [self._pairs(lambda times: self.p_of_none(times) * factor)]
        if abs(self.mean) < self.allowance:
            ways.append(self._pairs(lambda times: max(self.below(times), self.above(times))))
        return min((way for way in ways if way is not None), default=None)

    def needed_to_keep(self) -> int | None:
        """The pairs that show that the mean is at most the allowance below 0; None: beyond all measure."""
        return self._pairs(self.below) if self.mean > -self.allowance else None

    def _pairs(self, p_value: Callable[[float], float]) -> int | None:
        """How many pairs take a p-value to 5%: its normal deviate grows about as the root of their number."""

        def short(root: float) -> float:
            p = p_value(root * root / self.number)
            return _WANTED + _NORMAL.inv_cdf(min(max(p, 1e-300), 1 - 1e-9))

        low = math.sqrt(self.number)
        off_low = short(low)
        if off_low <= 0:
            return self.number
        high, off_high = low, off_low
        while off_high > 0:
            if high * high > MOST_SEEDS:
                return None
            low, off_low = high, off_high
            deviate = max(_WANTED - off_low, _WANTED / _WIDEST_STEP)
            high = low * max(1.1 * _WANTED / deviate, 1.2)
            off_high = short(high)
        for _ in range(_SEARCH_STEPS):
            root = low + (high - low) * off_low / (off_low - off_high)
            off = short(root)
            if off > 0:
                low, off_low, off_high = root, off, off_high / 2
            else:
                high, off_high, off_low = root, off, off_low / 2
            if high * high - low * low < max(_NEAR, _NEAR_SHARE * high * high):
                break
        return math.ceil(high * high - _NEAR)
