from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.bounded import (
    SOME,
    WHOLE,
    interval_of,
    mean_interval,
    mean_quantile,
    share_below,
    weighed,
    with_ends,
)
from results.stats import beta_quantile, incomplete_beta, mcnemar

if TYPE_CHECKING:
    from collections.abc import Sequence

SCORES = st.lists(st.sampled_from([0.0, 0.28, 0.438, 0.6, 14 / 15, 0.95, 1.0]), min_size=1, max_size=60)


def by_knots(knots: Sequence[float], threshold: float) -> float:
    """Share below of different values that weigh one each: the integral of a B-spline (Curry and Schoenberg 1966)."""
    number = len(knots) - 1
    return 1 - sum(
        (one - threshold) ** number / math.prod(one - other for other in knots if other != one)
        for one in knots
        if one > threshold
    )


@pytest.mark.parametrize("knots", [(0.0, 0.28, 0.6, 1.0), (0.0, 0.1, 0.2, 0.9, 1.0), (-1.0, -0.4, 0.0, 0.1, 0.3, 0.6)])
def test_shares_are_near_those_of_a_spline_in_the_tails(knots: tuple[float, ...]) -> None:
    values = weighed(knots)
    looked = 0
    for step in range(1, 200):
        threshold = knots[0] + (knots[-1] - knots[0]) * step / 200
        exact = by_knots(knots, threshold)
        if 0.001 < exact < 0.1 or 0.9 < exact < 0.999:
            looked += 1
            assert share_below(values, threshold) == pytest.approx(exact, abs=0.005)
        else:
            assert share_below(values, threshold) == pytest.approx(exact, abs=0.03)
    assert looked > 20


@pytest.mark.parametrize(("passed", "draws"), [(0, 5), (3, 5), (5, 5), (14, 20), (59, 60)])
def test_for_pass_and_fail_it_is_a_beta_distributions_interval(passed: int, draws: int) -> None:
    found = mean_interval([1.0] * passed + [0.0] * (draws - passed), 0.0, 1.0)
    assert found is not None
    low = 0.0 if passed == 0 else beta_quantile(0.025, passed + SOME, draws - passed + SOME)
    high = 1.0 if passed == draws else beta_quantile(0.975, passed + SOME, draws - passed + SOME)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("passed", "draws"), [(3, 5), (4, 5), (14, 20)])
def test_with_a_whole_score_at_the_end_it_is_clopper_and_pearsons_bound(passed: int, draws: int) -> None:
    values = with_ends(weighed([1.0] * passed + [0.0] * (draws - passed)), 0.0, 1.0, at_low=WHOLE, at_high=0)
    bound = mean_quantile(values, 0.05)
    # Their lower bound is the rate at which so many or more passes have a chance of 5%.
    chance = sum(
        math.comb(draws, number) * bound**number * (1 - bound) ** (draws - number)
        for number in range(passed, draws + 1)
    )
    assert chance == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("won", "lost", "equal"), [(6, 0, 0), (7, 2, 0), (9, 3, 5), (12, 4, 20)])
def test_with_a_whole_pair_at_the_end_it_is_mcnemars_exact_test(won: int, lost: int, equal: int) -> None:
    """Pairs that are equal drop out, as there; among several values the saddlepoint is near."""
    values = weighed([1.0] * won + [-1.0] * lost + [0.0] * equal)
    p = 2 * share_below(with_ends(values, -1.0, 1.0, at_low=WHOLE, at_high=0), 0.0)
    assert p == pytest.approx(mcnemar(won, lost), abs=0.006)


@settings(deadline=None, max_examples=60)
@given(SCORES)
def test_an_interval_holds_the_mean_and_is_wider_when_surer(scores: list[float]) -> None:
    narrow, wide = (mean_interval(scores, 0.0, 1.0, confidence=confidence) for confidence in (0.9, 0.99))
    assert narrow is not None
    assert wide is not None
    mean = sum(scores) / len(scores)
    assert 0 <= wide.low <= narrow.low <= mean + 1e-9
    assert mean - 1e-9 <= narrow.high <= wide.high <= 1


@settings(deadline=None, max_examples=60)
@given(SCORES, st.floats(0.02, 0.98))
def test_a_quantile_is_where_its_share_lies(scores: list[float], p: float) -> None:
    values = with_ends(weighed(scores), 0.0, 1.0, at_low=SOME, at_high=SOME)
    assert share_below(values, mean_quantile(values, p)) == pytest.approx(p, abs=0.01)


@settings(deadline=None, max_examples=60)
@given(SCORES)
def test_the_interval_of_the_mirrored_scores_is_the_mirrored_interval(scores: list[float]) -> None:
    one, other = mean_interval(scores, 0.0, 1.0), mean_interval([1 - score for score in scores], 0.0, 1.0)
    assert one is not None
    assert other is not None
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=2e-3)


def test_equal_scores_leave_it_wide_and_more_of_them_less() -> None:
    widths = [found.high - found.low for number in (3, 5, 20, 60) if (found := mean_interval([14.0] * number, 0, 15))]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 4
    assert widths[1] > 5
    assert mean_interval([], 0.0, 15.0) is None


def test_scores_outside_of_their_scale_are_taken_for_its_ends() -> None:
    """Rows of somebody else's run may hold them."""
    assert mean_interval([150.0, 20.0], 0.0, 100.0) == mean_interval([100.0, 20.0], 0.0, 100.0)
    assert interval_of(weighed([0.0]), 0.0, 0.0).high == 0.0


def test_very_many_values_go_on_a_grid_that_keeps_their_mean() -> None:
    chance = random.Random(3)
    scores = [chance.random() for _ in range(500)]
    grid = weighed(scores)
    assert len(grid) == 24
    assert sum(weight for _, weight in grid) == pytest.approx(500)
    assert sum(value * weight for value, weight in grid) == pytest.approx(sum(scores))


def test_the_share_of_one_value_is_none_or_all() -> None:
    assert share_below(((0.5, 3.0),), 0.4) == 0.0
    assert share_below(((0.5, 3.0),), 0.6) == 1.0
    assert incomplete_beta(0.5, 2, 2) == pytest.approx(share_below(((0.0, 2.0), (1.0, 2.0)), 0.5))
