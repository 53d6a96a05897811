"""Whether a quant keeps the score of the larger ones, and how sure a handful of seeds makes that.

A quant *kept* the score where its mean is at most ALLOWANCE of full marks below that of the best larger quant, over the
answers that both have: one for each seed, of each task where the exam has several. That is what was seen. Whether it
*keeps* it is another question, asked at 95%, one-sided:

- `keeps`: Student's bound on the mean difference is above the allowance, and there were enough seeds that a failure in
  more than ALLOWANCE of replies would not have gone unseen (59 seeds; Clopper and Pearson). The second is needed
  because equal scores on a few seeds make Student's interval as narrow as nothing.
- `loses`: Student's bound is below the allowance; or, where every pair shows the same fall f, which leaves Student
  nothing to go on, (ALLOWANCE / f) ** n <= 5% (Markov's inequality on each of n independent pairs).
- `undecided`: neither. `more_seeds` says about how many more would tell, if they go on as the ones so far.

Pairs share task and seed, not their random draws: pairing takes the exam's chance out, not the sampler's. Tasks on
which a fall differs widen Student's bound, although the tasks are the same every time: that errs on the side of saying
too little. The best of several larger quants is a little flattered by being the best, which errs on the side of keeping
the larger one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal

from results.stats import CONFIDENCE, MOST_SEEDS, mean_interval, standard_deviation, trials_to_bound, trials_to_tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results.stats import Interval
    from results.summary import QuantSummary

ALLOWANCE: Final = 0.05
"""Share of full marks by which a mean may fall and still count as kept."""

FEWEST_SEEDS: Final = 3
GOOD_SEEDS: Final = 5

_ROUNDING = 1e-9
"""A fall of exactly the allowance is within it."""

Certainty = Literal["keeps", "loses", "undecided"]

Verdict = Literal["better", "worse", "equivalent", "undecided"]
"""What is known of a true mean difference d, in shares of full marks, wherever two cells are compared.

`equivalent`: |d| is within the allowance. `better`, `worse`: d is above 0, below 0. `undecided`: none is shown yet.
Where d is shown to be above 0 and within the allowance, too little to matter, the verdict is `equivalent`. So every d
gives a verdict with enough seeds: there is no border on which seeds are spent for ever.
"""


def judged(wide: Interval | None, narrow: Interval | None, allowance: float = ALLOWANCE) -> Verdict:
    """The verdict that intervals of a mean difference give, in shares of full marks; None where there is none yet.

    Args:
        wide: Two-sided at 95%: what lies outside is refused at 2.5% on each side.
        narrow: Two-sided at 90%: two one-sided tests at 5% each (TOST; Schuirmann 1987).
        allowance: How far the means may be apart and still be worth the same.
    """
    if narrow is not None and -allowance <= narrow.low and narrow.high <= allowance:
        return "equivalent"
    if wide is not None and wide.low > 0:
        return "better"
    if wide is not None and wide.high < 0:
        return "worse"
    return "undecided"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quant against the best larger one.

    Attributes:
        reference: The larger quant with the highest mean.
        pairs: Tasks and seeds that both have a score for.
        tasks, seeds: How many of each those are of.
        difference: Mean of quant - reference over those pairs, in points; None without pairs.
        lowest: Student's one-sided bound at 95% on that difference, in points; None where he gives none (fewer than
            three pairs, or all differences equal).
        kept: Whether the difference is within the allowance, over at least FEWEST_SEEDS pairs.
        certainty: Whether it is so beyond these seeds, at 95%.
        more_seeds: About how many more seeds, of all those tasks, would tell; None where none are needed, or more than
            stats.MOST_SEEDS.
    """

    quant: str
    reference: str
    pairs: int
    tasks: int
    seeds: int
    difference: float | None
    lowest: float | None
    kept: bool
    certainty: Certainty
    more_seeds: int | None


def compare(quant: QuantSummary, larger: Sequence[QuantSummary]) -> Comparison:
    """`quant` against the best of the `larger` ones, of which there is at least one; all of them have scores."""
    reference = max(larger, key=lambda summary: summary.mean or 0.0)
    full = quant.score_max or 1.0
    theirs = {score[:2]: score.points for score in reference.scores}
    both = [score for score in quant.scores if score[:2] in theirs]
    differences = [(score.points - theirs[score[:2]]) / full for score in both]
    pairs = len(differences)
    if not pairs:
        return Comparison(quant.quant, reference.quant, 0, 0, 0, None, None, False, "undecided", GOOD_SEEDS)
    tasks = len({score.task for score in both})
    mean = fmean(differences)
    # Two-sided at 90%, so that each bound is one-sided at 95%.
    bounds = mean_interval(differences, confidence=2 * CONFIDENCE - 1)
    within = mean >= -ALLOWANCE - _ROUNDING
    certainty, needed = _keeping(differences, mean) if within else _losing(differences, mean)
    return Comparison(
        quant=quant.quant,
        reference=reference.quant,
        pairs=pairs,
        tasks=tasks,
        seeds=len({score.seed for score in both}),
        difference=mean * full,
        lowest=None if bounds is None else bounds.low * full,
        kept=within and pairs >= FEWEST_SEEDS,
        certainty=certainty,
        more_seeds=None if certainty != "undecided" or needed is None else max(math.ceil((needed - pairs) / tasks), 1),
    )


def _keeping(differences: Sequence[float], mean: float) -> tuple[Certainty, int | None]:
    """How sure a mean within the allowance is, and how many pairs would do (None: beyond all measure)."""
    sd = standard_deviation(differences) or 0.0
    by_student = trials_to_tell(sd, mean + ALLOWANCE) if sd else FEWEST_SEEDS
    if by_student is None:
        return "undecided", None
    needed = max(by_student, trials_to_bound(ALLOWANCE))
    return ("keeps" if len(differences) >= needed else "undecided"), needed


def _losing(differences: Sequence[float], mean: float) -> tuple[Certainty, int | None]:
    """How sure a mean beyond the allowance is, and how many pairs would do (None: beyond all measure)."""
    fall = -mean
    sd = standard_deviation(differences) or 0.0
    if sd:
        needed = trials_to_tell(sd, fall - ALLOWANCE)
    else:
        needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(ALLOWANCE / fall))
    if needed is None or needed > MOST_SEEDS:
        return "undecided", None
    needed = max(needed, FEWEST_SEEDS)
    return ("loses" if len(differences) >= needed else "undecided"), needed
