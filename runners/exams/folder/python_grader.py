"""The `grader.py` of an exam's folder: loaded, called, and held to what a grade may say.

It runs in our process with the rights of whoever runs quantsweep: it is code that they named. What a model wrote it
gives to the box, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runners.exams.base import Grade
from runners.exams.folder.content import ExamFolderError
from runners.outcomes import Outcome, OutcomeClass, outcome_class

if TYPE_CHECKING:
    from pathlib import Path

    from runners.exams.base import Task, Transcript
    from runners.exams.box import Box
    from runners.exams.folder.settings import ExamSettings

FUNCTION = "grade"
AS_REPLY = "as_reply"
"""A function that a grader.py may have: makes a reply of a specimen's source (`Wrap` in `specimens.py`)."""

_loading = threading.Lock()


def load_grader(folder: Path, settings: ExamSettings, sha256: str) -> ModuleType:
    """The module of an exam whose files lie in `folder`; `from . import other` finds what lies beside it.

    Raises:
        ExamFolderError: it cannot be imported, or has no function `grade`.
    """
    package = f"quantsweep_exam_{sha256[:16]}"
    path = folder / (settings.python or "grader.py")
    name = f"{package}.{path.stem}"
    with _loading:
        if name in sys.modules:
            return sys.modules[name]
        parent = ModuleType(package)
        parent.__path__ = [str(path.parent)]
        sys.modules[package] = parent
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ExamFolderError(f"{settings.name}: {path.name} is no module of Python", "call it grader.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ExamFolderError(
                f"{settings.name}: {path.name} cannot be imported: {type(error).__name__}: {error}", "mend it"
            ) from error
        if not callable(getattr(module, FUNCTION, None)):
            del sys.modules[name]
            said = f"{settings.name}: {path.name} has no function {FUNCTION}(task, transcript, box)"
            raise ExamFolderError(said, "see docs/exams.md")
        return module


def grade_with(module: ModuleType, settings: ExamSettings, task: Task, transcript: Transcript, box: Box) -> Grade:
    """What the exam's own function makes of a transcript.

    Raises:
        ExamFolderError: what it returned is no grade of this exam: a failure of the grader, never the model's.
    """
    grade: Any = getattr(module, FUNCTION)(task, transcript, box)
    if why := _what_is_wrong(grade, settings):
        raise ExamFolderError(f"the grader of {settings.name} returned {why}", "see docs/exams.md")
    assert isinstance(grade, Grade)  # noqa: S101 - for the type checker; said above
    return grade


def _what_is_wrong(grade: Any, settings: ExamSettings) -> str:
    """Why something is no grade of this exam; empty if it is one."""
    if not isinstance(grade, Grade):
        return f"{type(grade).__name__} instead of a Grade"
    if set(grade.scores) != set(settings.scorings):
        return f"scores of {', '.join(map(str, grade.scores)) or 'nothing'} instead of {', '.join(settings.scorings)}"
    points = [*grade.scores.values(), *(value for item in grade.items for value in (item.points, item.points_max))]
    if not all(isinstance(each, int | float) and math.isfinite(each) and each >= 0 for each in points):
        return "points that are no numbers from 0"
    if not math.isclose(grade.score_max, settings.score_max):
        return f"full marks of {grade.score_max:g} instead of {settings.score_max:g}"
    if any(score > settings.score_max * (1 + 1e-9) for score in grade.scores.values()):
        return "more points than full marks"
    outcomes = [grade.outcome, *grade.outcomes.values()]
    if not all(isinstance(each, Outcome) for each in outcomes):
        return "an outcome that is none (runners.outcomes.Outcome)"
    if any(outcome_class(each) is OutcomeClass.INFRASTRUCTURE for each in outcomes):
        return "an outcome that is no finding about an answer; raise an error instead"
    return ""
