"""The scenarios that a relay goes through, and which items of the exam each of them decides."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from runners.exams.go import eviction

from .subject import LONG_MS, Failed, Subject, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runners.sandbox.base import Completed

    from .running import Setting

# What the limits of `eviction.judge` were drawn for.
_SAMPLED_SIZE, _SAMPLED_OUTAGE = 50, 100
# Until a relay is where it will be, on a machine with little time for it; a sound one loses nothing by less.
_SETTLE_S = 0.3
# Nearly all the time is spent waiting.
_SIDE_BY_SIDE = 3


@dataclass
class Verdict:
    """What came of all scenarios.

    Attributes:
        results: Why each item is not passed, by item; empty where it is.
        raced: The scenarios in which the race detector found something.
        ends: How runs ended that ended by themselves, and not well.
    """

    results: dict[str, str] = field(default_factory=dict)
    raced: list[str] = field(default_factory=list)
    ends: list[Completed] = field(default_factory=list)


class Scenarios:
    """The scenarios, each a method that raises `Failed`, or returns why its items are not passed."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.raced = False
        self.ends: list[Completed] = []

    @contextlib.contextmanager
    def _subject(self, **given: object) -> Iterator[Subject]:
        subject = Subject(self._setting, **given)  # type: ignore[arg-type]  # as they are named there
        try:
            yield subject
        finally:
            subject.close()
            self.raced = self.raced or subject.raced
            if subject.crashed and subject.completed is not None:
                self.ends.append(subject.completed)

    def validates_arguments(self) -> None:
        """New refuses what cannot work and takes what can."""
        bad = [settings(source=False), settings(sink=False)]
        bad += [settings(interval_ms=0), settings(interval_ms=-1), settings(buffer=0), settings(buffer=-3)]
        bad += [settings(hang_ms=0), settings(hang_ms=-1), settings(source=False, sink=False, buffer=0)]
        with self._subject(more=[*bad, settings(buffer=1)]) as subject:
            *refused, made = subject.words(len(bad) + 1)
            subject.finish()
        if made != "made":
            raise Failed(f"New does not take a configuration that is right: {made}")
        wrong = [json.dumps(given) for given, word in zip(bad, refused, strict=True) if word != "refused"]
        if wrong:
            raise Failed(f"New takes {wrong[0]}")

    def reads_during_outage(self) -> None:
        """While the sink is down reads go on, and never more often than they should."""
        with self._subject(buffer=10) as subject:
            subject.online(False)
            subject.wait_handed(60)
            if subject.arrived:
                raise Failed("readings arrived while the sink was down")
            subject.cancel()
        with self._subject(interval_ms=LONG_MS) as subject:
            subject.online(False)
            subject.words(1)
            subject.play_for(0.7, lambda: subject.reads > 2)
            if subject.reads > 2:
                raise Failed("it reads much more often than once every Interval")
            subject.cancel()

    def cancels_promptly(self) -> None:
        """Run returns when it is cancelled: at work, in an outage, and in the middle of a long interval."""
        with self._subject() as subject:
            subject.wait_arrived(10)
            subject.cancel()
        with self._subject() as subject:
            subject.online(False)
            subject.wait_handed(10)
            subject.cancel()
        with self._subject(interval_ms=LONG_MS) as subject:
            subject.words(1)
            subject.play_for(_SETTLE_S, lambda: False)  # it says so before it calls Run
            subject.cancel()

    def no_loss_across_transitions(self) -> None:
        """Nothing is lost or doubled where the sink goes and comes at any moment."""
        with self._subject(buffer=400) as subject:
            subject.spares_room = True
            for _ in range(6):
                subject.online(True)
                subject.wait_arrived(len(subject.arrived) + 6)
                subject.online(False)
                subject.wait_kept(6)
            subject.online(True)
            subject.wait_all()
            subject.cancel()

    def short_outage(self) -> None:
        """An outage that the buffer has room for loses nothing, and what was kept is written at once afterwards."""
        kept = 14
        with self._subject(buffer=30, interval_ms=40.0) as subject:
            subject.spares_room = True
            subject.wait_arrived(3)
            for _ in range(3):
                subject.online(False)
                subject.wait_kept(kept)
                subject.online(True)
                asked = subject.reads
                subject.wait_all()
                # Who writes one reading each interval takes as many of them as there are readings, each time; another
                # one only where the machine stands still meanwhile.
                if subject.reads - asked < kept - 4:
                    break
            else:
                raise Failed(f"{kept} readings that were kept take {subject.reads - asked} intervals to be written")
            subject.cancel()

    def repeated_outages(self) -> None:
        """Nor do several of them, one after the other."""
        with self._subject(buffer=30) as subject:
            subject.spares_room = True
            for _ in range(5):
                subject.online(False)
                subject.wait_kept(12)
                subject.online(True)
                subject.wait_all()
            subject.cancel()

    def long_outage(self) -> dict[str, str]:
        """An outage that is much longer than the buffer; why either of two items is not passed.

        Writes fail through all of it, which a relay that gives up one reading too few for each vain try fills up.
        """
        size, length = 40, 300
        with self._subject(buffer=size, interval_ms=1.0) as subject:
            subject.wait_arrived(5)
            subject.online(False)
            self._outage(subject, length)
            kept = self._left_of(subject, length, size)
            found = {"LongOutageBounded": "", "LongOutageFlushed": ""}
            if len(kept) < size - 2:
                found["LongOutageFlushed"] = f"{len(kept)} of {size} arrived after the outage"
            if len(kept) > size + 3:
                found["LongOutageBounded"] = f"{len(kept)} readings were kept, and {size} are allowed"
            if not kept:
                found["LongOutageBounded"] = "nothing of the outage arrived"
            subject.read_answer = lambda _: True
            subject.wait_arrived(len(subject.arrived) + 5)
            subject.cancel()
        return found

    def sampled(self) -> dict[str, str]:
        """Two outages of which a random sample is left.

        The sink hangs here: with each vain try many buffers move a reading, so that the oldest given up look random.
        """
        size, length = _SAMPLED_SIZE, _SAMPLED_OUTAGE
        outages = []
        with self._subject(buffer=size, interval_ms=1.0) as subject:
            subject.wait_arrived(5)
            for _ in range(2):
                subject.write_answer = lambda _: None
                subject.wait("a write", lambda: bool(subject.hung))
                self._outage(subject, length)
                subject.answer_hung_writes(arrive=False)
                outages.append((self._left_of(subject, length, size), length))
                subject.hung.clear()
                subject.read_answer = lambda _: True
                subject.wait_arrived(len(subject.arrived) + 5)
            subject.cancel()
        why = eviction.judge(outages, size, quick=True) or eviction.judge_halves(outages)
        return {"LongOutageSampled": why}

    def _outage(self, subject: Subject, length: int) -> None:
        """Hands out so many readings, and no more; what is under way before has arrived, or hangs."""
        last = len(subject.handed) + length
        subject.read_answer = lambda _: len(subject.handed) < last
        subject.wait_handed(last)
        self._reads_go_on(subject)

    def _left_of(self, subject: Subject, length: int, size: int) -> set[int]:
        """What is left of the last `length` readings once the sink works again, counted from 1.

        No new readings come meanwhile: none can push another out.
        """
        places = {seq: place for place, seq in enumerate(subject.handed[-length:], 1)}

        def left() -> set[int]:
            return {places[seq] for seq in subject.arrived if seq in places}

        subject.online(True)
        try:
            subject.wait("what was kept arrives", lambda: len(left()) >= size - 2)
        except Failed as why:
            if not why.timed_out:
                raise
        for _ in range(10):  # until nothing more comes
            written = subject.writes
            self._reads_go_on(subject)
            if subject.writes == written:
                break
        return left()

    def _reads_go_on(self, subject: Subject, count: int = 30) -> None:
        asked = subject.reads
        subject.wait("reads go on", lambda: subject.reads >= asked + count)

    def flaky_source(self) -> None:
        """A source that fails every third time, a sink that fails now and then, both as fast as it goes."""
        with self._subject(buffer=2000, interval_ms=0.5) as subject:
            subject.spares_room = True
            subject.read_answer = lambda number: number % 3 != 0
            subject.write_answer = lambda number: number % 7 not in {0, 3}
            subject.wait_handed(250)
            subject.wait_all()
            subject.cancel()

    def hung_read(self) -> None:
        """A read that never returns keeps Run neither from returning nor, after HangTimeout, from reading on."""
        with self._subject() as subject:
            subject.read_answer = lambda number: True if number < 6 else None
            subject.wait("a sixth read", lambda: subject.reads >= 6)
            subject.play_for(_SETTLE_S, lambda: subject.reads > 6)
            if subject.reads > 6:
                raise Failed("it reads while another read is under way")
            subject.cancel()
        with self._subject(hang_ms=100.0) as subject:
            subject.may_repeat = True
            subject.read_answer = lambda number: None if number == 4 else True
            subject.wait("reads go on after HangTimeout", lambda: subject.reads >= 14)
            subject.cancel()

    def hung_write(self) -> None:
        """The same for a write; its reading arrives in the end."""
        with self._subject() as subject:
            subject.write_answer = lambda number: True if number < 4 else None
            subject.wait("a fourth write", lambda: subject.writes >= 4)
            subject.play_for(_SETTLE_S, lambda: False)  # until everything that can has to wait for it
            subject.cancel()
        with self._subject(hang_ms=100.0, buffer=400) as subject:
            subject.spares_room = True
            subject.may_repeat = True
            subject.write_answer = lambda number: None if number == 4 else True
            subject.wait("a fourth write", lambda: subject.writes >= 4)
            subject.wait("what hung arrives after HangTimeout", lambda: set(subject.hung) <= set(subject.arrived))
            subject.wait_arrived(len(subject.arrived) + 5)
            subject.cancel()

    def reads_despite_hung_write(self) -> None:
        """While a write hangs reads go on."""
        with self._subject() as subject:
            subject.write_answer = lambda _: None
            subject.wait("a write", lambda: subject.writes >= 1)
            subject.wait_handed(len(subject.handed) + 40)
            subject.cancel()


SCENARIOS: Final = {
    "validates_arguments": ("ValidatesArguments",),
    "reads_during_outage": ("ReadsDuringOutage",),
    "cancels_promptly": ("CancelsPromptly",),
    "no_loss_across_transitions": ("NoLossAcrossTransitions",),
    "short_outage": ("ShortOutage",),
    "repeated_outages": ("RepeatedOutages",),
    "long_outage": ("LongOutageBounded", "LongOutageFlushed"),
    "sampled": ("LongOutageSampled",),
    "flaky_source": ("FlakySource",),
    "hung_read": ("HungRead",),
    "hung_write": ("HungWrite",),
    "reads_despite_hung_write": ("ReadsDespiteHungWrite",),
}
"""Each scenario, and the items that it decides."""
UNRACED: Final = "ValidatesArguments"
"""The item that a data race does not touch: New is called by one goroutine."""


def judge(setting: Setting) -> Verdict:
    """Every item with its result.

    Raises:
        SandboxFailed: A sandbox could not be started.
    """
    verdict = Verdict()
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        try:
            for found in pool.map(lambda name: _play(setting, name), SCENARIOS):
                verdict.results.update(found.results)
                verdict.raced += found.raced
                verdict.ends += found.ends
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if verdict.raced:
        # What such a program does is left to chance, so that what it loses would be as well.
        lost = dict.fromkeys(verdict.results, "a data race: nothing that it does can be relied on")
        verdict.results = {**lost, UNRACED: verdict.results[UNRACED]}
    return verdict


def _play(setting: Setting, name: str) -> Verdict:
    """One scenario."""
    scenarios = Scenarios(setting)
    items = SCENARIOS[name]
    try:
        found = getattr(scenarios, name)() or dict.fromkeys(items, "")
    except Failed as why:
        found = dict.fromkeys(items, str(why))
    return Verdict(found, [name] if scenarios.raced else [], scenarios.ends)
