"""Requests that an endpoint's rate limit keeps apart, by a clock that a test plays."""

from __future__ import annotations

import threading

import pytest

from runners.engines.settings import EndpointSettings
from runners.errors import RunnersError
from runners.pacing import Pacing


class Played(threading.Event):
    """A clock, and an event that is waited for by moving it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.set_at_s = float("inf")

    def __call__(self) -> float:
        return self.now_s

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now_s = min(self.now_s + timeout, max(self.now_s, self.set_at_s))
        if self.now_s >= self.set_at_s:
            self.set()
        return self.is_set()


def begins(pause_s: float, took_s: list[float]) -> list[float]:
    """When requests begin that take so long each."""
    clock = Played()
    pacing = Pacing(pause_s, clock=clock)
    found = []
    for took in took_s:
        assert pacing.wait(clock)
        pacing.began()
        found.append(clock.now_s - 1000.0)
        clock.now_s += took
    return found


def test_requests_begin_a_pause_apart_and_the_first_after_one() -> None:
    assert begins(10.0, [1.0, 25.0, 3.0, 0.0]) == [10.0, 20.0, 45.0, 55.0]
    assert begins(0.0, [1.0, 2.0, 3.0]) == [0.0, 1.0, 3.0]


@pytest.mark.parametrize(("concurrency", "per_minute"), [(1, 60.0), (4, 30.0), (16, 7.5), (2, 0.5), (3, 100.0)])
def test_all_places_together_keep_the_limit_in_every_minute(concurrency: int, per_minute: float) -> None:
    settings = EndpointSettings(concurrency=concurrency, requests_per_minute=per_minute)
    every = sorted(at for _ in range(settings.places) for at in begins(settings.pause_s, [0.0] * 120))
    most = max(sum(at <= other < at + 60.0 - 1e-6 for other in every) for at in every)
    assert most <= max(1.0, per_minute), "even if all places ask in the same moment"
    assert most > per_minute - settings.places, "and hardly less than may be asked is asked"
    assert settings.places <= concurrency


def test_who_does_not_want_to_wait_any_more_need_not() -> None:
    clock = Played()
    clock.set_at_s = 1003.0
    pacing = Pacing(10.0, clock=clock)
    assert not pacing.wait(clock)
    assert clock.now_s == 1003.0
    assert not pacing.wait(clock), "nor is anything begun afterwards"
    assert pacing.left_s == 7.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"concurrency": 0}, "concurrency is from 1 to 256, not 0"),
        ({"concurrency": 257}, "concurrency is from 1 to 256, not 257"),
        ({"requests_per_minute": 0.0}, "requests_per_minute is a number above 0, not 0"),
        ({"requests_per_minute": float("nan")}, "requests_per_minute is a number above 0, not nan"),
    ],
)
def test_limits_that_nothing_could_keep_are_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(RunnersError, match=said):
        EndpointSettings(**given)  # type: ignore[arg-type]  # numbers of both kinds in one table


def test_what_a_provider_allows_is_no_part_of_what_it_answers() -> None:
    one = EndpointSettings(concurrency=8, requests_per_minute=5.0)
    assert one.comparable() == EndpointSettings().comparable() == {"kind": ""}
