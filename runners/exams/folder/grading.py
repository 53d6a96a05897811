"""Grades a reply in the forms that need no Python: finds the program, builds it, tries it, adds up the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runners import textwork
from runners.exams.base import Grade, Item
from runners.exams.folder.building import NotBuilt, build
from runners.exams.folder.judging import Judged, shown, shown_stream, try_command, try_tests
from runners.exams.folder.languages import LANGUAGES
from runners.exams.folder.reading import read_reply
from runners.exams.programs import without_program
from runners.outcomes import Outcome
from runners.sandbox.python import python_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runners.exams.base import Reply, Task
    from runners.exams.box import Box
    from runners.exams.folder.reading import ReplyRead
    from runners.exams.folder.settings import ExamSettings, OwnTest

REPLY_CHARS: Final = 1_000_000
_BY_STATUS: Final = {
    "time_limit": Outcome.TIME_LIMIT,
    "memory_limit": Outcome.MEMORY_LIMIT,
    "output_limit": Outcome.OUTPUT_LIMIT,
    "process_limit": Outcome.RUNTIME_ERROR,
}


def grade_reply(settings: ExamSettings, task: Task, reply: Reply, files: Mapping[str, bytes], box: Box) -> Grade:
    """The grade of a reply to `task`; `files` is what lies in the box, by path there.

    Raises:
        RunnersError: this machine has no sandbox or no toolchain, or it does not work.
        OSError: there is no room.
    """
    text = reply.text[:REPLY_CHARS]
    cut = len(reply.text) > REPLY_CHARS
    note = f"only the first {REPLY_CHARS:,} of {len(reply.text):,} characters were looked at" if cut else ""
    try:
        found = textwork.run(read_reply, text, settings.language, settings.filename)
    except textwork.TextLimitError as error:
        return _without_program(settings, task, reply, "unreadable", str(error))
    if found["code"] is None:
        truncated = found["truncated"] and not cut
        return _without_program(settings, task, reply, found["method"], note, truncated=truncated)
    return _Answer(settings, task, reply, found, found["code"], note).graded(files, box)


@dataclass(frozen=True)
class _Answer:
    """A reply that holds a program."""

    settings: ExamSettings
    task: Task
    reply: Reply
    found: ReplyRead
    code: str
    note: str

    def graded(self, files: Mapping[str, bytes], box: Box) -> Grade:
        settings = self.settings
        runtime = python_runtime(box.sandbox)
        wants_python = settings.command is not None and "{python}" in settings.command.argv
        program = build(
            self.code,
            LANGUAGES[settings.language],
            box,
            filename=settings.filename,
            files=files,
            build_s=settings.build_s,
            also=runtime.view if wants_python else None,
        )
        if isinstance(program, NotBuilt):
            said = [f"it does not build with {program.toolchain}:"]
            said += [shown_stream(stream) for stream in (program.done.stdout, program.done.stderr) if stream.strip()]
            items = untried(settings, self.task, "not run: it does not build")
            return self._grade(Judged(items, ()), Outcome.COMPILE_ERROR, said, box)
        work = box.folder / "runs"
        work.mkdir()
        if settings.command is not None:
            words = {"{program}": program.argv, "{python}": (runtime.executable,), "{task}": (self.task.name,)}
            judged = try_command(program, settings.command, work, settings.limits, words)
        else:
            judged = try_tests(program, _tests_of(settings, self.task), work, settings.limits)
        said = [f"run with {program.toolchain}, isolated by {box.isolation}"]
        for ran in judged.runs:
            said += ["", *shown(ran)]
        return self._grade(judged, _outcome(judged), said, box)

    def _grade(self, judged: Judged, outcome: Outcome, said: Sequence[str], box: Box) -> Grade:
        """The grade, whose outcome is the worst thing that happened; but full marks are full marks."""
        full = self.settings.score_max
        score = sum(item.points for item in judged.items)
        if judged.items and all(item.passed for item in judged.items):
            score, outcome = full, Outcome.PASSED
        elif self.reply.finish_reason == "length" or (self.found["truncated"] and self.reply.finish_reason is None):
            outcome = Outcome.MAX_TOKENS
        lines = [f"score: {score:g} of {full:g} ({outcome.sentence})"]
        lines += [f"program: {len(self.code)} characters, found as {self.found['method']}"]
        lines += [self.note] if self.note else []
        for item in judged.items:
            line = f"{'ok ' if item.passed else '-- '}{item.points:g} of {item.points_max:g}  {item.name}"
            lines.append(f"{line}: {item.note}" if item.note else line)
        scoring = self.settings.scorings[0]
        return Grade(
            scores={scoring: score},
            score_max=full,
            outcome=outcome,
            items=judged.items,
            log="\n".join([*lines, "", *said]) + "\n",
            extraction_method=self.found["method"],
            isolation=box.isolation,
            outcomes={scoring: outcome},
        )


def _without_program(
    settings: ExamSettings, task: Task, reply: Reply, method: str, note: str, *, truncated: bool = False
) -> Grade:
    return without_program(
        reply,
        scorings=settings.scorings,
        score_max=settings.score_max,
        method=method,
        note=note,
        truncated=truncated,
        items=untried(settings, task, "not run: there is no program"),
    )


def _tests_of(settings: ExamSettings, task: Task) -> list[OwnTest]:
    return [test for test in settings.tests if test.task in {"", task.name}]


def untried(settings: ExamSettings, task: Task, why: str) -> tuple[Item, ...]:
    """The items of an exam where nothing was run: the same ones for every answer, none of them passed."""
    points = [(test.name, test.points) for test in _tests_of(settings, task)]
    if settings.command is not None:
        points = [*settings.command.points.items()]
    return tuple(Item(name, 0.0, most, passed=False, note=why) for name, most in points)


def _outcome(judged: Judged) -> Outcome:
    """What to call an answer that lost points."""
    ended = [(ran.done, ran.expected) for ran in judged.runs if ran.done is not None]
    for status, outcome in _BY_STATUS.items():
        if any(done.status == status for done, _ in ended):
            return outcome
    return Outcome.RUNTIME_ERROR if any(done.exit_code != expected for done, expected in ended) else Outcome.WRONG
