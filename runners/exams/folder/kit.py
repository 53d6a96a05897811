"""What a `grader.py` is written with: the program of a reply, run as often as it takes, and items added up to a grade.

from runners.exams.base import Item
from runners.exams.folder.kit import find_program, graded

def grade(task, transcript, box):
answer = find_program(transcript.reply, "python", box)
done = answer.run("2", "3")
right = done is not None and done.stdout.strip() == b"5"
return graded([Item("adds", 1.0 if right else 0.0, 1.0, right)], answer)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from runners import textwork
from runners.exams.base import Grade
from runners.exams.folder.building import NotBuilt, Program, build
from runners.exams.folder.grading import REPLY_CHARS
from runners.exams.folder.judging import Ran, shown, shown_stream
from runners.exams.folder.languages import LANGUAGES
from runners.exams.folder.reading import read_reply
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runners.exams.base import Item, Reply
    from runners.exams.box import Box
    from runners.sandbox.base import Completed, Limits

_BUILD_S: Final = 60.0


@dataclass
class Answer:
    """What a reply holds.

    Attributes:
        code: The program as the model wrote it; None where there is none.
        method: How it was found (`Extraction.method`).
        program: It, ready to run; None where there is none, or it does not build.
        outcome: Why there is no program; None where there is one.
        cut: Whether the reply ended at its token limit.
        log: What happened so far, for the grade's log.
    """

    code: str | None
    method: str
    program: Program | None
    outcome: Outcome | None
    cut: bool
    box: Box
    log: list[str] = field(default_factory=list)
    _runs: int = 0

    def run(self, *arguments: str, stdin: bytes = b"", limits: Limits | None = None) -> Completed | None:
        """Runs the program in a box of its own that holds nothing of the runs before; None where there is no program.

        `limits` are those of `exam.toml` where none are given.

        Raises:
            SandboxFailed: it could not be started.
        """
        if self.program is None:
            return None
        self._runs += 1
        folder = self.box.folder / f"run-{self._runs}"
        done = self.program.run([*self.program.argv, *arguments], folder, limits or self.box.limits, stdin)
        self.log += shown(Ran(" ".join(["$ program", *arguments]), done))
        return done


def find_program(
    reply: Reply,
    language: str,
    box: Box,
    *,
    filename: str = "",
    files: Mapping[str, bytes] | None = None,
    build_s: float = _BUILD_S,
) -> Answer:
    """The program in a reply, checked or built; once for each box.

    Args:
        reply: The model's.
        language: One of `runners.exams.folder.languages.LANGUAGES`.
        box: The grading's.
        filename: What the program is called in its box; the language has a usual name.
        files: What lies beside it, by path in the box; no program can change it.
        build_s: What its building may take.

    Raises:
        RunnersError: this machine cannot build or run it, which is not the model's doing.
    """
    spoken = LANGUAGES[language]
    name = filename or spoken.filename
    cut = reply.finish_reason == "length"
    try:
        found = textwork.run(read_reply, reply.text[:REPLY_CHARS], language, name)
    except textwork.TextLimitError as error:
        return Answer(None, "unreadable", None, Outcome.NO_CODE, cut, box, [str(error)])
    code = found["code"]
    if code is None:
        return Answer(None, found["method"], None, Outcome.NO_CODE, cut or found["truncated"], box)
    program = build(code, spoken, box, filename=name, files=files or {}, build_s=build_s)
    if isinstance(program, NotBuilt):
        said = [shown_stream(stream) for stream in (program.done.stdout, program.done.stderr) if stream.strip()]
        log = [f"it does not build with {program.toolchain}:", *said]
        return Answer(code, found["method"], None, Outcome.COMPILE_ERROR, cut, box, log)
    return Answer(code, found["method"], program, None, cut, box, [f"run with {program.toolchain}"])


def graded(items: Sequence[Item], answer: Answer, *, log: str = "", scoring: str = "points") -> Grade:
    """The grade that items add up to, for an exam with one scoring.

    Args:
        items: What was looked at, what each gives, and whether it passed; the same ones for every answer.
        answer: What was graded.
        log: What a person should read besides the items and what the program printed.
        scoring: As `exam.toml` calls it.
    """
    score, full = sum(item.points for item in items), sum(item.points_max for item in items)
    if items and all(item.passed for item in items):
        score, outcome = full, Outcome.PASSED
    elif answer.cut:
        outcome = Outcome.MAX_TOKENS
    else:
        outcome = answer.outcome or Outcome.WRONG
    lines = [f"score: {score:g} of {full:g} ({outcome.sentence})"]
    lines += [f"{'ok ' if item.passed else '-- '}{item.points:g} of {item.points_max:g}  {item.name}" for item in items]
    lines += [log] if log else []
    return Grade(
        scores={scoring: score},
        score_max=full,
        outcome=outcome,
        items=tuple(items),
        log="\n".join([*lines, "", *answer.log]) + "\n",
        extraction_method=answer.method,
        isolation=answer.box.isolation,
        outcomes={scoring: outcome},
    )
