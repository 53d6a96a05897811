"""Textbook statistics: distributions, Wilson's interval of a rate, pass@k, McNemar's test, several tests at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE: Final = 0.95
MOST_SEEDS: Final = 10_000
"""No advice goes beyond so many seeds: it would say no more than "a tie"."""

FIRST_SHARE: Final = 0.65
"""Of the error of `in_order` that the first test has for itself: five seeds that all fall by full marks pass it."""

_FRACTION_STEPS = 300
_TINY = 1e-300
_EPSILON = 1e-15


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval that covers the true value in a share `confidence` of samples."""

    low: float
    high: float
    confidence: float = CONFIDENCE


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b) for 0 <= x <= 1 and a, b > 0.

    Continued fraction DLMF 8.17.22, evaluated by the modified Lentz method (DLMF 3.10(iii)).
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d, value = 1.0, 0.0, 1.0
    for step in range(_FRACTION_STEPS):
        m = step // 2
        if step == 0:
            numerator = 1.0
        elif step % 2 == 0:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + numerator * d or _TINY)
        c = 1 + numerator / c or _TINY
        value *= c * d
        if abs(1 - c * d) < _EPSILON:
            break
    return front * (value - 1)


def student_cdf(t: float, df: float) -> float:
    """Probability that Student's t with `df` degrees of freedom is at most `t` (DLMF 8.17, NIST handbook 1.3.6.6.4)."""
    tail = incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=1 << 14)
def student_quantile(p: float, df: float) -> float:
    """The t that Student's distribution with `df` degrees of freedom stays below with probability `p`, 0 < p < 1.

    Remembered: the quants of a large run ask for a handful of them tens of thousands of times.
    """
    if p < 0.5:
        return -student_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while student_cdf(high, df) < p:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if student_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=1 << 12)
def beta_quantile(p: float, a: float, b: float) -> float:
    """The x that a Beta(a, b) distribution stays below with probability `p`, 0 < p < 1; by halving."""
    low, high = 0.0, 1.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if incomplete_beta(middle, a, b) < p else (low, middle)
    return (low + high) / 2


def standard_deviation(values: Sequence[float]) -> float | None:
    """Of the population that `values` is a sample of (n - 1); None for fewer than two.

    In two passes of exactly added floats: `statistics.stdev` reckons in fractions, and takes ten times as long.
    """
    if len(values) < 2:
        return None
    if min(values) == max(values):
        return 0.0  # their mean may be rounded, and then differs from each of them
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's interval for the mean of `values`; None for fewer than three, and where all are equal.

    For scores of exams it holds too seldom (`python -m tests.bench.bench_intervals`): `results.bounded` has ours.
    """
    sd = standard_deviation(values)
    if len(values) < 3 or not sd:
        return None
    half = student_quantile((1 + confidence) / 2, len(values) - 1) * sd / math.sqrt(len(values))
    mean = fmean(values)
    return Interval(mean - half, mean + half, confidence)


def rate_interval(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Wilson's score interval for a rate (Wilson 1927); None without trials."""
    if trials == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At the ends the exact limits are 0 and 1; rounding must not exclude what was seen.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(low, high, confidence)


def pass_at(k: int, passed: int, draws: int) -> float | None:
    """Probability that one or more of `k` draws pass, estimated without bias from `draws` of which `passed` did.

    1 - C(draws - passed, k) / C(draws, k) (Chen and others 2021, equation 1); None for fewer draws than k.
    """
    if not 0 < k <= draws:
        return None
    return 1 - math.comb(draws - passed, k) / math.comb(draws, k)


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test: `won` and `lost` of the pairs that differ (McNemar 1947).

    Six pairs that all go one way are the fewest that come below 5%.
    """
    differing = won + lost
    tail = sum(math.comb(differing, number) for number in range(min(won, lost) + 1))
    return min(math.ldexp(tail, 1 - differing), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` as they count when all are looked at: below 5% together in at most 5% of cases (Holm 1979)."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(p_values[place] * (len(p_values) - rank), 1.0))
        adjusted[place] = highest
    return adjusted


def in_order(p_values: Sequence[float]) -> list[float]:
    """`p_values` of claims in the order in which they are expected to hold, as they count when all are looked at.

    The fallback procedure (Wiens and Dmitrienko 2005): each claim has its share of the error, the first FIRST_SHARE,
    the others what is left in equal parts, and takes over what the claims before it had, as far back as all of them
    hold. So claims that hold one after the other cost no more than one, and one further on may still hold by itself.
    The order must not depend on the values. Below 5% together in at most 5% of cases, as with `holm`.
    """
    rest = (1 - FIRST_SHARE) / max(len(p_values) - 1, 1)
    shares = [FIRST_SHARE if len(p_values) > 1 else 1.0, *[rest] * (len(p_values) - 1)]
    adjusted: list[float] = []
    for place, p_value in enumerate(p_values):
        error, before, least = 0.0, 0.0, 1.0
        for first in range(place, -1, -1):
            error += shares[first]
            least = min(least, max(p_value / error, before))
            before = max(before, adjusted[first - 1]) if first else before
            if before >= least:
                break
        adjusted.append(least)
    return adjusted
