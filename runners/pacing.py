"""Requests of one place kept apart, so that all places of an endpoint together stay within its rate limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


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

    def began(self) -> None:
        """A request begins now: the next one waits from here."""
        self._next_s = self._clock() + self._pause_s
