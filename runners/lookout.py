"""Watches one streamed reply: hears what arrives, and when nothing does, looks at the engine beside the stream.

The looks run in a thread of their own: a question that waits for an answer must not delay the clock reading of a token
that arrives meanwhile.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from runners import stall

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.stall import OwnTime, Signs


class Lookout:
    """Of one request. `heard` and `trouble` are called by the thread that reads the stream; `close` ends the looks."""

    def __init__(self, look: Callable[[], Signs], *, own_time: OwnTime | None = None) -> None:
        self.own_time = own_time or stall.OwnTime()
        self._look = look
        self._watch = stall.StallWatch(self.own_time())
        self._found: list[Signs] = []
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def heard(self, *, generating: bool) -> None:
        """Something arrived."""
        self._watch.heard(self.own_time(), generating=generating)
        self._found.clear()

    def trouble(self) -> str | None:
        """Called while nothing arrives, a few times a second: why the engine hangs, None if it need not be given up."""
        now_s = self.own_time()
        if self._thread is None and self._watch.is_due(now_s):
            self._thread = threading.Thread(target=self._keep_looking, name="lookout", daemon=True)
            self._thread.start()
        if self._found and self._watch.is_due(now_s):
            signs = self._found[-1]
            self._found.clear()
            self._watch.look(now_s, signs)
        return self._watch.verdict(now_s)

    def at_limit(self) -> str | None:
        """The reply's time is up: why that is the engine's doing, None if it is the budget's."""
        return self._watch.at_limit(self.own_time())

    def close(self) -> None:
        """Ends the looks; one that is under way is not waited for."""
        self._closed.set()

    def _keep_looking(self) -> None:
        while not self._closed.is_set():
            self._found.append(self._look())
            self._closed.wait(stall.LOOK_EVERY_S)
