"""The answer of a row that is kept, graded again: a row of the same attempt with a new grade, and nothing else new."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from runners import row
from runners.errors import RunnersError
from runners.exams.transcript import transcript_of
from runners.files import contents_of, named_in
from runners.outcomes import Outcome, OutcomeClass
from runners.rowcheck import KINDS, REQUIRED, sound
from runners.scoring import grade_of
from runners.selfcheck import FAILED, OK
from runners.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runners.exams.base import Exam, Task
    from runners.sandbox.base import Sandbox

_GRADE = ("score", "score_max", "outcome", "grader_version")
_OF_ITEM = ("name", "scoring", "points", "points_max", "passed")


class NewGrade(NamedTuple):
    """A row with a new grade, and what the files that it names hold, by sha256."""

    row: dict[str, Any]
    files: dict[str, bytes]


def why_not(kept: Mapping[str, Any], exam: Exam) -> str | None:
    """Why the answer in a row cannot be graded by `exam` as it is here; None where it can."""
    if kept["prompt_version"] != exam.prompt_version:
        asked = kept["prompt_version"] or "unknown"
        return f"it answers version {asked} of the prompt, and the grader here is for version {exam.prompt_version}"
    if kept["scoring"] not in exam.scorings:
        return f"the grader here has no scoring {kept['scoring']!r}"
    if (task := _task_of(kept, exam)) is None:
        return f"the exam has no task {kept['task']!r} any more"
    if _was_graded(kept):
        try:
            transcript_of(kept, task)
        except ValueError as why:
            return str(why)
    return None


def graded_again(
    kept: Mapping[str, Any],
    exam: Exam,
    sandbox: Sandbox,
    note_traceback: Callable[[], None] = lambda: None,
    *,
    check: str | None = None,
) -> NewGrade:
    """The row `kept` with the grade that its answer gets here and now; `attempt` and `final` are the caller's.

    An answer that was scored without being looked at, because its time was up, is scored so again. `check` is what this
    machine is found to make of the exam (`runners.selfcheck`).

    Raises:
        RunnersError: it could not be graded, which says nothing of the answer.
    """
    began = time.monotonic()
    try:
        columns, files = _columns(kept, exam, sandbox, note_traceback, began)
    except OSError as error:
        raise RunnersError(f"this machine could not grade: {told(error)}") from error
    except RunnersError:
        raise
    except Exception as error:  # a bug in a grader is never the model's
        with contextlib.suppress(Exception):  # it formats the error, whose methods are the grader's
            note_traceback()
        raise RunnersError(f"the grader failed: {told(error)}") from error
    old = {name: _as_text(value) for name, value in kept.items() if name in KINDS}
    new = {
        **old,
        "files": None,
        "exam_check": check if _was_graded(kept) else None,
        **columns,
        "grader_version": exam.grader_version,
        "regrade_of": kept["regrade_of"] or kept["attempt"],
        "quantsweep_version": version("quantsweep"),
        "ended_at": datetime.now(UTC).isoformat(),
    }
    whole = sound(new, {name: old[name] for name in REQUIRED})
    if whole["outcome"] == Outcome.GRADER_CRASH:
        raise RunnersError(str(whole["error"]))
    return NewGrade(whole, {file.sha256: files[file.sha256] for file in named_in(whole)})


def clears(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a new grade was made where known answers are graded rightly, and the old one where they were not."""
    return new["exam_check"] == OK and (old["exam_check"] or "").startswith(FAILED)


def is_same_grade(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows of one answer say the same of it: version, score, outcome, and what the points are made of."""
    return _parts(one) == _parts(other)


def _columns(
    kept: Mapping[str, Any], exam: Exam, sandbox: Sandbox, note_traceback: Callable[[], None], began: float
) -> tuple[dict[str, Any], dict[str, bytes]]:
    if not _was_graded(kept):
        outcome = Outcome(kept["outcome"])
        return row.unscored_columns(outcome, kept["error"] or outcome.sentence, score_max=exam.score_max), {}
    task = _task_of(kept, exam)
    if task is None:
        raise RunnersError(f"the exam has no task {kept['task']!r}")
    grade = grade_of(exam, task, transcript_of(kept, task), sandbox, note_traceback)
    columns = row.grade_columns(grade, kept["scoring"], time.monotonic() - began)
    if columns["outcome_class"] == OutcomeClass.INFRASTRUCTURE:
        raise RunnersError(f"the grader calls this a failure of the machine ({columns['outcome']})")
    if kept["outcome"] == Outcome.CONTEXT_OVERFLOW and columns["outcome"] == Outcome.MAX_TOKENS:
        columns |= row.outcome_columns(Outcome.CONTEXT_OVERFLOW, kept["error"])  # only its server knew which it was
    return columns, contents_of(grade.files)


def _task_of(kept: Mapping[str, Any], exam: Exam) -> Task | None:
    name = kept.get("task") or "main"
    return next((task for task in exam.tasks() if task.name == name), None)


def _was_graded(kept: Mapping[str, Any]) -> bool:
    return kept["scores"] is not None


def _parts(graded: Mapping[str, Any]) -> tuple[Any, ...]:
    items = [[item.get(name) for name in _OF_ITEM] for item in json.loads(graded["grade_items"] or "[]")]
    return *(graded[name] for name in _GRADE), json.loads(graded["scores"] or "null"), items


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
