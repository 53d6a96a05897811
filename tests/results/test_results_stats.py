from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.stats import (
    beta_quantile,
    holm,
    in_order,
    incomplete_beta,
    mcnemar,
    mean_interval,
    pass_at,
    rate_interval,
    standard_deviation,
    student_cdf,
    student_quantile,
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


def test_a_deviation_needs_two() -> None:
    assert standard_deviation([1.0]) is None
    assert standard_deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_two_of_three_say_little() -> None:
    wilson = rate_interval(2, 3)
    assert wilson is not None
    assert (wilson.low, wilson.high) == pytest.approx((0.21, 0.94), abs=0.005)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.999), st.floats(0.5, 80), st.floats(0.5, 80))
def test_a_quantile_of_the_beta_distribution_is_where_its_share_lies(p: float, a: float, b: float) -> None:
    assert incomplete_beta(beta_quantile(p, a, b), a, b) == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize(("passed", "draws", "k"), [(0, 5, 1), (2, 5, 1), (2, 5, 3), (3, 5, 3), (5, 5, 5), (1, 6, 2)])
def test_pass_at_k_is_the_share_of_all_choices_with_a_pass(passed: int, draws: int, k: int) -> None:
    choices = [choice for choice in product(range(draws), repeat=k) if len(set(choice)) == k]
    found = sum(any(one < passed for one in choice) for choice in choices) / len(choices)
    assert pass_at(k, passed, draws) == pytest.approx(found)


def test_fewer_draws_than_k_say_nothing_of_it() -> None:
    assert pass_at(3, 2, 2) is None


def test_mcnemars_test_is_the_coin_of_the_pairs_that_differ() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == 0.0625
    assert mcnemar(0, 6) == 0.03125
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)


def test_holms_correction_is_the_published_one() -> None:
    # Step by step: 0.01 x 4, 0.015 x 3, 0.03 x 2, 0.04; none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.015]) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_students_interval_of_three_is_the_published_one() -> None:
    interval = mean_interval([0, 6, 6])
    assert interval is not None
    assert (interval.low + interval.high) / 2 == pytest.approx(4.0)
    assert (interval.high - interval.low) / 2 == pytest.approx(8.6, abs=0.01)
    assert mean_interval([14.0, 14.0, 14.0]) is None


class TestInOrder:
    def test_claims_that_hold_one_after_the_other_cost_little(self) -> None:
        assert in_order([0.01]) == [0.01]
        assert in_order([]) == []
        first, second, third = in_order([0.01, 0.03, 0.2])
        assert first == pytest.approx(0.01 / 0.65)
        assert second == pytest.approx(0.03 / 0.825)
        assert third == pytest.approx(0.2)

    def test_one_that_does_not_hold_leaves_the_others_their_own_share(self) -> None:
        assert in_order([1.0, 0.001, 0.001]) == pytest.approx([1.0, 0.001 / 0.175, 0.001 / 0.175])
        assert in_order([1.0, 0.001, 0.01]) == pytest.approx([1.0, 0.001 / 0.175, 0.01 / 0.35])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
    def test_it_is_what_the_procedure_does_at_any_error(self, p_values: list[float], error: float) -> None:
        """By the definition: each claim's share, and what the run of claims before it that hold had."""
        shares = [1.0] if len(p_values) == 1 else [0.65, *[0.35 / (len(p_values) - 1)] * (len(p_values) - 1)]
        holds, carried = [], 0.0
        for p_value, share in zip(p_values, shares, strict=True):
            carried += share
            holds.append(p_value <= error * carried)
            carried = carried if holds[-1] else 0.0
        near = [abs(p - error) < 1e-9 for p in in_order(p_values)]
        assert [p <= error or close for p, close in zip(in_order(p_values), near, strict=True)] == [
            held or close for held, close in zip(holds, near, strict=True)
        ]

    def test_false_claims_stay_below_the_error(self) -> None:
        """True claims first, then false ones: p-values of false ones are drawn from all of 0 to 1."""
        chance = random.Random(1)
        wrong = 0
        for _ in range(4000):
            p_values = [chance.random() * 1e-4 for _ in range(2)] + [chance.random() for _ in range(3)]
            wrong += min(in_order(p_values)[2:]) <= 0.05
        assert wrong / 4000 < 0.06
