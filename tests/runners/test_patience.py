"""How many deaths of an engine a lease outlives."""

from __future__ import annotations

from runners.outcomes import Outcome
from runners.patience import Patience


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_deaths_in_a_row_end_the_lease_and_name_the_last_outcome() -> None:
    patience = Patience(2)
    assert [bool(patience.give_up()) for _ in range(2)] == [False, False]
    patience.lost(1.0, Outcome.STALLED)
    patience.lost(1.0)
    assert "3 times in a row" in patience.give_up()
    assert patience.outcome is Outcome.STALLED


def test_a_crash_in_twenty_jobs_is_outlived_for_ever() -> None:
    clock = Clock()
    patience = Patience(2, clock)
    for job in range(10_000):
        clock.now_s += 60.0
        if job % 20 == 0:
            patience.lost(60.0 + 30.0, Outcome.SERVER_CRASH)
            clock.now_s += 30.0
            assert not patience.give_up()
        else:
            patience.answered()


def test_an_engine_that_dies_more_than_it_answers_is_given_up_whatever_comes_between() -> None:
    clock = Clock()
    patience = Patience(5, clock)
    for _ in range(100):
        clock.now_s += 100.0
        patience.lost(60.0)
        patience.answered()
        if why := patience.give_up():
            assert "660 s of 1100 s of this lease came to nothing" in why
            return
    raise AssertionError("never given up")


def test_two_errors_of_its_own_in_a_row_and_the_engine_is_started_anew() -> None:
    patience = Patience(2)
    assert [patience.refused(), patience.refused()] == [False, True]
    patience.answered()
    assert not patience.refused()
