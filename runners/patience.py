"""How often an engine may die in a lease, and how much of the lease's time its deaths may cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runners.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

LOST_AT_LEAST_S = 600.0
"""Less than this may be lost whatever its share: a lease that has just begun would be given up for one slow load."""
LOST_SHARE = 0.5
REFUSALS = 2
"""Errors of its own that an engine may report in a row before it is taken to be broken (a lost GPU answers so)."""


class Patience:
    """Counts the deaths of one lease's engine. A finished answer forgives those before it, the time they cost stays.

    Counting all deaths of a lease instead would give up a long cell for a crash now and then, with its untried jobs.
    """

    def __init__(self, reloads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.outcome = Outcome.SERVER_CRASH
        self._reloads, self._clock = reloads, clock
        self._began_s = clock()
        self._in_a_row = 0
        self._refusals = 0
        self._lost_s = 0.0

    def answered(self) -> None:
        """An answer came to its end, whatever it is worth."""
        self._in_a_row = self._refusals = 0

    def refused(self) -> bool:
        """The engine reported an error of its own; whether it should be started anew."""
        self._refusals += 1
        return self._refusals >= REFUSALS

    def lost(self, seconds: float, outcome: Outcome | None = None) -> None:
        """An attempt that came to nothing (by `outcome`), or a load after it, took so long."""
        self._lost_s += seconds
        self.outcome = outcome or self.outcome

    def give_up(self) -> str:
        """Called when the engine has to be started again: why it should not be, empty if it should."""
        self._in_a_row += 1
        self._refusals = 0
        if self._in_a_row > self._reloads:
            return f"the engine ended or hung {self._in_a_row} times in a row"
        lived_s = self._clock() - self._began_s
        if self._lost_s > max(LOST_AT_LEAST_S, LOST_SHARE * lived_s):
            return (
                f"the engine died so often that {self._lost_s:.0f} s of {lived_s:.0f} s of this lease came to nothing"
            )
        return ""
