"""Programs that nobody tuned an exam's grader to, each with what it is worth, and what the grader makes of them.

A set is a folder of specimens (`runners.exams.folder.specimens`) beside the tests of the exams: `todo_programs`,
`go_v1_programs` and so on. What lies in `reference/` is correct, what `mutants/` and `mutants.toml` hold is broken,
what lies in `published/` is worth what `published.toml` says. A comment at the beginning of each says what it is.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runners.exams import exam_names, get_exam
from runners.exams.base import Reply, Transcript
from runners.exams.box import Box
from runners.exams.folder.specimens import fenced, read_specimens
from runners.exams.go.reading import marked
from runners.exams.go_v2.reading import as_reply
from runners.exams.go_v3.grader import FILE as RELAY
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runners.exams.base import Exam, Grade, Item, Specimen
    from runners.exams.folder.specimens import Wrap
    from runners.sandbox import Sandbox

_SETS: Final = Path(__file__).parents[1] / "runners" / "exams"
_WRAPS: Final[dict[str, Wrap]] = {
    "go-v1": marked,
    "go-v2": as_reply,
    "go-v3": lambda files: marked({RELAY: "\n".join(files.values())}),
    "todo": fenced("python"),
}
_TOLERANCE: Final = 1e-9
KINDS: Final = {"reference": "correct", "mutant": "broken", "published": "known", "cheat": "cheat"}
"""What a kind of specimen is called in the table."""


@dataclass(frozen=True)
class Graded:
    """A program of which it is known what it is worth, and what the grader made of it.

    Attributes:
        seconds: What the grading took.
    """

    exam: Exam
    specimen: Specimen
    grade: Grade
    seconds: float

    @property
    def kind(self) -> str:
        """One of the values of `KINDS`."""
        return KINDS[self.specimen.kind]

    @property
    def score(self) -> float:
        """Points by the exam's default scoring."""
        return self.grade.scores[self.exam.scorings[0]]

    @property
    def passed(self) -> tuple[str, ...]:
        """Every item of any scoring that it passed; two gradings of one program are alike in this."""
        return tuple(item.name for item in self.grade.items if item.passed)

    @property
    def lost(self) -> tuple[str, ...]:
        """The items of the default scoring that it did not pass."""
        return tuple(item.name for item in self.grade.items if self._counts(item) and not item.passed)

    @property
    def in_full(self) -> bool:
        """Whether it has full marks by the default scoring."""
        return not self.lost and self.score >= self.grade.score_max - _TOLERANCE

    @property
    def expected(self) -> str:
        """What it is worth, in a few words."""
        if self.specimen.kind == "reference":
            return f"{self.grade.score_max:g}"
        if self.specimen.kind == "mutant":
            return f"less than {self.grade.score_max:g}"
        words = "at most " if self.specimen.kind == "cheat" else ""
        return words + ", ".join(f"{points:g}" for points in self.specimen.bounds.values())

    @property
    def wrong(self) -> str:
        """What the grader got wrong; empty where it was right."""
        match self.specimen.kind:
            case "reference":
                return "" if self.in_full else f"a correct program loses {', '.join(self.lost) or 'points'}"
            case "mutant":
                return self._wrong_of_broken()
            case "published":
                off = [name for name, points in self.specimen.bounds.items() if abs(self._points(name) - points) > 1e-6]
                return f"is worth something else by {', '.join(off)}" if off else ""
            case "cheat":
                over = [name for name, points in self.specimen.bounds.items() if self._points(name) > points + 1e-6]
                return f"gains more than that by {', '.join(over)}" if over else ""

    def _wrong_of_broken(self) -> str:
        if self.in_full:
            return "a broken program passes in full"
        if kept := [name for name in self.specimen.loses if name in self.passed]:
            return f"keeps {', '.join(kept)}"
        more = [name for name in self.lost if name not in self.specimen.loses]
        if self.grade.outcome == Outcome.COMPILE_ERROR and more:  # else a slip in a specimen would count as its fault
            return f"does not build, and is not said to lose {', '.join(more)}"
        return ""

    def _points(self, scoring: str) -> float:
        return self.grade.scores[scoring]

    def _counts(self, item: Item) -> bool:
        return item.scoring in {"", self.exam.scorings[0]}


def sets() -> list[str]:
    """The exams that have a set of programs, by name."""
    return [name for name in exam_names() if _folder(name).is_dir()]


def programs(exam: str, only: Sequence[str] = ()) -> list[Specimen]:
    """The programs of an exam's set whose name begins with one of `only`, or all of them.

    Raises:
        UnknownExam, SpecimenError: There is no such exam, or its set cannot be read.
    """
    found = read_specimens(_folder(exam), _WRAPS[exam], scorings=get_exam(exam).scorings)
    return [each for each in found if not only or each.name.startswith(tuple(only))]


def grade(exam: Exam, specimen: Specimen, sandbox: Sandbox) -> Graded:
    """One grading, in a box of its own."""
    task = specimen.task_of(exam)
    box = Box(sandbox)
    begun = time.monotonic()
    try:
        found = exam.grade(task, Transcript.of(task, Reply(specimen.text, finish_reason="stop")), box)
    finally:
        box.close()
    return Graded(exam, specimen, found, time.monotonic() - begun)


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


def _folder(exam: str) -> Path:
    return _SETS / f"{exam.replace('-', '_')}_programs"
