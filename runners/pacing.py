"""Requests of one place kept apart: by the rate limit that the spec names, and by what the server asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

MOST_ASKED_S: Final = 1800.0
"""How long an attempt may wait in all because the server asked for it."""
FIRST_ASKED_S: Final = 2.0
LONGEST_UNSAID_S: Final = 60.0
"""Waits double up to here while the server does not say how long."""


class AskedWaits:
    """How long one attempt has waited because the server had too much to do. Not its failure, unless it goes on."""

    def __init__(self, most_s: float = MOST_ASKED_S) -> None:
        self._most_s = most_s
        self._next_s = FIRST_ASKED_S
        self.waited_s = 0.0

    def next_s(self, asked_s: float | None) -> float | None:
        """Seconds to wait now, where the server asked for so many (None: it did not say); None: that is too long."""
        wait_s = max(asked_s, 0.1) if asked_s is not None else self._next_s
        if asked_s is None:
            self._next_s = min(2 * self._next_s, LONGEST_UNSAID_S)
        if self.waited_s + wait_s > self._most_s:
            return None
        self.waited_s += wait_s
        return wait_s


class Pacing:
    """Lets one request begin every `pause_s` seconds; 0 lets each begin at once.

    The first one waits as well: whoever had the place before, maybe on another node, may have asked a moment ago.
    """

    def __init__(self, pause_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s, self._clock = pause_s, clock
        self._next_s = clock() + pause_s

    @property
    def left_s(self) -> float:
        """Seconds until the next request may begin, 0 if it may now."""
        return max(0.0, self._next_s - self._clock())

    def wait(self, cancelled: threading.Event) -> bool:
        """Waits until a request may begin; False as soon as it is `cancelled`."""
        while (left_s := self.left_s) > 0:
            if cancelled.wait(left_s):
                return False
        return not cancelled.is_set()

    def hold(self, seconds: float) -> None:
        """The next request waits so long at least."""
        self._next_s = max(self._next_s, self._clock() + seconds)

    def began(self) -> None:
        """A request begins now: the next one waits from here."""
        self._next_s = self._clock() + self._pause_s
