"""Whether a silent engine still works: rules over what is heard from it and what is found when one looks.

An engine that hangs (stopped, dead-locked, its driver gone) is the machine's fault and no zero, so silence is looked
into. Silent is who sends no token, no progress and no count that grows: whatever else arrives may come for ever.

- In **prefill** a silence of minutes is right: one batch of a large model on a slow machine. It is no stall as long as
  the process works or its own count of steps moves on. The reply's time limit bounds it.
- In **decode** tokens came and then stopped. Tokens that nobody sees (the header of a tool call) count as steps; no
  step for two minutes, or sixty times the longest gap so far, is a stall even if the process is busy.
- A process that the kernel keeps from running, or that neither answers nor works, hangs whatever it was doing.

The limits err on the side of patience: a stall that is noticed half a minute later costs half a minute, one that is
none costs an answer. They hold while the reply has time; what holds when it is up is in `runners.lastlook`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_AFTER_S = 10.0
"""Silence after which the engine is looked at; a healthy stream of any speed worth waiting for is never looked at."""
LOOK_EVERY_S = 5.0
STOPPED_S = 15.0
"""How long a process may be stopped (SIGSTOP, a debugger, a frozen cgroup)."""
DEAD_S = 30.0
"""How long it may neither answer a question of ours nor use any time of a processor, disk or GPU."""
IDLE_S = 180.0
"""How long it may answer and do nothing for us: a GPU that is waited for without a processor's help is working."""
UNSEEN_S = 600.0
"""The same where it cannot be seen whether the GPU works, and for decode where the engine counts no steps."""
STEP_S = 120.0
STEP_GAPS = 60.0
EXPLAINED_GAPS = 3.0
"""A silence of so many times the longest gap so far is explained by the engine's own pace."""
WORK_S_PER_S = 0.005
"""Processor time per second from which a process counts as working: answering our questions takes less."""
MOST_A_STEP_S = 2.0


class OwnTime:
    """Seconds during which this process ran: a clock for limits, asked several times a second.

    What lies between two questions counts for two seconds at most. So a laptop's sleep, or a SIGSTOP to the whole
    tree, takes nothing from anybody's time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s = clock()
        self._own_s = 0.0
        self.missed_s = 0.0

    def __call__(self) -> float:
        """The seconds since the start, without those that were missed."""
        now = self._clock()
        step_s, self._last_s = now - self._last_s, now
        self._own_s += min(step_s, MOST_A_STEP_S)
        self.missed_s += max(0.0, step_s - MOST_A_STEP_S)
        return self._own_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What one look at an engine found; None where it cannot be found here.

    Attributes:
        stopped: whether the kernel keeps it from running.
        answered: whether it answered a question in time.
        steps: tokens of the prompt processed and tokens generated for this request, by its own word.
        cpu_s: processor time of its process tree so far.
        read: pages and bytes that it had to wait for a disk for, so far.
        gpu_busy: whether its GPU computes; None also where there is no GPU to ask.
        has_gpu: whether it computes on a GPU.
    """

    stopped: bool = False
    answered: bool = True
    steps: int | None = None
    cpu_s: float | None = None
    read: int | None = None
    gpu_busy: bool | None = None
    has_gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What is known of an engine's speed before a request, in seconds; 0 for what is not known.

    Attributes:
        prefill_s: what this prompt should take until the first token.
        gap_s: what lies between two tokens.
    """

    prefill_s: float = 0.0
    gap_s: float = 0.0


class StallWatch:
    """One request's silence. Times are of one clock of the caller's; nothing here waits."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._step_s = now_s
        self._alive_s = now_s
        self._worked_s = now_s
        self._stopped_since_s: float | None = None
        self._generating = False
        self._longest_gap_s = 0.0
        self._longest_prefill_gap_s = 0.0
        self._before: tuple[float, Signs] | None = None

    def heard(self, now_s: float, *, generating: bool) -> None:
        """A sign of life arrived; `generating`: a token has come by now."""
        gap_s = now_s - self._heard_s
        if self._generating:
            self._longest_gap_s = max(self._longest_gap_s, gap_s)
        else:
            self._longest_prefill_gap_s = max(self._longest_prefill_gap_s, gap_s)
        self._generating = generating
        self._heard_s = self._step_s = self._alive_s = self._worked_s = now_s
        self._stopped_since_s = None
        self._before = None

    def is_due(self, now_s: float) -> bool:
        """Whether the engine should be looked at."""
        return now_s - self._heard_s >= LOOK_AFTER_S

    def look(self, now_s: float, signs: Signs) -> None:
        """Takes in what a look found."""
        then_s, before = self._before or (now_s, signs)
        self._before = (now_s, signs)
        if not signs.stopped:
            self._stopped_since_s = None
        elif self._stopped_since_s is None:
            self._stopped_since_s = now_s
        if signs.steps is not None and before.steps is not None and signs.steps > before.steps:
            self._step_s = self._alive_s = self._worked_s = now_s
        if signs.answered:
            self._alive_s = now_s
        if signs.gpu_busy or worked(before, signs, now_s - then_s):
            self._worked_s = self._alive_s = now_s

    def verdict(self, now_s: float) -> str | None:
        """Why the engine hangs, as the end of a sentence that begins with its name; None if it need not be given up."""
        if self._before is None:
            return None
        _, signs = self._before
        if self._stopped_since_s is not None and now_s - self._stopped_since_s >= STOPPED_S:
            return f"is stopped (signal or debugger) and was silent for {now_s - self._heard_s:.0f} s"
        if now_s - self._alive_s >= DEAD_S:
            return f"neither answered nor worked for {now_s - self._alive_s:.0f} s"
        idle_s = UNSEEN_S if signs.has_gpu and signs.gpu_busy is None else IDLE_S
        if now_s - self._worked_s >= idle_s and signs.cpu_s is not None:
            return f"did nothing for {now_s - self._worked_s:.0f} s although a reply was under way"
        limit_s = UNSEEN_S if signs.steps is None else max(STEP_S, STEP_GAPS * self._longest_gap_s)
        if self._generating and now_s - self._step_s >= limit_s:
            return f"generated nothing for {now_s - self._step_s:.0f} s in the middle of a reply"
        return None

    def silence(self, pace: Pace) -> tuple[float, float]:
        """Since when no step was made, and how long such a silence may last by the engine's own pace, in seconds."""
        if self._generating:
            explained_s = EXPLAINED_GAPS * max(self._longest_gap_s, pace.gap_s)
        else:
            explained_s = EXPLAINED_GAPS * self._longest_prefill_gap_s or pace.prefill_s
        return self._step_s, explained_s


def worked(before: Signs, now: Signs, elapsed_s: float) -> bool:
    """Whether the process used a processor or waited for a disk between two looks."""
    if before.cpu_s is not None and now.cpu_s is not None and elapsed_s > 0:
        # A process of the tree that ended takes its time along: then the difference says nothing.
        spent_s = now.cpu_s - before.cpu_s
        if spent_s < 0 or spent_s / elapsed_s >= WORK_S_PER_S:
            return True
    return before.read is not None and now.read is not None and now.read != before.read
