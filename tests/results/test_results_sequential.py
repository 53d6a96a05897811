"""Tests by betting: what they may be wrong about, how often, whatever the scores look like and whoever looks when."""

from __future__ import annotations

import math
import random
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.contest import Contest, Rule
from results.sequential import Wager, difference_sequence, fractions, may_win, mean_sequence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHARES = st.floats(0, 1)
SHAPES = {
    "all or nothing": ([0.0, 1.0], [0.3, 0.7]),
    "rare failures": ([0.0, 1.0], [0.04, 0.96]),
    "graded": ([0.0, 0.28, 0.5, 0.84, 0.94, 1.0], [0.1, 0.1, 0.1, 0.2, 0.2, 0.3]),
    "most at 14 of 15": ([0.0, 0.4, 13 / 15, 14 / 15, 1.0], [0.05, 0.05, 0.1, 0.7, 0.1]),
    "0 or 5 to 7 of 10": ([0.0, 0.5, 0.6, 0.7], [0.4, 0.2, 0.2, 0.2]),
}


def wealth_of(values: Sequence[float], bound: float, bets: tuple[float, ...]) -> Wager:
    wager = Wager(bound, bets)
    for value in values:
        wager.add(value)
    return wager


@given(values=st.lists(SHARES, max_size=40), bound=st.floats(0.01, 0.99), least=st.floats(0.02, 1))
def test_a_wager_never_owes_and_remembers_the_most_it_came_to(values: list[float], bound: float, least: float) -> None:
    wager = Wager(bound, fractions(least))
    peaks = [1.0]
    for value in values:
        wager.add(value)
        assert wager.wealth >= 0
        peaks.append(wager.wealth)
    assert wager.peak == max(peaks)
    assert math.isfinite(wager.peak)


@given(values=st.lists(SHARES, min_size=1, max_size=40), low=st.floats(0.05, 0.5), high=st.floats(0.5, 0.95))
def test_a_lower_bound_is_beaten_by_more(values: list[float], low: float, high: float) -> None:
    bets = fractions(0.1)
    assert wealth_of(values, low, bets).wealth >= wealth_of(values, high, bets).wealth * (1 - 1e-9)


@given(values=st.lists(SHARES, min_size=1, max_size=30), shuffled=st.randoms())
def test_what_is_won_in_the_end_does_not_depend_on_the_order(values: list[float], shuffled: random.Random) -> None:
    other = list(values)
    shuffled.shuffle(other)
    one, two = (wealth_of(each, 0.5, fractions(0.1)).wealth for each in (values, other))
    assert one == pytest.approx(two)


@pytest.mark.parametrize("shape", SHAPES)
def test_whoever_looks_after_every_seed_is_wrong_about_a_mean_no_more_often_than_said(shape: str) -> None:
    values, weights = SHAPES[shape]
    mean = sum(value * weight for value, weight in zip(values, weights, strict=True))
    rng, wrong, rounds = random.Random(f"mean {shape}"), 0, 600
    for _ in range(rounds):
        drawn = rng.choices(values, weights, k=100)
        wrong += wealth_of(drawn, mean, fractions(0.1)).peak >= 20
    # At 5% or less, more than 7.5% of 600 come once in 300 tries; the draws are the same every time.
    assert wrong / rounds <= 0.075


@given(values=st.lists(SHARES, min_size=1, max_size=60))
@settings(max_examples=50)
def test_an_interval_holds_the_mean_of_what_was_seen_and_no_more_than_can_be(values: list[float]) -> None:
    found = mean_sequence(values)
    assert 0 <= found.low <= fmean(values) + 1e-5
    assert fmean(values) - 1e-5 <= found.high <= 1


def test_an_interval_of_differences_is_that_of_scores_on_another_scale() -> None:
    found = difference_sequence([-1.0, -0.5, -1.0, 0.0, -1.0, -1.0, -1.0, -0.5] * 2)
    assert -1 <= found.low < -0.75 < found.high < 0


def test_small_bets_are_made_only_where_there_is_time_to_win_them() -> None:
    assert fractions(1.0) == (1.0,)
    assert fractions(0.7) == pytest.approx((1.0, 0.7071), abs=1e-4)
    assert len(fractions(0.1)) == 7


def test_what_cannot_be_won_any_more_is_not_waited_for() -> None:
    even, bets = [0.0, 1.0] * 10, fractions(0.4)
    assert not may_win(even, wealth_of(even, 0.5, bets), threshold=240, more=40)
    nearly = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.5]
    assert may_win(nearly, wealth_of(nearly, 0.5, bets), threshold=240, more=200)
    assert not may_win(nearly, wealth_of(nearly, 0.5, bets), threshold=240, more=5)
    rising = [1.0, 1.0, 1.0, 0.5, 1.0]
    assert may_win(rising, wealth_of(rising, 0.5, bets), threshold=240, more=20)


# --- contests ---------------------------------------------------------------------------------------------------


def run(cells: Mapping[str, Sequence[float | None]], rule: Rule) -> Contest:
    """Plays a sweep on one device: as long as a cell is asked for seeds, it gets the next."""
    contest = Contest(cells, rule)
    while asked := [name for name, target in contest.targets().items() if target > contest.seeds(name)]:
        contest.put(asked[0], contest.seeds(asked[0]), cells[asked[0]][contest.seeds(asked[0])])
    return contest


def seeds_of(contest: Contest, *names: str) -> list[int]:
    return [contest.seeds(name) for name in names]


def test_a_hopeless_cell_is_told_after_eight_seeds_and_stops() -> None:
    contest = run({"good": [1.0] * 60, "hopeless": [0.0] * 60}, Rule(5, 60, 0.05))
    assert contest.look().standings == {"good": "best", "hopeless": "worse"}
    assert contest.seeds("hopeless") <= 8
    assert contest.seeds("good") <= 10


def test_two_perfect_cells_are_equivalent_after_as_many_seeds_as_it_takes_without_looking() -> None:
    contest = run({"one": [1.0] * 60, "two": [1.0] * 60}, Rule(5, 60, 0.05))
    assert contest.look().standings == {"one": "best", "two": "equivalent"}
    assert contest.seeds("two") in {59, 60}  # 0.95^59 < 5%: the fewest that show it


def test_an_undecided_cell_gets_the_next_seeds_and_others_go_along_only_to_be_compared_with() -> None:
    undecided = [1.0, 0.0, 1.0, 1.0, 1.0] * 12
    contest = run({"good": [1.0] * 60, "hopeless": [0.0] * 60, "close": undecided}, Rule(5, 60, 0.05))
    assert contest.look().standings["hopeless"] == "worse"
    assert contest.seeds("hopeless") <= 10
    assert contest.seeds("close") > 20
    assert contest.seeds("good") >= contest.seeds("close") - 1


def test_a_verdict_that_is_not_to_be_had_before_the_cap_costs_no_more_seeds() -> None:
    rng = random.Random(5)
    cells = {name: [float(rng.random() < 0.5) for _ in range(60)] for name in ("one", "two")}
    contest = run(cells, Rule(5, 60, 0.05))
    assert "undecided" in contest.look().standings.values()
    assert contest.seeds("one") < 60


def test_a_lone_cell_runs_until_its_mean_is_known_to_the_margin() -> None:
    contest = run({"only": [1.0] * 500}, Rule(5, 500, 0.05))
    assert contest.look().standings == {"only": "measured"}
    assert 30 <= contest.seeds("only") <= 100
    capped = run({"only": [1.0, 0.0] * 30}, Rule(5, 60, 0.05))
    assert (capped.look().standings, capped.seeds("only")) == ({"only": "undecided"}, 60)


def test_failures_of_the_infrastructure_are_no_scores_and_a_cell_of_nothing_else_stops() -> None:
    contest = run({"good": [1.0] * 60, "broken": [None] * 60, "patchy": [None, 1.0] * 30}, Rule(5, 60, 0.05))
    found = contest.look().standings
    assert (found["broken"], contest.seeds("broken")) == ("unscored", 5)
    assert found["patchy"] == "undecided", "half of 60 seeds show no equivalence"


def test_nobody_waits_for_a_cell_that_nobody_can_run() -> None:
    contest = Contest(["one", "two", "huge"], Rule(5, 60, 0.05))
    for name in ("one", "two"):
        for place in range(5):
            contest.put(name, place, 1.0)
    assert contest.targets() == {"one": 5, "two": 5, "huge": 5}
    contest.leave_out({"huge"})
    assert contest.targets() == {"one": 10, "two": 10, "huge": 5}


def test_seeds_that_come_out_of_turn_wait_for_those_before_them() -> None:
    contest = Contest(["one"], Rule(5, 60, 0.05))
    contest.put("one", 1, 1.0)
    assert contest.seeds("one") == 0
    contest.put("one", 0, 1.0)
    assert contest.seeds("one") == 2


scores = st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0, None]), min_size=0, max_size=25)


@settings(max_examples=150, deadline=None)
@given(cells=st.lists(scores, min_size=1, max_size=4), order=st.randoms(), mended=st.booleans())
def test_the_same_scores_come_to_the_same_end_in_whatever_order_they_came(
    cells: list[list[float | None]], order: random.Random, mended: bool
) -> None:
    names = [f"c{number}" for number in range(len(cells))]
    rule = Rule(3, 25, 0.1)
    plain, mixed = Contest(names, rule), Contest(names, rule)
    events = [(name, place, share) for name, own in zip(names, cells, strict=True) for place, share in enumerate(own)]
    for event in events:
        plain.put(*event)
    order.shuffle(events)
    for name, place, share in events:
        if mended and order.random() < 0.3:  # a failure that is made good later, with looks in between
            mixed.put(name, place, None)
            mixed.targets()
        mixed.put(name, place, share)
        if order.random() < 0.3:
            mixed.targets()
    assert mixed.look() == plain.look()
    assert mixed.targets() == plain.targets()
    assert all(target >= plain.seeds(name) for name, target in plain.targets().items())
    assert max(plain.targets().values()) <= rule.most


def drawn(shape: str, rng: random.Random, seeds: int) -> list[float | None]:
    values, weights = SHAPES[shape]
    return list(rng.choices(values, weights, k=seeds))


@pytest.mark.parametrize("shape", ["all or nothing", "graded", "0 or 5 to 7 of 10"])
def test_of_equally_good_cells_hardly_any_is_ever_called_worse(shape: str) -> None:
    rng, wrong, rounds = random.Random(f"equal {shape}"), 0, 60
    for _ in range(rounds):
        contest = run({str(n): drawn(shape, rng, 40) for n in range(3)}, Rule(5, 40, 0.05))
        wrong += "worse" in contest.look().standings.values()
    assert wrong / rounds <= 0.1, "at most 5% of models; three more of 60 by chance"


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_cell_that_is_worse_by_the_margin_is_seldom_called_equivalent(share: float) -> None:
    """Scores of 0 or `share`, true means 0.2 apart, a margin of 0.2: nothing is harder to tell."""
    rng, wrong, rounds = random.Random(f"margin {share}"), 0, 120
    for _ in range(rounds):
        good = [share * (rng.random() < 0.95) for _ in range(80)]
        worse = [share * (rng.random() < 0.95 - 0.2 / share) for _ in range(80)]
        wrong += run({"good": good, "worse": worse}, Rule(5, 80, 0.2)).look().standings["worse"] == "equivalent"
    assert wrong / rounds <= 0.1, "at most 5%; six more of 120 by chance"


def test_a_cell_that_nobody_can_run_stays_asked_for() -> None:
    """Asked for no more, it waited for no place any more, and so was asked for again: the state machine did not end."""
    contest = Contest(["alone"], Rule(2, 12, 0.3))
    for place, share in enumerate((1.0, 0.0)):
        contest.put("alone", place, share)
    asked = contest.targets()
    assert asked["alone"] > 2
    contest.leave_out({"alone"})
    assert contest.targets() == asked
