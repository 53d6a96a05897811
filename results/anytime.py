"""Comparisons of cells whose number of seeds was chosen by their scores: they hold however often somebody looked."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from results.sequential import ERROR, difference_sequence
from results.stats import Interval
from results.verdict import FEWEST_SEEDS, Comparison, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results.contest import Rule
    from results.verdict import Pairs

_ROUNDING = 1e-9


def compared_at_any_time(family: Sequence[Pairs], rule: Rule) -> tuple[Comparison, ...]:
    """A comparison for each of `family`, which are looked at together; `rule` is the one that chose their seeds.

    The mean of the seeds' differences has a confidence sequence at ERROR, divided by their number (a union bound): all
    verdicts are right together in a share 1 - ERROR of sweeps, whenever they are asked for. There are no p-values, and
    none can say how many seeds would decide: that is for `results.contest` to find out.
    """
    error = ERROR / max(len(family), 1)
    # Smaller bets than this are not won within the cap (results.contest). It may not depend on the seeds there are.
    least = min(math.sqrt(4 * math.log(2 / error) / rule.most), 1.0)
    return tuple(_comparison(pairs, rule.margin, error, least) for pairs in family)


def _comparison(pairs: Pairs, margin: float, error: float, least: float) -> Comparison:
    there = bool(pairs.by_seed)
    known = difference_sequence(pairs.by_seed, error=error, least=least) if there else Interval(-1.0, 1.0)
    mean = fmean(pairs.by_seed) if there else None
    verdict = _verdict(known, margin)
    return Comparison(
        name=pairs.name,
        reference=pairs.reference,
        pairs=len(pairs.differences),
        tasks=pairs.tasks,
        seeds=pairs.seeds,
        difference=None if mean is None else mean * pairs.full,
        interval=Interval(known.low * pairs.full, known.high * pairs.full) if there else None,
        lowest=known.low * pairs.full if there else None,
        verdict=verdict,
        p_value=None,
        p_adjusted=None,
        mcnemar=None,
        kept=mean is not None and mean >= -margin - _ROUNDING and pairs.seeds >= FEWEST_SEEDS and verdict != "worse",
        not_worse=known.low > -margin,
        more_seeds=None,
        more_to_keep=None,
    )


def _verdict(known: Interval, margin: float) -> Verdict:
    if known.low > -margin and known.high < margin:
        return "equivalent"
    if known.low > 0:
        return "better"
    return "worse" if known.high < 0 else "undecided"
