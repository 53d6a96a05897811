"""What `seeds = "auto:5-60"` saves and how often it is wrong, beside fixed seeds, by simulation over shapes of scores.

    python -m tests.bench.bench_adaptive [--models 200] [--least 5] [--most 60] [--margin 5] [--workers 2]

Models of five cells are drawn again and again. `mixed`: two cells are as good as the best, one is worse by exactly the
margin (calling it equivalent is false, and nothing is harder to tell), one clearly, one hopelessly. `equal`: all are
equally good, so that calling any of them worse is false. Beside the rule of results/contest.py, over the same draws:

- `fixed`: all cells get the same number of seeds, and verdicts are asked for once, at the end: Student's bounds at the
  same levels, no cell equivalent on fewer seeds than could show it (59, as results/verdict.py has it). `same` is the
  least number with which it comes to as many right verdicts as `auto`.
- `peek`: the same bounds, asked for after every block until they say something: what must not be done.

`false worse` is in models with any such verdict, `false equivalent` in cells that are worse by the margin or more. GPU
time counts loads too: a block of a cell that is not the one loaded costs one (of --load-s, a job takes --job-s).
"""

from __future__ import annotations

import argparse
import math
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from results.contest import Contest, Rule
from results.sequential import ERROR
from results.stats import mean_interval

Shape = tuple[tuple[float, float], ...]
"""Shares of full marks, each with its probability."""

GOOD: dict[str, tuple[Shape, Shape]] = {
    # A good answer and a bad one; a cell's quality is how often it gives the good one.
    "0 or 100": (((1.0, 1.0),), ((0.0, 1.0),)),
    "/100, several modes": (
        ((1.0, 0.55), (0.94, 0.25), (0.84, 0.15), (0.6, 0.05)),
        ((0.0, 0.3), (0.28, 0.3), (0.5, 0.25), (0.7, 0.15)),
    ),
    "/15, most at 14": (((1.0, 0.1), (14 / 15, 0.75), (13 / 15, 0.15)), ((0.0, 0.5), (0.4, 0.2), (0.6, 0.3))),
    "/10, 0 or 5 to 7": (((0.5, 0.3), (0.6, 0.4), (0.7, 0.3)), ((0.0, 1.0),)),
}
QUALITY = 0.9
CELLS = 5


def mean_of(shape: Shape) -> float:
    """The mean of a shape."""
    return sum(value * weight for value, weight in shape)


@dataclass(frozen=True)
class Population:
    """A model whose cells give a good answer with these probabilities."""

    shape: str
    kind: str
    qualities: tuple[float, ...]

    @property
    def means(self) -> list[float]:
        good, bad = map(mean_of, GOOD[self.shape])
        return [quality * good + (1 - quality) * bad for quality in self.qualities]

    def draw(self, rng: random.Random, seeds: int) -> list[list[float]]:
        """Scores of each cell, one a seed; that cells share a seed says nothing of their draws, as with a sampler."""
        good, bad = GOOD[self.shape]
        scores = []
        for quality in self.qualities:
            shapes = [good if rng.random() < quality else bad for _ in range(seeds)]
            scores.append([rng.choices(*zip(*shape, strict=True))[0] for shape in shapes])
        return scores


def populations(margin: float) -> list[Population]:
    """Both kinds of every shape."""
    found = []
    for shape, (good, bad) in GOOD.items():
        step = margin / (mean_of(good) - mean_of(bad))
        mixed = (QUALITY, QUALITY, QUALITY - step, max(QUALITY - 6 * step, 0.3), 0.05)
        found += [Population(shape, "mixed", mixed), Population(shape, "equal", (QUALITY,) * CELLS)]
    return found


@dataclass
class Tally:
    """What one way of choosing seeds came to over many models."""

    models: int = 0
    seeds: int = 0
    loads: int = 0
    right: int = 0
    false_worse: int = 0
    false_equivalent: int = 0
    not_equivalent: int = 0
    verdicts: int = 0

    def take(self, said: list[str], means: list[float], margin: float, seeds: int, loads: int) -> None:
        """Takes in the verdicts on one model."""
        top, tiny = max(means), 1e-9
        worse = [mean < top - tiny for mean in means]
        beyond = [mean <= top - margin + tiny for mean in means]
        wrong = [
            (word == "worse" and not is_worse) or (word == "equivalent" and is_beyond)
            for word, is_worse, is_beyond in zip(said, worse, beyond, strict=True)
        ]
        told = [word in {"worse", "equivalent"} for word in said]
        self.models += 1
        self.seeds += seeds
        self.loads += loads
        self.verdicts += sum(told)
        self.right += sum(told) - sum(wrong)
        self.false_worse += any(word == "worse" and not each for word, each in zip(said, worse, strict=True))
        self.false_equivalent += sum(word == "equivalent" and each for word, each in zip(said, beyond, strict=True))
        self.not_equivalent += sum(beyond)

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})


def by_contest(scores: list[list[float]], rule: Rule) -> tuple[list[str], int, int]:
    """Verdicts, seeds and loads of the rule on one device: it goes on with the loaded cell as long as that is asked."""
    contest = Contest(map(str, range(len(scores))), rule)
    loaded, loads = "", 0
    while asked := [name for name, target in contest.targets().items() if target > contest.seeds(name)]:
        if loaded not in asked:
            loaded, loads = asked[0], loads + 1
        place = contest.seeds(loaded)
        contest.put(loaded, place, scores[int(loaded)][place])
    found = contest.look().standings
    return list(found.values()), sum(map(contest.seeds, found)), loads


def by_student(scores: list[list[float]], seeds: int, margin: float) -> list[str]:
    """Verdicts over the first `seeds` of each cell, by Student's one-sided bounds."""
    means = [fmean(each[:seeds]) for each in scores]
    best = means.index(max(means))
    said = ["undecided"] * len(scores)
    said[best] = "best"
    at_worse = ERROR / (len(scores) * (len(scores) - 1))
    for cell, own in enumerate(scores):
        if cell == best:
            continue
        differences = [a - b for a, b in zip(own[:seeds], scores[best][:seeds], strict=True)]
        mean = fmean(differences)
        strict = mean_interval(differences, confidence=1 - 2 * at_worse)
        once = mean_interval(differences, confidence=1 - 2 * ERROR)
        if seeds >= math.log(ERROR) / math.log1p(-margin) and (mean > -margin if once is None else once.low > -margin):
            said[cell] = "equivalent"
        elif mean < 0 if strict is None else strict.high < 0:
            said[cell] = "worse"
    return said


def by_peeking(scores: list[list[float]], rule: Rule) -> tuple[list[str], int]:
    """The same, asked for after every block: whoever has a verdict stops and keeps it."""
    said, total = ["undecided"] * len(scores), 0
    seeds = 0
    while seeds < rule.most and "undecided" in said:
        look = rule.next_look(seeds)
        total += (look - seeds) * (said.count("undecided") + 1)
        seeds = look
        now = by_student(scores, seeds, rule.margin)
        said = [old if old in {"worse", "equivalent"} else new for old, new in zip(said, now, strict=True)]
    return said, total


def play(population: Population, seed: int, models: int, rule: Rule) -> dict[str, Tally]:
    """Draws models and lets each way judge them; fixed numbers of seeds are among the ways."""
    rng = random.Random(f"{population.shape} {population.kind} {seed}")
    tallies: dict[str, Tally] = {}

    def take(name: str, said: list[str], seeds: int, loads: int) -> None:
        tallies.setdefault(name, Tally()).take(said, population.means, rule.margin, seeds, loads)

    for _ in range(models):
        scores = population.draw(rng, rule.most)
        cells = len(scores)
        said, seeds, loads = by_contest(scores, rule)
        take("auto", said, seeds, loads)
        for number in sizes(rule):
            take(f"fixed {number}", by_student(scores, number, rule.margin), number * cells, cells)
        said, seeds = by_peeking(scores, rule)
        take("peek", said, seeds, cells)
    return tallies


def sizes(rule: Rule) -> list[int]:
    """Numbers of seeds that a person might fix."""
    found = [rule.least]
    while found[-1] < rule.most:
        found.append(min(rule.most, found[-1] + max(2, found[-1] // 6)))
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--least", type=int, default=5)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--margin", type=float, default=5.0)
    parser.add_argument("--job-s", type=float, default=30.0)
    parser.add_argument("--load-s", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rule = Rule(options.least, options.most, options.margin / 100)
    began = time.monotonic()
    part = max(1, options.models // options.workers)
    results: dict[Population, dict[str, Tally]] = {}
    with ProcessPoolExecutor(options.workers) as pool:
        waiting = {
            population: [pool.submit(play, population, n, part, rule) for n in range(options.workers)]
            for population in populations(rule.margin)
        }
        for population, futures in waiting.items():
            summed: dict[str, Tally] = {}
            for future in futures:
                for name, tally in future.result().items():
                    summed[name] = summed[name] + tally if name in summed else tally
            results[population] = summed
    print(
        f"auto:{rule.least}-{rule.most}, margin {options.margin:g}; {part * options.workers} models of 5 cells a line"
    )
    print(
        f"{'':27}{'seeds a cell':>18}{'right verdicts':>16}{'GPU time':>10}{'false worse':>21}{'false equivalent':>21}"
    )
    ways = f"{'auto':>9}{'fixed':>6}{'peek':>6}"
    print(
        f"{'scores':20} {'cells':6}{'auto':>6}{'fixed':>6}{'same':>6}{'auto':>10}{'fixed':>6}{'of fixed':>10}"
        f"{ways}{ways}"
    )
    total = dict.fromkeys(("auto", "fixed"), 0.0)
    for population, found in results.items():
        auto, fixed, peek = found["auto"], found[f"fixed {rule.most}"], found["peek"]
        cost = {
            name: t.seeds * options.job_s + t.loads * options.load_s for name, t in (("auto", auto), ("fixed", fixed))
        }
        total = {name: total[name] + cost[name] for name in total}
        print(
            f"{population.shape:20} {population.kind:6}{auto.seeds / (auto.models * CELLS):6.1f}{rule.most:6}"
            f"{as_many(auto, found, rule):>6}{auto.right / auto.models:10.2f}{fixed.right / fixed.models:6.2f}"
            f"{cost['auto'] / cost['fixed']:10.0%}"
            f"{shares([(t.false_worse, t.models) for t in (auto, fixed, peek)])}"
            f"{shares([(t.false_equivalent, t.not_equivalent) for t in (auto, fixed, peek)])}"
        )
    print(
        f"all: {total['auto'] / total['fixed']:.0%} of the GPU time of fixed seeds ({time.monotonic() - began:.0f} s)"
    )


def as_many(auto: Tally, found: dict[str, Tally], rule: Rule) -> str:
    """The least number of fixed seeds that brings as many right verdicts as `auto` did."""
    if not auto.right:
        return "-"
    return str(next((n for n in sizes(rule) if found[f"fixed {n}"].right >= auto.right), f">{rule.most}"))


def shares(counts: list[tuple[int, int]]) -> str:
    """Columns of percentages, `-` where there was nothing to be wrong about."""
    first, *rest = [f"{part / whole:.1%}" if whole else "-" for part, whole in counts]
    return f"{first:>9}" + "".join(f"{each:>6}" for each in rest)


if __name__ == "__main__":
    main()
