"""Means of scores that lie between known ends: their intervals and tests, in closed form, from a few draws on.

A mean of n scores is weighed anew: each score gets a random share of the whole, Dirichlet's, as in Rubin's Bayesian
bootstrap (1981), and so do the two ends of the scale, which stand for what these draws did not show. How far the mean
then goes is its uncertainty. No draws are made: the shares of such a mean are known (`share_below`).

For the interval of a mean the ends weigh 0.6 of a score each (`SOME`): for pass and fail that is nearly Jeffreys'
interval, which covers as often as it says on average (Brown, Cai and DasGupta 2001). For differences they weigh a whole
pair each (`WHOLE`), or the test would be wrong too often where a rare failure makes up for a small gain; for pass and
fail that is near McNemar's test with mid-P (Fagerland and others 2013). With a whole score at the one end that speaks
against a claim it is Gaffke's bound (2004), which for pass and fail is that of Clopper and Pearson, for pairs McNemar's
exact test, and has not been seen to fail for anything between (Learned-Miller and Thomas 2019).
`python -m tests.bench.bench_intervals` holds all of them against draws.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, TypeAlias

from results.stats import CONFIDENCE, Interval, beta_quantile, incomplete_beta

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Weighed: TypeAlias = "tuple[tuple[float, float], ...]"
"""Values with their weights, each value once, ascending."""

SOME: Final = 0.6
"""A little more than Jeffreys' half: for pass rates from 1/3 to 95% and 5 to 62 draws the interval then holds in 92.4%
or more, with his in 89.4% (worked out, not drawn)."""
WHOLE: Final = 1.0

_NORMAL: Final = NormalDist()
_DECIMALS: Final = 9
"""Values that differ further behind are the same: differences of scores are rounded ones."""
_MOST_VALUES: Final = 24
"""Of more different values than these, each is shared out between the two next points of a grid of as many."""
_MANY: Final = 40
"""From so many draws on, moments up to the fourth say where a quantile lies."""
_SKEW: Final = 0.35
_EXCESS: Final = 0.25
"""Up to such skewness and excess they do so, to a twentieth of the chance that is asked for, or better."""
_FAR: Final = 3.5
"""Standard deviations; further out moments are no guide."""
_STEPS: Final = 60


def weighed(values: Iterable[float]) -> Weighed:
    """How often each value is there; of very many, on a grid that keeps their mean and widens them by a hundredth."""
    counts: Counter[float] = Counter()
    for value, count in Counter(values).items():
        counts[round(value, _DECIMALS)] += count
    if len(counts) <= _MOST_VALUES:
        return tuple(sorted((value, float(count)) for value, count in counts.items()))
    low, high = min(counts), max(counts)
    step = (high - low) / (_MOST_VALUES - 1)
    grid = [0.0] * _MOST_VALUES
    for value, count in counts.items():
        place = min(int((value - low) / step), _MOST_VALUES - 2)
        upper = (value - low) / step - place
        grid[place] += count * (1 - upper)
        grid[place + 1] += count * upper
    return tuple((low + place * step, weight) for place, weight in enumerate(grid) if weight > 0)


def with_ends(values: Weighed, low: float, high: float, *, at_low: float = SOME, at_high: float = SOME) -> Weighed:
    """`values` and the ends of their scale, with what these weigh."""
    found = dict(values)
    for end, weight in ((low, at_low), (high, at_high)):
        if weight:
            found[end] = found.get(end, 0.0) + weight
    return tuple(sorted(found.items()))


def scaled(values: Weighed, times: float) -> Weighed:
    """`values` as if there were so many times as many of them."""
    return tuple((value, weight * times) for value, weight in values)


def share_below(values: Weighed, threshold: float) -> float:
    """Probability that the mean of `values` is at most `threshold`, their shares being Dirichlet's with these weights.

    That is the probability that sum(g (value - threshold)) <= 0 for independent Gamma(weight) g. For two values it is
    a Beta distribution's; for more it comes from the saddlepoint of that sum (Lugannani and Rice 1980). From three
    scores on that is off by less than 0.005 in the tails (below 0.1, above 0.9), which are what is asked for, and by up
    to 0.03 between them.
    """
    ys = [(value - threshold, weight) for value, weight in values]
    lowest, highest = ys[0][0], ys[-1][0]
    if highest <= 0:
        return 1.0
    if lowest >= 0:
        return 0.0
    if len(ys) == 2:
        return incomplete_beta(-lowest / (highest - lowest), ys[1][1], ys[0][1])
    mean, deviation, skewness, kurtosis, near = _moments(values)
    x = (threshold - mean) / deviation
    if near and abs(x) <= _FAR:
        skew, bent = skewness * (x * x - 1) / 6, skewness * skewness * (4 * x**3 - 7 * x) / 36
        return _NORMAL.cdf(x - skew - kurtosis * (x**3 - 3 * x) / 24 + bent)
    s = _saddlepoint(ys, 1 / lowest, 1 / highest)
    curvature = cumulant = third = 0.0
    for y, weight in ys:
        z = y / (1 - s * y)
        curvature += weight * z * z
        third += 2 * weight * z * z * z
        cumulant -= weight * math.log1p(-s * y)
    w = math.copysign(math.sqrt(max(-2 * cumulant, 0.0)), s)
    if abs(w) < 1e-3:  # the limit: its two terms would cancel
        return 0.5 + third / (6 * math.sqrt(2 * math.pi) * math.pow(curvature, 1.5))
    share = _NORMAL.cdf(w) + _NORMAL.pdf(w) * (1 / w - 1 / (s * math.sqrt(curvature)))
    return min(max(share, 0.0), 1.0)


def _saddlepoint(ys: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Where sum(weight y / (1 - s y)) is 0, between `low` and `high`: by Newton's steps, halved where they leave."""
    s = 0.0
    span = high - low
    for _ in range(_STEPS):
        slope = curvature = 0.0
        for y, weight in ys:
            z = y / (1 - s * y)
            slope += weight * z
            curvature += weight * z * z
        if slope > 0:
            high = s
        else:
            low = s
        after = s - slope / curvature
        if not low < after < high:
            after = (low + high) / 2
        if abs(after - s) <= 1e-9 * span:
            return after
        s = after
    return s


def mean_quantile(values: Weighed, p: float) -> float:
    """The mean that `values` stay below with probability `p`, weighed as in `share_below`; 0 < p < 1."""
    low, high = values[0][0], values[-1][0]
    if low == high:
        return low
    if len(values) == 2:
        return low + (high - low) * beta_quantile(p, values[1][1], values[0][1])
    guess, near = _by_moments(values, p)
    if near:
        return min(max(guess, low), high)
    return _by_secant(values, p, low, high)


def _by_secant(values: Weighed, p: float, low: float, high: float) -> float:
    """The root of share_below - p, by false position on the normal scale, halved where that is slow."""
    wanted = _NORMAL.inv_cdf(p)
    tolerance = 1e-6 * (high - low)
    at_low, at_high = -8.0 - wanted, 8.0 - wanted
    for step in range(_STEPS):
        t = (low * at_high - high * at_low) / (at_high - at_low) if step % 3 else (low + high) / 2
        share = min(max(share_below(values, t), 1e-15), 1 - 1e-15)
        off = _NORMAL.inv_cdf(share) - wanted
        if off > 0:
            high, at_high = t, off
        else:
            low, at_low = t, off
        if high - low <= tolerance or abs(off) < 1e-6:
            return t
    return (low + high) / 2


def _by_moments(values: Weighed, p: float) -> tuple[float, bool]:
    """The quantile by Cornish and Fisher's expansion (1938), and whether it is near enough."""
    mean, deviation, skewness, kurtosis, near = _moments(values)
    z = _NORMAL.inv_cdf(p)
    bent = (
        z + (z * z - 1) * skewness / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skewness * skewness / 36
    )
    return mean + deviation * bent, near


def _moments(values: Weighed) -> tuple[float, float, float, float, bool]:
    """Mean, standard deviation, skewness and excess of a Dirichlet mean, and whether these say all that is asked."""
    total = sum(weight for _, weight in values)
    mean = sum(value * weight for value, weight in values) / total
    second = third = fourth = 0.0
    for value, weight in values:
        off = value - mean
        square = off * off
        second += weight * square
        third += weight * square * off
        fourth += weight * square * square
    second, third, fourth = second / total, third / total, fourth / total
    # Central moments of a Dirichlet mean: of weights a of sum A, from the moments of the values under a / A.
    variance = second / (total + 1)
    skewness = 2 * third / ((total + 1) * (total + 2)) / math.pow(variance, 1.5)
    kurtosis = 3 * (2 * fourth + total * second**2) / ((total + 1) * (total + 2) * (total + 3)) / variance**2 - 3
    return (
        mean,
        math.sqrt(variance),
        skewness,
        kurtosis,
        total >= _MANY and abs(skewness) <= _SKEW and abs(kurtosis) <= _EXCESS,
    )


def mean_interval(
    values: Sequence[float], low: float, high: float, *, confidence: float = CONFIDENCE
) -> Interval | None:
    """The interval of the mean of `values`, each from `low` to `high`; None without any.

    It holds the mean seen. Draws that are all alike leave it wide: what they did not show may still be there.
    """
    return interval_of(weighed(values), low, high, confidence) if values else None


@lru_cache(maxsize=4096)
def interval_of(
    values: Weighed, low: float, high: float, confidence: float = CONFIDENCE, *, end: float = SOME
) -> Interval:
    """`mean_interval` of values that are weighed already, where each end of the scale weighs `end`."""
    if low >= high:
        return Interval(low, high, confidence)
    kept = tuple((min(max(value, low), high), weight) for value, weight in values)
    mean = sum(value * weight for value, weight in kept) / sum(weight for _, weight in kept)
    both = with_ends(kept, low, high, at_low=end, at_high=end)
    tail = (1 - confidence) / 2
    # At an end the limit is the end itself: nothing seen speaks against it (as with Jeffreys' interval).
    return Interval(
        low if mean <= low else min(mean_quantile(both, tail), mean),
        high if mean >= high else max(mean_quantile(both, 1 - tail), mean),
        confidence,
    )
