"""Grades a command-line todo list in Python: by its text, and by running it seven times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners import textwork
from runners.exams.base import Grade, Item
from runners.exams.programs import without_program
from runners.outcomes import Outcome
from runners.sandbox.python import PythonRuntime, python_runtime

from .functional import Step, run_steps
from .reading import read_reply
from .report import write_log

if TYPE_CHECKING:
    from runners.exams.base import Reply, Task, Transcript
    from runners.exams.box import Box
    from runners.sandbox.base import Completed

    from .reading import ReplyRead

SYNTAX_POINTS = 20.0
FEATURE_POINTS = 4.0
FUNCTIONAL_POINTS = 40.0
STEPS = 7
# So much of a reply is looked at: a quarter of a million tokens, far more than any program for this exam needs.
REPLY_CHARS = 1_000_000
_NOTE_CHARS = 300
# Parsed where it will run: by that interpreter's grammar, and a text that crashes the parser crashes nobody else.
_PARSE = "import ast, sys; ast.parse(sys.stdin.buffer.read())"
_BY_STATUS = {
    "time_limit": Outcome.TIME_LIMIT,
    "memory_limit": Outcome.MEMORY_LIMIT,
    "output_limit": Outcome.OUTPUT_LIMIT,
}


def grade(_task: Task, transcript: Transcript, box: Box) -> Grade:
    """The grade of an answer; see `Exam.grade`."""
    return _Grader().grade(transcript, box)


@dataclass(frozen=True)
class _Grader:
    """/100: 20 for syntax, 40 for ten features of the text, 40 for seven calls of the program.

    `published` counts a call that ends with exit code 0 and without a traceback, as the published test did: a program
    that completes nothing passes it. `strict`, the default, also asks for the state that the call should have left,
    read back from `list`. Everything but the calls is the same for both.
    """

    score_max: float = SYNTAX_POINTS + 10 * FEATURE_POINTS + FUNCTIONAL_POINTS
    scorings: tuple[str, ...] = ("strict", "published")

    def grade(self, transcript: Transcript, box: Box) -> Grade:
        reply, sandbox, workdir = transcript.reply, box.sandbox, box.folder
        note = ""
        if len(reply.text) > REPLY_CHARS:
            note = f"only the first {REPLY_CHARS:,} of {len(reply.text):,} characters were looked at"
        try:
            found = textwork.run(read_reply, reply.text[:REPLY_CHARS])
        except textwork.TextLimitError as error:
            return self._without_program(reply, "unreadable", str(error))
        if found["code"] is None:
            return self._without_program(reply, found["method"], note, truncated=found["truncated"] and not note)
        program = found["code"].encode("utf-8", "surrogatepass")  # half a pair is an error in Python too
        runtime = python_runtime(sandbox)
        parsed = _parse(program, box, runtime)
        steps: list[Step] = []
        if parsed.status == "ok":
            steps = run_steps(program, sandbox, runtime, workdir, box.limits)
        shown = found["features"]
        items = _items(parsed, shown, steps)
        scores = {scoring: _score(parsed, shown, steps, scoring) for scoring in self.scorings}
        outcomes = {scoring: self._outcome(scores[scoring], reply, found, parsed, steps) for scoring in self.scorings}
        return Grade(
            scores=scores,
            score_max=self.score_max,
            outcome=outcomes[self.scorings[0]],
            items=items,
            log=write_log(
                scores=scores,
                outcomes=outcomes,
                items=items,
                found=found,
                note=note,
                parsed=parsed,
                steps=steps,
                python=runtime.version,
                isolation=sandbox.isolation,
            ),
            extraction_method=found["method"],
            isolation=sandbox.isolation,
            outcomes=outcomes,
        )

    def _without_program(self, reply: Reply, method: str, note: str, *, truncated: bool = False) -> Grade:
        return without_program(
            reply,
            scorings=self.scorings,
            score_max=self.score_max,
            method=method,
            note=note,
            truncated=truncated,
        )

    def _outcome(self, score: float, reply: Reply, found: ReplyRead, parsed: Completed, steps: list[Step]) -> Outcome:
        """What to call a score: the worst thing that happened, but full marks are full marks.

        A reply that reached its token limit with less than full marks is the budget's, whatever else is wrong with it:
        what was written keeps its points, and the row can be run again with more.
        """
        if score >= self.score_max:
            return Outcome.PASSED
        if reply.finish_reason == "length" or (found["truncated"] and reply.finish_reason is None):
            return Outcome.MAX_TOKENS
        if parsed.status != "ok":
            return Outcome.COMPILE_ERROR
        ends = [step.done.status for step in steps if step.done is not None]
        for status, outcome in _BY_STATUS.items():
            if status in ends:
                return outcome
        if any(step.done is not None and b"\nMemoryError" in step.done.stderr for step in steps):
            return Outcome.MEMORY_LIMIT
        return Outcome.WRONG if all(step.published for step in steps) else Outcome.RUNTIME_ERROR


def _parse(program: bytes, box: Box, runtime: PythonRuntime) -> Completed:
    folder = box.folder / "parse"
    folder.mkdir()
    return box.sandbox.run(
        [runtime.executable, "-I", "-S", "-c", _PARSE],
        workdir=folder,
        stdin=program,
        limits=box.limits,
        view=runtime.view,
    )


def _score(parsed: Completed, shown: dict[str, bool], steps: list[Step], scoring: str) -> float:
    syntax = SYNTAX_POINTS if parsed.status == "ok" else 0.0
    done = sum(step.counts(scoring) for step in steps)
    return syntax + FEATURE_POINTS * sum(shown.values()) + FUNCTIONAL_POINTS * done / STEPS


def _items(parsed: Completed, shown: dict[str, bool], steps: list[Step]) -> tuple[Item, ...]:
    ok = parsed.status == "ok"
    error = parsed.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:_NOTE_CHARS]
    items = [_item("syntax", SYNTAX_POINTS, ok, "" if ok else error or parsed.status)]
    items += [_item(f"feature: {name}", FEATURE_POINTS, there) for name, there in shown.items()]
    each = FUNCTIONAL_POINTS / STEPS
    for scoring in ("strict", "published"):
        items += [
            _item(f"{scoring}: {step.name}", each, step.counts(scoring), step.note_for(scoring), scoring)
            for step in steps
        ]
    return tuple(items)


def _item(name: str, points: float, passed: bool, note: str = "", scoring: str = "") -> Item:
    return Item(name, points if passed else 0.0, points, passed, note, scoring)
