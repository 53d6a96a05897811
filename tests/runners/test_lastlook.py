"""What the rules make of an engine at the moment a reply's time is up, whatever the limit was."""

from __future__ import annotations

import pytest

from runners.lastlook import LastLook
from runners.stall import Pace, Signs, StallWatch


def before_the_limit(
    tokens_at: list[float] | None = None, *, progress_at: list[float] | None = None, limit_s: float, pace: Pace
) -> LastLook:
    """The rules at `limit_s`, after progress and tokens that came at these times."""
    watch = StallWatch(0.0)
    for at_s in progress_at or []:
        watch.heard(at_s, generating=False)
    for at_s in tokens_at or []:
        watch.heard(at_s, generating=True)
    since_s, explained_s = watch.silence(pace)
    return LastLook(limit_s, silent_since_s=since_s, explained_s=explained_s)


def ends(
    last: LastLook, limit_s: float, *, cpu: float = 0.0, steps: float = 0.0, looks: bool = True, **signs: bool | None
) -> tuple[float, str]:
    """After how long it is known whose fault it is, and what is said of the engine: nothing if it was the budget."""
    for half_seconds in range(200):
        now_s = limit_s + half_seconds / 2
        if looks:
            found = {"answered": True, **signs}
            last.look(now_s, Signs(**found, cpu_s=cpu * now_s, read=0, steps=int(steps * now_s)))  # type: ignore[arg-type]  # as the caller says
        if why := last.verdict(now_s):
            return now_s - limit_s, why
        if last.spent:
            return now_s - limit_s, ""
    raise AssertionError("nobody's")


UNKNOWN = Pace()
QUICK = Pace(prefill_s=1.0, gap_s=0.05)


@pytest.mark.parametrize("limit_s", [1.0, 20.0, 1800.0])
@pytest.mark.parametrize("silent_s", [0.9, 0.1])
def test_a_stopped_engine_is_the_machines_fault_whatever_the_limit(limit_s: float, silent_s: float) -> None:
    """With a limit of 20 s, or in the last half minute of a longer one, it was a zero; so was the job after it."""
    last = before_the_limit([limit_s - silent_s], limit_s=limit_s, pace=QUICK)
    after_s, why = ends(last, limit_s, stopped=True, answered=False)
    assert after_s <= 3.0
    assert why.startswith("is stopped")
    assert why.endswith("when the reply's time was up")


@pytest.mark.parametrize(
    ("signs", "says"), [({}, "and did nothing"), ({"answered": False}, "and neither answered nor worked")]
)
def test_one_that_does_nothing(signs: dict[str, bool], says: str) -> None:
    after_s, why = ends(before_the_limit([2.0], limit_s=20.0, pace=QUICK), 20.0, **signs)
    assert 5.0 <= after_s <= 6.0
    assert says in why
    assert "silent for 18 s when" in why


def test_one_that_answers_our_questions_is_not_working_for_that() -> None:
    last = before_the_limit([2.0], limit_s=20.0, pace=QUICK)
    last.look(20.0, Signs(cpu_s=1.0))
    last.look(20.5, Signs(cpu_s=1.01))
    last.look(25.5, Signs(cpu_s=1.02))
    assert "did nothing" in (last.verdict(25.5) or "")


@pytest.mark.parametrize("tokens_at", [None, [2.0, 2.1, 2.2]])
def test_one_that_spins_and_sends_nothing(tokens_at: list[float] | None) -> None:
    last = before_the_limit(tokens_at, limit_s=20.0, pace=QUICK)
    after_s, why = ends(last, 20.0, cpu=1.0)
    assert after_s == 30.0
    assert "although it was busy" in why


@pytest.mark.parametrize("signs", [{"has_gpu": True}, {"looks": False}])
def test_one_that_cannot_be_seen_gets_the_same_time(signs: dict[str, bool]) -> None:
    after_s, why = ends(before_the_limit([2.0], limit_s=20.0, pace=QUICK), 20.0, **signs)
    assert after_s == 30.0
    assert "could not be seen" in why


def test_one_whose_gpu_computes_is_working() -> None:
    after_s, why = ends(before_the_limit(limit_s=20.0, pace=QUICK), 20.0, has_gpu=True, gpu_busy=True)
    assert after_s == 30.0
    assert "although it was busy" in why


@pytest.mark.parametrize(
    ("tokens_at", "progress_at", "pace"),
    [
        ([20.0, 60.0, 100.0], None, UNKNOWN),  # a token in 40 seconds
        ([100.0], None, Pace(gap_s=40.0)),  # the same by its warm-up, and one token so far
        (None, None, Pace(prefill_s=600.0)),  # a long prompt in one batch, on a CPU
        (None, [50.0, 95.0], UNKNOWN),  # a long prompt in batches of 45 seconds
    ],
)
def test_a_silence_that_its_own_pace_explains_is_the_budgets(
    tokens_at: list[float] | None, progress_at: list[float] | None, pace: Pace
) -> None:
    last = before_the_limit(tokens_at, progress_at=progress_at, limit_s=110.0, pace=pace)
    assert ends(last, 110.0, cpu=1.0) == (30.0, "")
    stopped = before_the_limit(tokens_at, progress_at=progress_at, limit_s=110.0, pace=pace)
    assert "is stopped" in ends(stopped, 110.0, stopped=True, answered=False)[1]
    idle = before_the_limit(tokens_at, progress_at=progress_at, limit_s=110.0, pace=pace)
    assert "did nothing" in ends(idle, 110.0)[1]


def test_steps_that_go_on_are_a_sign_of_life() -> None:
    assert ends(before_the_limit([2.0], limit_s=20.0, pace=QUICK), 20.0, steps=0.5) == (2.0, "")


def test_one_that_is_stopped_now_and_then_is_not_stopped() -> None:
    """A program that limits its processor time by stopping it."""
    last = before_the_limit([19.0], limit_s=20.0, pace=QUICK)
    for half_seconds in range(20):
        now_s = 20.0 + half_seconds / 2
        last.look(now_s, Signs(stopped=half_seconds % 3 != 0, answered=False, cpu_s=0.3 * now_s))
        assert last.verdict(now_s) is None
