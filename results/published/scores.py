"""The scores behind a printed mean: what a few seeds must have scored, given the mean, the range or who compiled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from statistics import pvariance
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from results.published.source import Line

_MOST_WAYS: Final = 200_000
"""Ways to score that are tried; three seeds of 15 points have 816."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Scores of seeds whose order is not known.

    Attributes:
        points: one a seed, ascending.
        sure: whether no others have what is printed; where others have, these are the furthest apart, so that what
            follows from them says too little rather than too much.
    """

    points: tuple[float, ...]
    sure: bool


def scores_behind(line: Line) -> Behind | None:
    """The scores that a line's mean was made of; None where the line does not say enough, or contradicts itself."""
    mean, full = line.figure("score"), line.figure("score_max")
    if mean is None or full is None:
        return None
    seeds, step = line.values.get("seeds"), line.figure("score_step")
    if not seeds or len(seeds) == 1:
        return Behind((mean.value,), sure=True)
    if step is None:
        return None
    levels = round(full.value / step.value) + 1
    if comb(levels + len(seeds) - 1, len(seeds)) > _MOST_WAYS:
        return None
    near = (mean.half + 1e-9) * len(seeds)
    ways = [
        points
        for points in combinations_with_replacement([level * step.value for level in range(levels)], len(seeds))
        if abs(sum(points) - mean.value * len(seeds)) <= near and all(_agrees(line, points))
    ]
    if not ways:
        return None
    return Behind(max(ways, key=pvariance), sure=len(ways) == 1)


def _agrees(line: Line, points: tuple[float, ...]) -> Iterator[bool]:
    low, high = line.figure("score_low"), line.figure("score_high")
    compiled, least = line.figure("compiles"), line.values.get("compiled_from")
    yield low is None or points[0] == low.value
    yield high is None or points[-1] == high.value
    if compiled is not None and least is not None:
        yield sum(each >= least for each in points) == compiled.value
        yield sum(each > 0 for each in points) == compiled.value
