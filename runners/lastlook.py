"""Whose fault it is that a reply's time is up: rules for the moments after its limit, in which it is looked at.

The limit is the model's budget only while its tokens come. So the stream is read on until the first sign of life, which
ends it as the budget's: for an engine that answers, one token's time. Meanwhile the engine is looked at, without regard
to how long the limit was or how long the silence has lasted:

- A process that is stopped, or that does nothing, is the machine's fault, after seconds.
- One that is busy gets half a minute for its sign of life. Without one it is the machine's fault, unless its own pace
  explains the silence: the gaps between the signs it gave, or the time that so long a prompt takes by its warm-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.stall import worked

if TYPE_CHECKING:
    from runners.stall import Signs

LOOK_EVERY_S = 0.5
STOPPED_S = 2.0
"""How long it must be seen to be stopped: a program that slows it down by stopping it now and then is no fault."""
IDLE_S = 5.0
"""How long it must be seen to do nothing."""
WAIT_S = 30.0
"""How long one that is busy, or that cannot be looked at, may take for a sign of life."""


class LastLook:
    """The time after the limit of one request. Times are of one clock of the caller's; nothing here waits.

    Attributes:
        spent: the reply's budget is what ended it.
    """

    def __init__(self, now_s: float, *, silent_since_s: float, explained_s: float) -> None:
        self.spent = False
        self._up_s = now_s
        self._silent_since_s, self._explained_s = silent_since_s, explained_s
        self._first: tuple[float, Signs] | None = None
        self._steps: int | None = None
        self._stopped_since_s: float | None = None
        self._last_s = now_s
        self._works = self._answered = False
        self._idle = False

    def look(self, now_s: float, signs: Signs) -> None:
        """Takes in what a look found that was begun after the limit."""
        if signs.steps is not None:
            self.spent = self.spent or (self._steps is not None and signs.steps > self._steps)
            self._steps = signs.steps
        self._answered = self._answered or signs.answered
        if not signs.stopped:
            self._stopped_since_s = None
        elif self._stopped_since_s is None:
            self._stopped_since_s = now_s
        self._last_s = now_s
        first_s, first = self._first = self._first or (now_s, signs)
        unseen = signs.cpu_s is None or (signs.has_gpu and signs.gpu_busy is None)
        # Over the whole time: an answer to one of our questions may look like work in the half second before it.
        seen_s = max(IDLE_S, now_s - first_s)
        self._works = self._works or bool(signs.gpu_busy) or worked(first, signs, seen_s)
        self._idle = not self._works and not unseen and now_s - first_s >= IDLE_S

    def verdict(self, now_s: float) -> str | None:
        """Why the engine hangs, as the end of a sentence that begins with its name; None if it is not known to.

        Sets `spent` when nothing more is waited for and the engine is not to blame.
        """
        if self.spent:
            return None
        when = f"was silent for {max(0.0, self._up_s - self._silent_since_s):.0f} s when the reply's time was up"
        if self._stopped_since_s is not None and self._last_s - self._stopped_since_s >= STOPPED_S:
            return f"is stopped (signal or debugger) and {when}"
        if self._idle:
            return f"{when}, and {'did nothing' if self._answered else 'neither answered nor worked'}"
        if now_s - self._up_s < WAIT_S:
            return None
        if now_s - self._silent_since_s <= self._explained_s:
            self.spent = True
            return None
        busy = "although it was busy" if self._works else "and it could not be seen whether it works"
        return f"{when}, and sent nothing in the {now_s - self._up_s:.0f} s after, {busy}"
