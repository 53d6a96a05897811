"""What the runs of a program are worth: ten tests by name, under two scorings.

`published` is the report's harness with what its author's audit found: BufferBounded counts live readings (which at one
every 10 ms fails every program that works), EvictionRandom measures spread, a program that never gave anything may pass
a test that looks at nothing. `corrected` asks for what the tests are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runners.exams.go import eviction

from .plans import AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .scenarios import Outage, Seen

TESTS: Final = (
    *("OnlineFlow", "BuffersDuringOutage", "FlushOnReconnect", "BufferBounded", "EvictionRandom"),
    *("MultipleOutageCycles", "BufferSizeZero", "BufferSizeOne", "GracefulShutdown", "RaceDetector"),
)
RACE_EXIT: Final = 66
"""What Go's race detector ends a program with, once it has found something (GORACE, `exitcode`)."""
_RACE_WORDS: Final = "WARNING: DATA RACE"
_CRASHES: Final = ("panic: ", "fatal error: ", "goroutine 1 [")
# The report's tolerances, and the least spread that it takes for random.
_MISSING, _MORE, _SPREAD = 2, 5, 0.1
# How many readings an online phase of the report brings: 5 s of one every 10 ms, or every second.
_QUICK_PHASE, _SLOW_PHASE = 500, 5
_CUT: Final = 160


@dataclass(frozen=True)
class Runs:
    """What all runs of a program showed.

    Attributes:
        seen: By the name of the run.
        quick: Whether it scraped every 10 ms.
        has_buffer_flag: Whether it has a flag for the size of its buffer.
        race_problem: Why it could not be tried with the race detector: it did not build, or it works around it.
    """

    seen: Mapping[str, Seen]
    quick: bool
    has_buffer_flag: bool
    race_problem: str = ""


def judge(runs: Runs, scoring: str) -> dict[str, str]:
    """Test -> why it fails; empty where it passes."""
    rules: Mapping[str, Callable[[Runs], str]] = _PUBLISHED if scoring == "published" else _CORRECTED
    return {name: rules[name](runs)[:_CUT] for name in TESTS}


def crash_of(seen: Seen) -> str:
    """The first words of a crash that the program printed; empty without one."""
    if seen.completed is None or seen.completed.status == "ok":
        return ""
    lines = seen.output.splitlines()
    return next((line.strip() for line in lines if line.startswith(_CRASHES)), "")[:_CUT]


def ending_of(seen: Seen) -> str:
    """How a run ended."""
    done = seen.completed
    if done is None:
        return "not run"
    if crash := crash_of(seen):
        return crash
    if done.signal is not None:
        return f"ended by signal {done.signal}"
    return done.status if done.exit_code is None else f"exit {done.exit_code}"


def _no_flow(seen: Seen) -> str:
    """Why nothing can be said of a run at all; empty if readings flowed."""
    if seen.online:
        return ""
    if seen.ended_early:
        return f"the program ended before anything arrived: {ending_of(seen)}"
    return "fewer than 3 readings arrived" + (f"; {seen.malformed} bodies were malformed" if seen.malformed else "")


def _outage(seen: Seen) -> Outage | None:
    return seen.outages[0] if seen.outages else None


def _online_flow(runs: Runs) -> str:
    main = runs.seen["main"]
    if problem := _no_flow(main):
        return problem
    malformed = sum(seen.malformed for seen in runs.seen.values())
    return f"{malformed} bodies were no readings in the form asked for" if malformed else ""


def _buffers(runs: Runs) -> str:
    main = runs.seen["main"]
    outage = _outage(main)
    if outage is None:
        return _no_flow(main) or ending_of(main)
    if not outage.alive:
        return f"the program ended during the outage: {ending_of(main)}"
    if not outage.scraped:
        return f"only {outage.last - outage.first + 1} readings were taken during the outage: reading stood still"
    return "" if outage.kept else "nothing of the outage ever arrived: nothing was buffered"


def _flush(runs: Runs) -> str:
    main = runs.seen["main"]
    if not main.outages:
        return _no_flow(main) or ending_of(main)
    for outage in main.outages:
        unique = len(set(outage.kept))
        wanted = main.size - _MISSING
        if unique < wanted:
            return f"{unique} readings of an outage arrived after it, {wanted} should have: {_alive(main, outage)}"
        if not outage.live:
            return "no live reading arrived after the outage"
    return ""


def _alive(seen: Seen, outage: Outage) -> str:
    return "the program runs" if outage.alive and outage.live else ending_of(seen)


def _bounded(runs: Runs) -> str:
    main = runs.seen["main"]
    if not runs.has_buffer_flag:
        return "there is no flag for the size of the buffer"
    if not main.outages:
        return _no_flow(main) or ending_of(main)
    most = main.size + (main.size // 2 if runs.quick else 3)
    for outage in main.outages:
        if not outage.kept:
            return "nothing was buffered"
        if len(outage.kept) > most:
            return f"{len(outage.kept)} readings of an outage arrived after it; the buffer has room for {main.size}"
    return ""


def _eviction(runs: Runs) -> str:
    if not runs.has_buffer_flag:
        return "there is no flag for the size of the buffer"
    tried = [runs.seen["main"], *([] if runs.quick else [runs.seen[name] for name in AGAIN])]
    outages = [outage for seen in tried for outage in seen.outages]
    if len(outages) < max(2, len(tried)):
        return _no_flow(tried[0]) or f"the program did not come through all outages: {ending_of(tried[0])}"
    survivors = [
        ({number - outage.first + 1 for number in outage.kept}, outage.last - outage.first + 1) for outage in outages
    ]
    return eviction.judge(survivors, tried[0].size, quick=runs.quick)


def _cycles(runs: Runs) -> str:
    cycles = runs.seen["cycles"]
    if problem := _no_flow(cycles):
        return problem
    for number, outage in enumerate(cycles.outages, 1):
        wanted = max(1, outage.last - outage.first + 1 - _MISSING)
        unique = len(set(outage.kept))
        if outage.alive and not outage.scraped:
            return f"reading stood still during outage {number}"
        if not (outage.alive and outage.live):
            return f"it did not come through outage {number}: {ending_of(cycles)}"
        if unique < wanted:
            return f"{unique} readings of outage {number} arrived after it; {wanted} should have"
    if len(cycles.outages) < 3:  # as planned
        return f"only {len(cycles.outages)} of 3 outages were survived: {ending_of(cycles)}"
    return f"{cycles.repeated} readings arrived twice" if cycles.repeated else ""


def _zero(runs: Runs) -> str:
    zero = runs.seen["zero"]
    if not runs.has_buffer_flag:
        return "there is no flag for the size of the buffer"
    refuses = zero.completed is not None and zero.completed.exit_code is not None and not crash_of(zero)
    if zero.ended_early and refuses and runs.seen["main"].online:
        return ""  # that size, and no other
    if problem := _no_flow(zero):
        return problem
    outage = _outage(zero)
    if outage is None or not outage.alive:
        return f"the program ended during an outage: {ending_of(zero)}"
    return "" if outage.live else f"no reading arrived after an outage: {ending_of(zero)}"


def _one(runs: Runs) -> str:
    one = runs.seen["one"]
    if not runs.has_buffer_flag:
        return "there is no flag for the size of the buffer"
    outage = _outage(one)
    if outage is None or not outage.alive:
        return _no_flow(one) or f"the program ended during an outage: {ending_of(one)}"
    if not outage.kept:
        return "nothing of the outage arrived after it"
    if len(outage.kept) > one.size + 3:
        return f"{len(outage.kept)} readings of an outage arrived after it; the buffer has room for one"
    return "" if outage.live else f"no reading arrived after the outage: {ending_of(one)}"


def _stop_online(runs: Runs) -> str:
    return _stops(runs.seen["stop online"], "")


def _stop(runs: Runs) -> str:
    return _stop_online(runs) or _stops(runs.seen["stop offline"], "while the sink is away, ")


def _stops(seen: Seen, when: str) -> str:
    if problem := _no_flow(seen):
        return problem
    if seen.stopped is None:
        return f"{when}it ended before SIGINT: {ending_of(seen)}"
    if not seen.stopped:
        return f"{when}it did not end within 10 s of SIGINT"
    return "" if seen.completed is not None and seen.completed.exit_code == 0 else f"{when}SIGINT: {ending_of(seen)}"


def _race_found(runs: Runs) -> str:
    if runs.race_problem:
        return runs.race_problem
    race = runs.seen["race"]
    if race.completed is not None and (race.completed.exit_code == RACE_EXIT or _RACE_WORDS in race.output):
        return "a data race was found"
    return ""


def _race(runs: Runs) -> str:
    if problem := _race_found(runs):
        return problem
    race = runs.seen["race"]
    if not race.outages or not race.outages[-1].alive:
        return _no_flow(race) or f"it did not come through an outage: {ending_of(race)}"
    if not all(outage.kept and outage.live for outage in race.outages):
        return "nothing of an outage arrived after it: there was no buffer for goroutines to share"
    return f"it crashed: {crash}" if (crash := crash_of(race)) else ""


def _published_online(runs: Runs) -> str:
    return _no_flow(runs.seen["main"])


def _published_buffers(runs: Runs) -> str:
    """Nothing arrives while the sink is away, by its nature."""
    return "" if runs.seen["main"].outages else _no_flow(runs.seen["main"]) or "there was no outage"


def _published_flush(runs: Runs) -> str:
    outage = _outage(runs.seen["main"])
    wanted = runs.seen["main"].size - _MISSING
    found = outage.kept_in_5_s if outage is not None else 0
    return "" if found >= wanted else f"{found} readings of the outage within 5 s, {wanted} wanted"


def _published_bounded(runs: Runs) -> str:
    outage = _outage(runs.seen["main"])
    if outage is None:
        return "there was no outage"
    phase = _QUICK_PHASE if runs.quick else _SLOW_PHASE
    found = outage.kept_in_5_s + (phase if outage.live else 0)
    most = runs.seen["main"].size + _MORE
    return "" if found <= most else f"{found} readings in the online phase, live ones among them; {most} allowed"


def _published_eviction(runs: Runs) -> str:
    outage = _outage(runs.seen["main"])
    part = eviction.spread(outage.kept) if outage is not None else 0.0
    return "" if part >= _SPREAD else f"the smaller side of the values' range has {part:.0%} of them"


def _published_cycles(runs: Runs) -> str:
    cycles = runs.seen["cycles"]
    if problem := _no_flow(cycles):
        return problem
    if cycles.outages and cycles.outages[-1].alive and cycles.outages[-1].live:
        return ""
    return f"it did not come through: {ending_of(cycles)}"


def _published_zero(runs: Runs) -> str:
    zero = runs.seen["zero"]
    outage = _outage(zero)
    if zero.ended_early or (outage is not None and outage.alive):
        return ""
    return _no_flow(zero) or ending_of(zero)


def _published_one(runs: Runs) -> str:
    outage = _outage(runs.seen["one"])
    return "" if outage is not None and outage.kept_in_5_s else "nothing of the outage arrived within 5 s"


_CORRECTED: Final = dict(
    zip(
        TESTS,
        (_online_flow, _buffers, _flush, _bounded, _eviction, _cycles, _zero, _one, _stop, _race),
        strict=True,
    )
)
_PUBLISHED: Final = dict(
    zip(
        TESTS,
        (
            *(_published_online, _published_buffers, _published_flush, _published_bounded, _published_eviction),
            *(_published_cycles, _published_zero, _published_one, _stop_online, _race_found),
        ),
        strict=True,
    )
)
