from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.stats import (
    MOST_SEEDS,
    incomplete_beta,
    mean_interval,
    rate_interval,
    standard_deviation,
    student_cdf,
    student_quantile,
    trials_to_bound,
    trials_to_tell,
    unseen_rate,
)


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [
        # NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2, and closed forms for 1 and 2.
        (0.975, 1, math.tan(math.pi * 0.475)),
        (0.975, 2, 2 * 0.475 * math.sqrt(2 / (1 - (2 * 0.475) ** 2))),
        (0.90, 3, 1.638),
        (0.95, 4, 2.132),
        (0.975, 4, 2.776),
        (0.975, 9, 2.262),
        (0.975, 29, 2.045),
        (0.995, 10, 3.169),
        (0.999, 5, 5.893),
        (0.975, 100, 1.984),
    ],
)
def test_students_quantiles_are_those_of_the_tables(p: float, df: int, t: float) -> None:
    assert student_quantile(p, df) == pytest.approx(t, abs=6e-4)
    assert student_quantile(1 - p, df) == pytest.approx(-t, abs=6e-4)


def test_many_degrees_of_freedom_give_the_normal_distribution() -> None:
    assert student_quantile(0.975, 1_000_000) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize(
    ("x", "a", "b", "value"),
    [
        (0.5, 2, 3, 0.6875),  # 1 - (1/2)^4 (1 + 4 / 1) by the binomial sum
        (0.3, 0.5, 0.5, 2 / math.pi * math.asin(math.sqrt(0.3))),
        (0.2, 1, 5, 1 - 0.8**5),
        (0.0, 2, 2, 0.0),
        (1.0, 2, 2, 1.0),
    ],
)
def test_the_incomplete_beta_function_equals_its_closed_forms(x: float, a: float, b: float, value: float) -> None:
    assert incomplete_beta(x, a, b) == pytest.approx(value, abs=1e-12)


@settings(deadline=None)
@given(st.floats(0.0005, 0.9995), st.integers(1, 3000))
def test_quantile_and_distribution_undo_each_other(p: float, df: int) -> None:
    assert student_cdf(student_quantile(p, df), df) == pytest.approx(p, abs=1e-9)


@settings(deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.1, 500), st.floats(0.1, 500))
def test_the_incomplete_beta_function_is_a_probability_with_its_reflection(x: float, a: float, b: float) -> None:
    value = incomplete_beta(x, a, b)
    assert -1e-12 <= value <= 1 + 1e-12
    assert value + incomplete_beta(1 - x, b, a) == pytest.approx(1, abs=1e-9)


def test_three_seeds_say_little() -> None:
    interval = mean_interval([0, 6, 6])
    assert interval is not None
    assert (interval.low + interval.high) / 2 == pytest.approx(4.0)
    assert (interval.high - interval.low) / 2 == pytest.approx(8.6, abs=0.01)
    wilson = rate_interval(2, 3)
    assert wilson is not None
    assert (wilson.low, wilson.high) == pytest.approx((0.21, 0.94), abs=0.005)


@pytest.mark.parametrize("values", [[], [14.0], [14.0, 13.0], [14.0, 14.0, 14.0]])
def test_there_is_no_interval_where_none_would_be_honest(values: list[float]) -> None:
    assert mean_interval(values) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=3, max_size=30))
def test_an_interval_is_about_the_mean_and_wider_when_surer(values: list[float]) -> None:
    narrow, wide = mean_interval(values, confidence=0.9), mean_interval(values, confidence=0.99)
    if narrow is None or wide is None:
        assert stdev(values) < 1e-100  # the squares of such differences are 0
        return
    assert (narrow.low + narrow.high) / 2 == pytest.approx(fmean(values), abs=1e-6)
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilsons_interval_holds_the_rate_within_0_and_1(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    interval = rate_interval(successes, trials)
    assert interval is not None
    assert 0 <= interval.low <= successes / trials <= interval.high <= 1


def test_wilsons_interval_of_no_failures_is_the_published_one() -> None:
    interval = rate_interval(10, 10)  # Newcombe 1998, table I: 0 of 10 gives 0 to 0.2775
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((1 - 0.2775, 1.0), abs=1e-4)
    assert rate_interval(0, 0) is None


def test_what_a_few_trials_leave_open() -> None:
    assert unseen_rate(5) == pytest.approx(0.4507, abs=1e-4)  # 0.5493^5 = 5%
    assert unseen_rate(0) == 1.0
    assert trials_to_bound(0.05) == 59
    assert unseen_rate(59) <= 0.05 < unseen_rate(58)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_advised_number_of_trials_is_the_least_that_tells(sd: float, distance: float) -> None:
    trials = trials_to_tell(sd, distance)

    def half_width(n: int) -> float:
        return student_quantile(0.95, n - 1) * sd / math.sqrt(n)

    if trials is None:
        assert half_width(MOST_SEEDS) > distance
    else:
        assert half_width(trials) <= distance
        assert trials == 2 or half_width(trials - 1) > distance


def test_no_number_of_trials_tells_what_lies_on_the_border() -> None:
    assert trials_to_tell(0.4, 0.0) is None
    assert trials_to_tell(1.0, 1e-6) is None


def test_a_deviation_needs_two() -> None:
    assert standard_deviation([1.0]) is None
    assert standard_deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))
