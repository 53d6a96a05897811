"""Grades Go programs that nobody tuned the grader of go-v2 to, and prints the confusion table.

    python -m tests.bench.bench_go_v2                              every program of tests/runners/exams/go_v2_programs
    python -m tests.bench.bench_go_v2 --only ring batch            those whose name begins so
    python -m tests.bench.bench_go_v2 --only ring --times 20 --load 4    one outcome each time, beside 4 busy processes
    python -m tests.bench.bench_go_v2 --eviction 100000            how often random eviction is refused, by simulation

Ends with 1 where a correct program is refused, a broken one gets full marks or keeps a test that it has to lose, or the
same program gets two outcomes; where more than one random eviction in 10,000 is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runners.exams import get_exam
from runners.exams.base import Reply, Transcript
from runners.exams.box import Box
from runners.exams.folder.specimens import read_specimens
from runners.exams.go_v2 import eviction, plans
from runners.exams.go_v2.reading import as_reply
from runners.sandbox import open_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runners.exams.base import Grade, Specimen
    from runners.sandbox import Sandbox

PROGRAMS = Path(__file__).parents[1] / "runners" / "exams" / "go_v2_programs"
_EXAM = get_exam("go-v2")
_MOST_REFUSED = 1e-4


@dataclass(frozen=True)
class Graded:
    """A program of which it is known what it is worth, and what the grader made of it."""

    specimen: Specimen
    grade: Grade
    seconds: float

    @property
    def lost(self) -> tuple[str, ...]:
        """The tests of the default scoring that it did not pass."""
        return tuple(item.name for item in self.grade.items if item.scoring == _EXAM.scorings[0] and not item.passed)

    @property
    def wrong(self) -> str:
        """What the grader got wrong; empty where it was right."""
        if self.specimen.kind == "reference":
            return f"a correct program loses {', '.join(self.lost)}" if self.lost else ""
        if self.grade.outcome == "compile_error":
            return "it does not build, which proves nothing"
        if not self.lost:
            return "a broken program passes in full"
        kept = [name for name in self.specimen.loses if name not in self.lost]
        return f"keeps {', '.join(kept)}" if kept else ""


def programs(only: list[str]) -> list[Specimen]:
    """Those whose name begins with one of `only`, or all of them."""
    found = read_specimens(PROGRAMS, as_reply, scorings=_EXAM.scorings)
    return [each for each in found if not only or each.name.startswith(tuple(only))]


def grade(specimen: Specimen, sandbox: Sandbox) -> Graded:
    """One grading, in a box of its own."""
    task = specimen.task_of(_EXAM)
    box = Box(sandbox)
    begun = time.monotonic()
    try:
        found = _EXAM.grade(task, Transcript.of(task, Reply(specimen.text, finish_reason="stop")), box)
    finally:
        box.close()
    return Graded(specimen, found, time.monotonic() - begun)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that want a processor each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


def overwritten(size: int, count: int, chance: random.Random) -> set[int]:
    """What is left of an outage where each reading that finds no room overwrites a random one."""
    kept = list(range(1, size + 1))
    for number in range(size + 1, count + 1):
        kept[chance.randrange(size)] = number
    return set(kept)


def reservoir(size: int, count: int, chance: random.Random) -> set[int]:
    """What is left where each reading has the same chance."""
    return set(chance.sample(range(1, count + 1), size))


def draw(draws: int) -> int:
    """How often truly random eviction is refused."""
    chance = random.Random(9)
    most = 0.0
    for quick, size, count, runs in (
        (True, plans.QUICK_SIZE, plans.QUICK_OUTAGE, 2),
        (False, plans.SLOW_SIZE, plans.SLOW_OUTAGE, 1 + len(plans.AGAIN)),
    ):
        for rule in (overwritten, reservoir):
            refused = sum(
                eviction.judge([(rule(size, count, chance), count) for _ in range(runs)], size, quick=quick) != ""
                for _ in range(draws)
            )
            most = max(most, refused / draws)
            print(f"{rule.__name__}, {runs} outages of {count}, room for {size}: {refused} of {draws:,} refused")
    return int(most > _MOST_REFUSED)


def main() -> int:
    """Prints a line for each grading, then the sums."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("--side-by-side", type=int, default=1)
    parser.add_argument("--eviction", type=int, default=0, metavar="DRAWS")
    given = parser.parse_args()
    if given.eviction:
        return draw(given.eviction)
    sandbox = open_sandbox()
    chosen = programs(given.only) * given.times
    outcomes: dict[str, set[tuple[str, ...]]] = {}
    done = []
    with busy(given.load), ThreadPoolExecutor(given.side_by_side) as pool:
        for each in pool.map(lambda specimen: grade(specimen, sandbox), chosen):
            done.append(each)
            outcomes.setdefault(each.specimen.name, set()).add(
                tuple(item.name for item in each.grade.items if item.passed)
            )
            print(_line(each), flush=True)
    correct = [each for each in done if each.specimen.kind == "reference"]
    broken = [each for each in done if each.specimen.kind == "mutant"]
    several = sorted(name for name, found in outcomes.items() if len(found) > 1)
    print(f"correct: {len(correct)} graded, {sum(bool(each.lost) for each in correct)} refused")
    print(f"broken: {len(broken)} graded, {sum(not each.lost for each in broken)} passed in full")
    print(f"more than one outcome: {', '.join(several) or 'none'}; slowest {max(each.seconds for each in done):.1f} s")
    return int(any(each.wrong for each in done) or bool(several))


def _line(graded: Graded) -> str:
    scores = "  ".join(f"{scoring} {score:4.1f}" for scoring, score in graded.grade.scores.items())
    mark = "WRONG" if graded.wrong else "ok"
    lost = graded.wrong or ", ".join(graded.lost)
    kind = "correct" if graded.specimen.kind == "reference" else "broken"
    return f"{mark:<6}{kind:<8}{graded.specimen.name:<34}{scores} {graded.seconds:6.1f} s  {lost}"


if __name__ == "__main__":
    sys.exit(main())
