"""Plays source and sink to a relay in a process of its own, and judges it by what it asks for; runs in the sandbox.

    python -I -S -c 'from runners.exams.go_v3.inside import main; main()' PROGRAM GUARD_S < WORD

It and `subject.py` need the standard library only. PROGRAM is the relay under test with `files/main.go.txt` around it,
started anew for each scenario. Everything is waited for until it happens (GUARD_S at most): nothing depends on how fast
this machine is. What is printed, last, is a line of WORD and JSON: [item, whether it passed, why not] for each item.
WORD is read before anything of the relay's runs, so a relay that prints such a line itself does not know it.
"""

from __future__ import annotations

import contextlib
import json
import sys

from runners.exams.go_v3.subject import LONG_MS, Failed, Subject, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_TIMEOUTS = 6


class Scenarios:
    """The scenarios of the exam, each a method that raises `Failed`; long outages are three items of one run."""

    def __init__(self, program: str, guard_s: float) -> None:
        self._program, self._guard_s = program, guard_s

    @contextlib.contextmanager
    def _subject(self, **given: float) -> Iterator[Subject]:
        subject = Subject(self._program, self._guard_s, **given)  # type: ignore[arg-type]  # numbers, as they are named
        try:
            yield subject
        finally:
            subject.close()

    def validates_arguments(self) -> None:
        """New refuses what cannot work and takes what can."""
        bad = [settings(source=False), settings(sink=False)]
        bad += [settings(interval_ms=0), settings(interval_ms=-1), settings(buffer=0), settings(buffer=-3)]
        bad += [settings(hang_ms=0), settings(hang_ms=-1), settings(source=False, sink=False, buffer=0)]
        subject = Subject(self._program, self._guard_s, more=[*bad, settings(buffer=1)])
        try:
            *refused, made = subject.words(len(bad) + 1)
            subject.finish()
        finally:
            subject.close()
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
            subject.cancel()

    def no_loss_across_transitions(self) -> None:
        """Nothing is lost or doubled where the sink goes and comes at any moment."""
        with self._subject(buffer=400) as subject:
            for _ in range(6):
                subject.online(True)
                subject.wait_arrived(len(subject.arrived) + 6)
                subject.online(False)
                subject.wait_handed(len(subject.handed) + 6)
            subject.online(True)
            subject.wait_all()
            subject.cancel()

    def short_outage(self) -> None:
        """An outage that the buffer has room for loses nothing, and what was kept is written at once afterwards."""
        kept = 14
        with self._subject(buffer=30, interval_ms=40.0) as subject:
            subject.wait_arrived(3)
            for _ in range(3):
                subject.online(False)
                subject.wait_handed(len(subject.handed) + kept)
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
            for _ in range(5):
                subject.online(False)
                subject.wait_handed(len(subject.handed) + 12)
                subject.online(True)
                subject.wait_all()
            subject.cancel()

    def long_outage(self) -> dict[str, str]:
        """An outage that is much longer than the buffer; why each of its three items is not passed."""
        size, length = 40, 300
        with self._subject(buffer=size, interval_ms=1.0) as subject:
            subject.wait_arrived(5)
            subject.online(False)
            before = len(subject.handed)
            subject.wait_handed(before + length)
            outage = set(subject.handed[before:])
            # No new readings while what was kept is written: none can push another out.
            subject.read_answer = lambda _: False
            subject.online(True)

            def left() -> list[int]:
                return [seq for seq in subject.arrived if seq in outage]

            found = {"LongOutageBounded": "", "LongOutageFlushed": "", "LongOutageSampled": ""}
            try:
                subject.wait("what was kept arrives", lambda: len(left()) >= size - 2)
            except Failed as why:
                if not why.timed_out:
                    raise
                found["LongOutageFlushed"] = f"{len(left())} of {size} arrived after the outage"
            for _ in range(10):  # until nothing more comes
                asked, written = subject.reads, subject.writes
                subject.wait("reads go on", lambda asked=asked: subject.reads >= asked + 30)  # type: ignore[misc]  # bound
                if subject.writes == written:
                    break
            kept = left()
            if len(kept) > size + 3:
                found["LongOutageBounded"] = f"{len(kept)} readings were kept, and {size} are allowed"
            if not kept:
                found["LongOutageBounded"] = "nothing of the outage arrived"
            runs = sum(
                1
                for place, seq in enumerate(subject.handed)
                if seq in set(kept) and subject.handed[place - 1] not in kept
            )
            if runs < 5:
                found["LongOutageSampled"] = f"what was kept is {runs} pieces of the outage, not a sample of it"
            elif len(kept) > length // 2:
                found["LongOutageSampled"] = "hardly anything was dropped"
            subject.read_answer = lambda _: True
            arrived = len(subject.arrived)
            subject.wait_arrived(arrived + 5)
            subject.cancel()
        return found

    def flaky_source(self) -> None:
        """A source that fails every third time, a sink that fails now and then, both as fast as it goes."""
        with self._subject(buffer=2000, interval_ms=0.5) as subject:
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
            subject.cancel()
        with self._subject(hang_ms=100.0, buffer=400) as subject:
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


ONE_EACH = {
    "ValidatesArguments": "validates_arguments",
    "ReadsDuringOutage": "reads_during_outage",
    "CancelsPromptly": "cancels_promptly",
    "NoLossAcrossTransitions": "no_loss_across_transitions",
    "ShortOutage": "short_outage",
    "RepeatedOutages": "repeated_outages",
    "FlakySource": "flaky_source",
    "HungRead": "hung_read",
    "HungWrite": "hung_write",
    "ReadsDespiteHungWrite": "reads_despite_hung_write",
}
LONG_OUTAGE = ("LongOutageBounded", "LongOutageFlushed", "LongOutageSampled")


def judge(program: str, guard_s: float) -> list[tuple[str, bool, str]]:
    """Every item with its result."""
    scenarios = Scenarios(program, guard_s)
    results: dict[str, str] = {}
    timeouts = 0
    for items in (*((name,) for name in ONE_EACH), LONG_OUTAGE):
        if timeouts >= MOST_TIMEOUTS:
            results.update(dict.fromkeys(items, "not run: earlier scenarios did not come to an end"))
            continue
        try:
            if items is LONG_OUTAGE:
                found = scenarios.long_outage()
                timeouts += bool(found["LongOutageFlushed"])
                results.update(found)
            else:
                getattr(scenarios, ONE_EACH[items[0]])()
                results[items[0]] = ""
        except Failed as why:
            timeouts += why.timed_out
            results.update(dict.fromkeys(items, str(why)))
        except (ValueError, IndexError, OSError) as error:  # lines that are none of the program's own
            results.update(dict.fromkeys(items, f"it does not keep to what it was given: {error}"[:200]))
    return [(name, not why, why) for name, why in results.items()]


def main() -> None:
    """See the module."""
    word = sys.stdin.readline().strip()
    results = judge(sys.argv[1], float(sys.argv[2]))
    sys.stdout.write(f"\n{word} {json.dumps(results)}\n")
