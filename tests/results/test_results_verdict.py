"""Verdicts and intervals held against draws, few and seeded; `tests/bench/bench_intervals.py` has the whole tables."""

from __future__ import annotations

import random

import pytest

from results.stats import mcnemar
from results.verdict import ALLOWANCE, Pairs, compared, verdict_on
from tests.bench.bench_intervals import APART, EQUAL, LEAST, SHAPES, Shape, coverage, verdicts

DRAWS = 400
SCATTER = 0.03
"""Three standard deviations of a share of 5% over so many draws."""


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_intervals_hold_the_true_mean(shape: Shape) -> None:
    for seeds in (5, 12):
        ours, student, _ = coverage(shape, seeds, DRAWS, random.Random(seeds))
        assert ours >= LEAST - SCATTER
        assert ours >= student - 0.01


def test_students_interval_would_not() -> None:
    _, student, _ = coverage(SHAPES[5], 8, DRAWS, random.Random(1))
    assert student < 0.8  # mostly 14 of 15


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda shape: shape.name)
def test_equal_means_are_seldom_called_better_or_worse(one: Shape, other: Shape) -> None:
    assert one.mean == pytest.approx(other.mean, abs=0.002)
    found = verdicts(one, other, 12, DRAWS, random.Random(2))
    assert found.get("better", 0) <= 0.05
    assert found.get("worse", 0) <= 0.05


@pytest.mark.parametrize(("one", "other"), APART, ids=lambda shape: shape.name)
def test_means_as_far_apart_as_is_allowed_are_seldom_called_equivalent(one: Shape, other: Shape) -> None:
    assert other.mean - one.mean == pytest.approx(ALLOWANCE)
    assert verdicts(one, other, 62, DRAWS, random.Random(3)).get("equivalent", 0) <= 0.05 + SCATTER


def test_verdicts_mirror() -> None:
    chance = random.Random(4)
    turned = {"better": "worse", "worse": "better"}
    for _ in range(60):
        differences = [chance.choice((-1.0, -0.4, -0.1, 0.0, 0.1, 0.7)) for _ in range(chance.randint(3, 30))]
        verdict = verdict_on(differences)
        assert verdict_on([-each for each in differences]) == turned.get(verdict, verdict)


def test_as_many_seeds_as_it_said_decide_and_one_fewer_do_not() -> None:
    for differences in ([-1.0, -1.0, 0.0], [0.0] * 5, [-0.3, -0.1, -0.2, 0.1], [0.02, 0.0, 0.02]):
        (found,) = compared([Pairs("one", "other", tuple(differences), 1, len(differences), 100.0)])
        assert found.verdict == "undecided"
        assert found.more_seeds is not None
        number = len(differences) + found.more_seeds

        def like_these(seeds: int, differences: list[float] = differences) -> list[float]:
            whole, rest = divmod(seeds, len(differences))
            return differences * whole + differences[:rest]

        assert verdict_on(like_these(number + len(differences))) != "undecided"
        assert verdict_on(like_these(number - len(differences))) == "undecided"


def test_what_is_called_better_is_so_by_mcnemars_test_with_mid_p_too() -> None:
    for won in range(4, 12):
        for lost in range(won):
            verdict = verdict_on([1.0] * won + [-1.0] * lost)
            exact = mcnemar(won, lost)
            if exact <= 0.05:
                assert verdict == "better"
            elif exact > 0.11:
                assert verdict == "undecided"
