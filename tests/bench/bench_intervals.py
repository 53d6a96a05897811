"""How often the intervals of means hold, and how often verdicts are wrong, for scores of the shapes that exams give.

For each shape and number of seeds 10,000 draws, seeded: the share of intervals (95%) that hold the true mean, by ours
(`results.bounded`), by Student and, where an answer passes or fails, by Wilson. Student gives none where all scores are
alike, which counts as not holding it. Then pairs of cells whose true means are equal: how often one is called `better`
or `worse`; and pairs that are apart by the allowance: how often they are called `equivalent`. Usage:

    python -m tests.bench.bench_intervals [--draws 10000] [--seeds 3 5 8 12 20 62]

Exit code 1 where, beyond what so many draws scatter, ours holds in fewer than 93% for any shape from five seeds on,
or a verdict is wrong in more than 5%.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from results.bounded import SOME, mean_interval, share_below, weighed, with_ends
from results.stats import mean_interval as student_interval
from results.stats import rate_interval
from results.verdict import ALLOWANCE, verdict_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NOMINAL: Final = 0.95
LEAST: Final = 0.93
MOST_WRONG: Final = 0.05
FEWEST: Final = 5
"""Seeds from which on the intervals have to hold; with three nothing that is of use does for every shape."""


@dataclass(frozen=True)
class Shape:
    """A distribution of scores as shares of full marks."""

    name: str
    chances: Mapping[float, float]

    @property
    def mean(self) -> float:
        """The true mean."""
        return sum(value * chance for value, chance in self.chances.items()) / sum(self.chances.values())

    def draws(self, chance: random.Random, seeds: int, times: int) -> Counter[tuple[float, ...]]:
        """So many samples, sorted, with how often each came."""
        values, cumulated = list(self.chances), list(accumulate(self.chances.values()))
        return Counter(tuple(sorted(chance.choices(values, cum_weights=cumulated, k=seeds))) for _ in range(times))


def passing(rate: float) -> Shape:
    """Full marks with a chance of `rate`, else none."""
    return Shape(f"all or nothing, {rate:.0%}", {0.0: 1 - rate, 1.0: rate})


SHAPES: Final = (
    passing(0.5),
    passing(2 / 3),
    passing(0.9),
    Shape("/100, everything from 0 to 100", {0: 0.05, 0.28: 0.2, 0.438: 0.1, 0.6: 0.25, 0.95: 0.1, 1: 0.3}),
    Shape("/100, mostly full marks", {0.28: 0.03, 0.6: 0.07, 1: 0.9}),
    Shape("/15, mostly 14", {9 / 15: 0.05, 10 / 15: 0.05, 13 / 15: 0.1, 14 / 15: 0.75, 1: 0.05}),
    Shape("/15, 14 or seldom 9", {9 / 15: 0.05, 14 / 15: 0.95}),
    Shape("/10, 0 or 5-7, 60% build", {0: 0.4, 0.5: 0.2, 0.6: 0.2, 0.7: 0.2}),
    Shape("/10, 0 or 5-7, 33% build", {0: 0.67, 0.5: 0.11, 0.6: 0.11, 0.7: 0.11}),
)

EQUAL: Final = (
    *((shape, shape) for shape in (SHAPES[1], SHAPES[2], SHAPES[3], SHAPES[5], SHAPES[7])),
    (Shape("15, seldom 5", {1.0: 0.9, 5 / 15: 0.1}), Shape("always 14", {14 / 15: 1.0})),
    (Shape("100, seldom 0", {1.0: 0.95, 0.0: 0.05}), Shape("always 95", {0.95: 1.0})),
    (Shape("100 or 28", {0.28: 5 / 9, 1.0: 4 / 9}), Shape("always 60", {0.6: 1.0})),
    (SHAPES[7], Shape("all or nothing, 36%", {0.0: 0.64, 1.0: 0.36})),
)
"""Pairs of shapes with equal means."""

APART: Final = (
    (passing(0.95), passing(1.0)),
    (passing(0.85), passing(0.9)),
    (Shape("always 95", {0.95: 1.0}), passing(1.0)),
    (Shape("14, seldom 4", {14 / 15: 0.925, 4 / 15: 0.075}), Shape("always 14", {14 / 15: 1.0})),
)
"""Pairs of shapes of which the first is lower by the allowance."""


def student_holds(values: Sequence[float], mean: float) -> bool:
    """Whether Student's interval at 95% holds `mean`; False where he gives none."""
    found = student_interval(values)
    return found is not None and found.low <= mean <= found.high


def ours_holds(values: Sequence[float], mean: float) -> bool:
    """Whether our interval holds `mean`, which its two ends need not be looked for to tell."""
    if mean in {0.0, 1.0} or len(set(values)) == 1:
        found = mean_interval(values, 0.0, 1.0)
        return found is not None and found.low - 1e-9 <= mean <= found.high + 1e-9
    share = share_below(with_ends(weighed(values), 0.0, 1.0, at_low=SOME, at_high=SOME), mean)
    return (1 - NOMINAL) / 2 <= share <= (1 + NOMINAL) / 2


def wilson_holds(values: Sequence[float], mean: float) -> bool:
    """Whether Wilson's interval of the rate of full marks holds `mean`."""
    found = rate_interval(sum(value == 1.0 for value in values), len(values))
    return found is not None and found.low <= mean <= found.high


def coverage(shape: Shape, seeds: int, draws: int, chance: random.Random) -> tuple[float, float, float | None]:
    """Shares of `draws` samples whose interval holds the true mean: ours, Student's, and of pass and fail Wilson's."""
    samples = shape.draws(chance, seeds, draws)
    mean = shape.mean
    shares = [
        sum(times for values, times in samples.items() if holds(values, mean)) / draws
        for holds in (ours_holds, student_holds, wilson_holds)
    ]
    return shares[0], shares[1], shares[2] if set(shape.chances) == {0.0, 1.0} else None


def verdicts(one: Shape, other: Shape, seeds: int, draws: int, chance: random.Random) -> Mapping[str, float]:
    """Shares of the verdicts on `one` against `other`, of samples that are drawn apart and paired."""
    values, others = list(one.chances), list(other.chances)
    weights = list(accumulate(one.chances.values())), list(accumulate(other.chances.values()))
    samples: Counter[tuple[float, ...]] = Counter()
    for _ in range(draws):
        ours = chance.choices(values, cum_weights=weights[0], k=seeds)
        theirs = chance.choices(others, cum_weights=weights[1], k=seeds)
        samples[tuple(sorted(round(a - b, 9) for a, b in zip(ours, theirs, strict=True)))] += 1
    found: Counter[str] = Counter()
    for differences, times in samples.items():
        found[verdict_on(differences)] += times
    return {verdict: times / draws for verdict, times in found.items()}


def _scatter(draws: int) -> float:
    """How far so many draws may be below a share of 95% by chance: three standard deviations."""
    return 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / draws)


def table_of_intervals(seeds: Sequence[int], draws: int) -> Iterator[tuple[str, bool]]:
    """The lines, each with whether all is well."""
    yield "| scores | intervals by | " + " | ".join(f"{number} seeds" for number in seeds) + " |", True
    yield "|---" * (2 + len(seeds)) + "|", True
    for shape in SHAPES:
        chance = random.Random(shape.name)
        found = [coverage(shape, number, draws, chance) for number in seeds]
        well = all(
            ours >= LEAST - _scatter(draws)
            for number, (ours, _, _) in zip(seeds, found, strict=True)
            if number >= FEWEST
        )
        yield f"| {shape.name} | ours | " + " | ".join(f"{ours:.1%}" for ours, _, _ in found) + " |", well
        yield "| | Student | " + " | ".join(f"{student:.1%}" for _, student, _ in found) + " |", True
        if found[0][2] is not None:
            yield "| | Wilson | " + " | ".join(f"{wilson:.1%}" for _, _, wilson in found) + " |", True


def table_of_verdicts(seeds: Sequence[int], draws: int) -> Iterator[tuple[str, bool]]:
    """The lines, each with whether all is well."""
    yield "| cells | wrong verdict | " + " | ".join(f"{number} seeds" for number in seeds) + " |", True
    yield "|---" * (2 + len(seeds)) + "|", True
    for one, other in EQUAL:
        chance = random.Random(one.name + other.name)
        found = [verdicts(one, other, number, draws, chance) for number in seeds]
        shares = [(each.get("better", 0.0), each.get("worse", 0.0)) for each in found]
        well = all(max(pair) <= MOST_WRONG + _scatter(draws) for pair in shares)
        cells = " | ".join(f"{better:.1%} / {worse:.1%}" for better, worse in shares)
        yield f"| {one.name}; {other.name} (equal means) | better / worse | {cells} |", well
    for one, other in APART:
        chance = random.Random(one.name + other.name)
        wrong = [verdicts(one, other, number, draws, chance).get("equivalent", 0.0) for number in seeds]
        cells = " | ".join(f"{share:.1%}" for share in wrong)
        name = f"{one.name}; {other.name} ({100 * ALLOWANCE:.0f} points apart)"
        yield f"| {name} | equivalent | {cells} |", max(wrong) <= MOST_WRONG + _scatter(draws)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 8, 12, 20, 62])
    options = parser.parse_args()
    began = time.perf_counter()
    well = True
    for table in (table_of_intervals, table_of_verdicts):
        for line, good in table(options.seeds, options.draws):
            print(line + ("" if good else "  <- beyond"), flush=True)
            well = well and good
        print()
    print(f"{options.draws:,} draws a cell, {time.perf_counter() - began:.0f} s")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
