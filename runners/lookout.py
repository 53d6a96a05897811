"""Watches one streamed reply: hears what arrives, and when nothing does, looks at the engine beside the stream.

The looks run in a thread of their own: a question that waits for an answer must not delay the clock reading of a token
that arrives meanwhile.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from runners import lastlook, stall
from runners.lastlook import LastLook

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.stall import OwnTime, Pace, Signs


class Lookout:
    """Of one request. All but the looks is called by the thread that reads the stream; `close` ends the looks."""

    def __init__(self, look: Callable[[], Signs], *, pace: Pace | None = None, own_time: OwnTime | None = None) -> None:
        self.own_time = own_time or stall.OwnTime()
        self._look = look
        self._pace = pace or stall.Pace()
        self._watch = stall.StallWatch(self.own_time())
        self._last: LastLook | None = None
        self._found: list[tuple[int, Signs]] = []
        self._chapter = 0
        self._closed = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def heard(self, *, generating: bool) -> None:
        """A sign of life arrived."""
        self._chapter += 1
        self._watch.heard(self.own_time(), generating=generating)
        if self._last is not None:
            self._last.spent = True

    def trouble(self) -> str | None:
        """Called whenever the stream is read, and a few times a second: why the engine hangs, None if it is not known
        to.
        """
        now_s = self.own_time()
        if self._thread is None and (self._last is not None or self._watch.is_due(now_s)):
            self._thread = threading.Thread(target=self._keep_looking, name="lookout", daemon=True)
            self._thread.start()
        while self._found:
            chapter, signs = self._found.pop(0)
            if chapter != self._chapter:  # begun before the engine was heard, or before the reply's time was up
                continue
            if self._last is not None:
                self._last.look(now_s, signs)
            else:
                self._watch.look(now_s, signs)
        return self._watch.verdict(now_s) if self._last is None else self._last.verdict(now_s)

    def time_is_up(self) -> bool:
        """Called from the reply's time limit on: whether its budget has ended it; `trouble` says if the engine did."""
        if self._last is None:
            self._chapter += 1
            since_s, explained_s = self._watch.silence(self._pace)
            self._last = LastLook(self.own_time(), silent_since_s=since_s, explained_s=explained_s)
            self._wake.set()
        return self.spent

    @property
    def spent(self) -> bool:
        """Whether the reply's budget has ended it."""
        return self._last is not None and self._last.spent

    def close(self) -> None:
        """Ends the looks; one that is under way is not waited for."""
        self._closed = True
        self._wake.set()

    def _keep_looking(self) -> None:
        while not self._closed:
            chapter = self._chapter
            try:
                signs = self._look()
            except Exception:  # what keeps us from looking is no reason to stop it: it is then taken to be unseen
                signs = stall.Signs(answered=False)
            self._found.append((chapter, signs))
            self._wake.wait(stall.LOOK_EVERY_S if self._last is None else lastlook.LOOK_EVERY_S)
            self._wake.clear()
