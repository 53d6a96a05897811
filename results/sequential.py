"""Verdicts that may be asked for after every seed: tests by betting on the difference of two cells, one seed a pair.

A gambler bets on the claim that a mean is above a bound, seed by seed, with odds that are fair if it is not. Then the
stake of 1 grows to 1/a with a probability of at most a, ever (Ville's inequality): so whoever looks after every seed,
stops when he likes and goes on when he likes is wrong no more often than who looks once. Values have to be within
known limits, as scores are; nothing else is assumed of them. I. Waudby-Smith and A. Ramdas, Estimating means of bounded
random variables by betting, JRSS B 86 (2024), section 4; the stake is spread over a few fixed bets, as in F. Orabona
and K.-S. Jun, Tight concentrations and confidence sequences from the regret of universal portfolio (2023).

Of the cells of a model on an exam, d is a cell's true mean less that of the best, in shares of full marks. Two kinds of
false verdict, each bounded at ERROR, over all seeds and whichever cell seems best meanwhile:

- `worse` (d < 0) of a cell that is as good as the best: at most ERROR for all cells of the model together. Each ordered
  pair of K cells has a test of its own at ERROR / (K (K - 1)); a union bound.
- `equivalent` (d > -margin) of a cell that is worse than that: at most ERROR for each such cell, as long as the best is
  not one of those called worse. The cell has to pass a test at ERROR against every cell that is not called worse, the
  best among them, so nothing is to be divided (an intersection-union test).

Seeds are compared in their order, without gaps: which replies come first must not depend on how good they are. A seed
that the infrastructure failed is passed over: it is taken to say nothing of the answer that it would have had.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Final

from results.stats import Interval, standard_deviation

if TYPE_CHECKING:
    from collections.abc import Sequence

ERROR: Final = 0.05
"""How often each kind of false verdict may come."""

OPTIMISM: Final = 0.67
"""Standard deviations: one cell in four does better than that. More of it costs seeds and brings few verdicts more:
`python -m tests.bench.bench_adaptive` has the figures for 0.67."""

_RUIN: Final = 1e-3
"""What a bet is taken to leave that would leave nothing."""
_FINENESS: Final = math.sqrt(2)
_LEAST_FRACTION: Final = 0.02
_MOST_WEALTH: Final = 1e250  # far beyond every threshold, and no product of two such is needed


@lru_cache(maxsize=1024)
def fractions(least: float) -> tuple[float, ...]:
    """The bets that a stake is spread over: shares of the most that may be bet, from 1 down to about `least`."""
    steps = max(0.0, -math.log(min(1.0, max(least, _LEAST_FRACTION))) / math.log(_FINENESS))
    return tuple(_FINENESS**-step for step in range(math.floor(steps + 1e-9) + 1))


@dataclass(slots=True)
class Wager:
    """A stake of 1 on the claim that the mean of values within 0 and 1 is above `bound`, 0 < bound < 1.

    `peak` is the most it ever came to: 1/a or more has a probability of at most a, unless the claim is true.
    """

    bound: float
    bets: tuple[float, ...]
    peak: float = 1.0
    wealth: float = 1.0
    stakes: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.stakes = [1.0] * len(self.bets)

    def add(self, value: float) -> None:
        """Takes in the next value: the part at bet f grows by a factor of 1 - f + f value / bound."""
        ratio = value / self.bound
        pairs = zip(self.stakes, self.bets, strict=True)
        self.stakes = [min(stake * (1.0 - bet + bet * ratio), _MOST_WEALTH) for stake, bet in pairs]
        self.wealth = sum(self.stakes) / len(self.bets)
        self.peak = max(self.peak, self.wealth)


def may_win(values: Sequence[float], wager: Wager, *, threshold: float, more: int) -> bool:
    """Whether a wager that has taken `values` may come to `threshold` within `more` values that are like them.

    It decides nothing but whether more are worth asking for, so it may be rough, on the side of asking: one value of 1
    is added to those seen, and the growth of each bet taken to be OPTIMISM standard deviations better than so far, as
    far as so many values leave it open.
    """
    wanted = math.log(threshold * len(wager.bets))
    seen = (*values, 1.0)
    for bet, stake in zip(wager.bets, wager.stakes, strict=True):
        if stake <= 0:
            continue
        growth = [math.log(max(1.0 - bet + bet * value / wager.bound, _RUIN)) for value in seen]
        spread = (standard_deviation(growth) or 0.0) * math.sqrt(more + more * more / len(seen))
        if math.log(stake) + more * fmean(growth) + OPTIMISM * spread >= wanted:
            return True
    return False


def mean_sequence(values: Sequence[float], *, error: float = ERROR, least: float = 0.05) -> Interval:
    """The interval of the mean of `values`, within 0 and 1, that may be asked for after every value.

    It is right after all of them at once in a share 1 - `error` of cases (a confidence sequence). `least` is the
    smallest bet: smaller ones serve longer sequences.
    """
    mirrored = [1.0 - value for value in values]
    low = _lowest(values, 2 / error, fractions(least))
    return Interval(low, max(low, 1.0 - _lowest(mirrored, 2 / error, fractions(least))), 1 - error)


def difference_sequence(differences: Sequence[float], *, error: float = ERROR, least: float = 0.05) -> Interval:
    """The same for the mean of differences of two scores, each within -1 and 1."""
    found = mean_sequence([(value + 1) / 2 for value in differences], error=error, least=least)
    return Interval(2 * found.low - 1, 2 * found.high - 1, found.confidence)


def _lowest(values: Sequence[float], threshold: float, bets: tuple[float, ...]) -> float:
    """The highest bound that a wager has beaten: what it comes to falls as the bound rises, so it is cut in halves."""

    def beats(bound: float) -> bool:
        wager = Wager(bound, bets)
        for value in values:
            wager.add(value)
        return wager.wealth >= threshold

    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if beats(middle) else (low, middle)
    return low
