"""The runs of a program: what the mock does in each, and what was seen. What that is worth, judging.py says."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from .running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runners.sandbox.base import Completed

    from .flags import Flags
    from .mock import Arrival, Mock, Sink
    from .running import Setting

# How long something may take that a sound program does at once: a guard, not a measure. Time in which we had no turn
# does not count (`Mock.until`).
FIRST_S: Final = 20.0
STALL_S: Final = 5.0
"""Without one more reading. The pause between two is 10 ms, or a second."""
OUTAGE_S: Final = 30.0
FLUSH_S: Final = 10.0
REPORT_S: Final = 5.0
"""The time that the report's harness gave for it."""
STOP_S: Final = 10.0
# The inverter is silent after an outage until what was kept has come, but not longer than this: a program that flushes
# when a reading has been written waits for one.
_SILENCE_S: Final = 5.0
# Nothing more comes: longer than the pause between two tries (`Plan.flush`).
_SETTLED_S: Final = 1.3
_SETTLING: Final = 10
# For the last reading of an outage to find the sink away.
_TRIED_S: Final = 0.7
FIRST: Final = 3
LIVE_QUICK, LIVE_SLOW = 12, 3


@dataclass
class Outage:
    """One outage, and what came after it.

    Attributes:
        first: The number of the first reading that was taken in it.
        since: The last reading of the outage before, or 0. One that was on its way when the sink went is kept too.
        begun: How many readings had arrived when it began.
        last: The number of the last reading before the sink was back: up to there a reading was kept, above it is live.
        scraped: Whether as many readings were taken as there should be.
        alive: Whether the program was there at its end.
        kept: Numbers of the readings from the outage that came afterwards, in order, with repetitions.
        kept_in_5_s: How many of them within the time that the report's harness gave.
        live: How many readings came that were taken afterwards.
    """

    first: int
    since: int
    begun: int
    last: int
    scraped: bool
    alive: bool
    kept: list[int] = field(default_factory=list)
    kept_in_5_s: int = 0
    live: int = 0

    def arrived(self, arrivals: list[Arrival]) -> list[Arrival]:
        """Those of `arrivals` that were kept over this outage."""
        return [arrival for arrival in arrivals[self.begun :] if self.since < arrival.number <= self.last]


@dataclass
class Seen:
    """What was seen of one run.

    Attributes:
        size: The buffer that it was given.
        online: Whether the first readings arrived.
        outages: In order; fewer than planned where the program gave nothing any more.
        stopped: Whether it ended by itself after SIGINT; None where it was not sent.
        ended_early: Whether it was gone before the first outage.
        completed: How it ended.
        repeated: Readings that arrived more than once.
        turned_away, malformed: As the mock counted them.
    """

    name: str
    size: int
    online: bool = False
    outages: list[Outage] = field(default_factory=list)
    stopped: bool | None = None
    ended_early: bool = False
    completed: Completed | None = None
    repeated: int = 0
    turned_away: int = 0
    malformed: int = 0
    flooded: bool = False

    @property
    def output(self) -> str:
        """What it printed."""
        if self.completed is None:
            return ""
        return (self.completed.stderr + b"\n" + self.completed.stdout).decode("utf-8", "replace")


@dataclass(frozen=True)
class Plan:
    """What happens in one run.

    Attributes:
        name: Of the run; a folder is called so.
        size: Of the buffer.
        outages: The number of readings that are taken in each, and how the sink is meanwhile.
        wanted: How many readings from an outage have to come before it is over.
        flush: The pause between two tries of the flusher, where it takes a duration.
        leave: `online` or `offline`: how the sink is when SIGINT comes; empty for none.
        settles: Whether it waits until nothing more comes from an outage.
    """

    name: str
    size: int
    outages: tuple[tuple[int, Sink], ...]
    wanted: int
    flush: str = "200ms"
    leave: str = ""
    settles: bool = False


async def play(plan: Plan, setting: Setting, binary: Path, flags: Flags) -> Seen:
    """One run by its plan, from beginning to end.

    Raises:
        SandboxFailed: The program could not be started.
    """
    words = [
        "-inverter-host=127.0.0.1:{port}",
        "-sink-url=http://127.0.0.1:{port}",
        *flags.words(plan.size, plan.flush),
    ]
    seen = Seen(plan.name, plan.size)
    async with Running(setting, binary, words, plan.name) as run:
        mock = run.mock
        await mock.until(lambda: len(mock.arrivals) >= FIRST or run.ended, FIRST_S)
        seen.online = len(mock.arrivals) >= FIRST
        seen.ended_early = run.ended
        for count, sink in plan.outages if seen.online else ():
            if run.ended or mock.flooded or not await _outage(run, seen, plan, count, sink, quick=flags.is_quick):
                break
        # Now: what comes when the program is told to end is nothing that it flushed by itself, and a write that is cut
        # off then may well be repeated.
        _count(seen, mock)
        if plan.leave and seen.online and not run.ended:
            if plan.leave == "offline":
                await _away(run, plan.size + FIRST, "refusing")
            run.send(signal.SIGINT)
            seen.stopped = await run.until_ended(STOP_S)
        seen.completed = await run.finish()
        seen.turned_away, seen.malformed, seen.flooded = mock.turned_away, mock.malformed, mock.flooded
    return seen


async def _away(run: Running, count: int, sink: Sink) -> bool:
    """Takes the sink away until `count` more readings were taken; whether they were."""
    mock = run.mock
    mock.sink = sink
    begun = mock.scrapes
    await _until_grown(run, lambda: mock.scrapes, begun + count)
    return mock.scrapes >= begun + count


async def _until_grown(run: Running, counted: Callable[[], int], enough: int) -> None:
    """Waits until `counted()` is `enough`, as long as it grows."""
    begun = time.monotonic()
    while counted() < enough and not run.ended and not run.mock.flooded and time.monotonic() - begun < OUTAGE_S:
        there = counted()
        if not await run.mock.until(partial(_has_grown, run, counted, there), STALL_S):
            return


def _has_grown(run: Running, counted: Callable[[], int], there: int) -> bool:
    return counted() > there or run.ended


async def _outage(run: Running, seen: Seen, plan: Plan, count: int, sink: Sink, *, quick: bool) -> bool:
    """One outage and what comes after it; False if it makes no sense to go on."""
    mock = run.mock
    first, begun = mock.scrapes + 1, len(mock.arrivals)
    since = seen.outages[-1].last if seen.outages else 0
    scraped = await _away(run, count, sink)
    # The last reading is to find the sink away as well: what is on its way when that is back would seem to be kept.
    mock.source = False
    last = mock.scrapes
    await mock.until(lambda: last in mock.tried or run.ended, _TRIED_S)
    outage = Outage(first, since, begun, mock.scrapes, scraped=scraped, alive=not run.ended)
    mock.sink = "online"
    back = time.monotonic()
    seen.outages.append(outage)

    def kept() -> int:
        return len(outage.arrived(mock.arrivals))

    def live() -> int:
        return sum(arrival.number > outage.last for arrival in mock.arrivals)

    enough = plan.wanted
    flushed = await mock.until(lambda: kept() >= enough or run.ended, _SILENCE_S)
    if flushed and plan.settles:
        await _settle(run)
    mock.source = True
    if not flushed:
        await mock.until(lambda: kept() >= enough or run.ended, FLUSH_S - _SILENCE_S)
    wanted = LIVE_QUICK if quick else LIVE_SLOW if plan.settles else 1
    await _until_grown(run, live, wanted)
    outage.live = live()
    outage.kept_in_5_s = sum(arrival.at - back <= REPORT_S for arrival in outage.arrived(mock.arrivals))
    return scraped and kept() >= (min(1, enough) if plan.settles else enough) and outage.live >= wanted


async def _settle(run: Running) -> None:
    """Waits until nothing arrives for a while, but not for ever."""
    for _ in range(_SETTLING):
        there = len(run.mock.arrivals)
        if not await run.mock.until(partial(_has_grown, run, lambda: len(run.mock.arrivals), there), _SETTLED_S):
            return
        await asyncio.sleep(_SETTLED_S / 4)


def _count(seen: Seen, mock: Mock) -> None:
    """What came from each outage, whenever that was, for a program may take its time; and what came twice."""
    numbers = [arrival.number for arrival in mock.arrivals]
    seen.repeated = len(numbers) - len(set(numbers))
    for outage in seen.outages:
        outage.kept = [arrival.number for arrival in outage.arrived(mock.arrivals)]
