"""Comparisons of cells whose seeds were chosen by score: looking often does not make them wrong."""

from __future__ import annotations

import random

import pytest

from results.anytime import compared_at_any_time
from results.contest import Rule
from results.verdict import Pairs, paired, verdict_on

RULE = Rule(5, 60, 0.05)


def pairs(*differences: float, name: str = "a") -> Pairs:
    scores = {("t", seed): 100 * max(value, 0.0) for seed, value in enumerate(differences)}
    others = {("t", seed): 100 * max(-value, 0.0) for seed, value in enumerate(differences)}
    return paired(name, scores, "b", others, 100.0)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [([-1.0] * 8, "worse"), ([1.0] * 8, "better"), ([-1.0] * 3, "undecided"), ([1.0, -1.0] * 20, "undecided")],
)
def test_verdicts(differences: list[float], verdict: str) -> None:
    (found,) = compared_at_any_time([pairs(*differences)], RULE)
    assert found.verdict == verdict
    assert found.difference == pytest.approx(100 * sum(differences) / len(differences))
    assert found.interval is not None
    assert found.difference is not None
    assert found.interval.low <= found.difference <= found.interval.high


def test_a_wide_margin_makes_equals_equivalent() -> None:
    (found,) = compared_at_any_time([pairs(*[0.0] * 60)], Rule(5, 60, 0.2))
    assert found.verdict == "equivalent"
    assert found.not_worse


def test_cells_without_pairs_are_undecided() -> None:
    (found,) = compared_at_any_time([pairs()], RULE)
    assert (found.verdict, found.difference, found.interval, found.kept) == ("undecided", None, None, False)


def test_tasks_of_a_seed_are_one_and_a_seed_that_lacks_one_is_left_out() -> None:
    ours = {("one", 1): 100.0, ("two", 1): 0.0, ("one", 2): 100.0}
    theirs = {("one", 1): 0.0, ("two", 1): 0.0, ("one", 2): 0.0}
    assert paired("a", ours, "b", theirs, 100.0).by_seed == (0.5,)


def test_looking_after_every_seed_is_wrong_seldom_where_fixed_bounds_would_be_wrong_often() -> None:
    """Two cells that are equally good, looked at after every seed: who ever calls one of them better is wrong."""
    chance = random.Random(3)
    wrong = by_fixed = 0
    for _ in range(80):
        differences = [float(chance.random() < 0.6) - float(chance.random() < 0.6) for _ in range(60)]
        looks = range(6, 61, 6)
        wrong += any(
            compared_at_any_time([pairs(*differences[:look])], RULE)[0].verdict in {"better", "worse"} for look in looks
        )
        by_fixed += any(verdict_on(differences[:look]) in {"better", "worse"} for look in looks)
    assert wrong <= 0.05 * 80
    assert by_fixed > 0.08 * 80
