"""The `grader.py` of an exam's folder: loaded, called, and held to what a grade may say.

It runs in our process with the rights of whoever runs quantsweep: it is code that they named. What a model wrote it
gives to the box, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import threading
from dataclasses import asdict
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from runners.exams.base import Grade, Item
from runners.exams.folder.content import ExamFolderError
from runners.outcomes import Outcome, OutcomeClass, outcome_class
from runners.told import told

if TYPE_CHECKING:
    from pathlib import Path

    from runners.exams.base import Task, Transcript
    from runners.exams.box import Box
    from runners.exams.folder.settings import ExamSettings

FUNCTION = "grade"
AS_REPLY = "as_reply"
"""A function that a grader.py may have: makes a reply of a specimen's source (`Wrap` in `specimens.py`)."""

ITEMS_MOST: Final = 2000
_ITEMS_BYTES: Final = 1 << 20
"""What a row has room for (`runners.rowcheck.JSON_BYTES`)."""
_CLOSE: Final = 1e-9

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
        except BaseException as error:
            del sys.modules[name]
            if _is_ctrl_c(error):
                raise
            raise ExamFolderError(
                f"{settings.name}: {path.name} cannot be imported: {told(error)}", "mend it"
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
    try:
        grade: Any = getattr(module, FUNCTION)(task, transcript, box)
    except Exception:
        raise
    except BaseException as error:  # `sys.exit()` in a grader ends an answer's grading, and no process of ours
        if _is_ctrl_c(error):
            raise
        raise RuntimeError(f"it raised {told(error)}") from error
    if why := _what_is_wrong(grade, settings):
        raise ExamFolderError(f"the grader of {settings.name} returned {why}", "see docs/exams.md")
    assert isinstance(grade, Grade)  # noqa: S101 - for the type checker; said above
    return grade


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether it is the user's, which arrives in the main thread, and nothing that a grader raised elsewhere."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _what_is_wrong(grade: Any, settings: ExamSettings) -> str:
    """Why something is no grade of this exam; empty if it is one.

    The points of the items need not add up to a score: an exam may weigh, cap or round them.
    """
    if not isinstance(grade, Grade):
        return f"{type(grade).__name__} instead of a Grade"
    return _wrong_types(grade) or _wrong_scores(grade, settings) or _wrong_items(grade, settings)


def _wrong_types(grade: Any) -> str:
    for name in ("log", "extraction_method", "isolation"):
        if not isinstance(value := getattr(grade, name), str):
            return f"a Grade whose {name} is no text but of type {type(value).__name__}"
    for name in ("scores", "outcomes"):
        if not isinstance(value := getattr(grade, name), dict):
            return f"a Grade whose {name} are no dict but of type {type(value).__name__}"
    return "" if isinstance(grade.items, list | tuple) else f"items of type {type(grade.items).__name__}, no tuple"


def _wrong_scores(grade: Any, settings: ExamSettings) -> str:
    if set(grade.scores) != set(settings.scorings):
        return f"scores of {', '.join(map(str, grade.scores)) or 'nothing'} instead of {', '.join(settings.scorings)}"
    if not all(map(_is_points, [*grade.scores.values(), grade.score_max])):
        return "points that are no numbers from 0"
    if not math.isclose(grade.score_max, settings.score_max):
        return f"full marks of {grade.score_max:g} instead of {settings.score_max:g}"
    if any(score > settings.score_max * (1 + _CLOSE) for score in grade.scores.values()):
        return "more points than full marks"
    if unknown := [scoring for scoring in grade.outcomes if scoring not in settings.scorings]:
        return f"an outcome of {unknown[0]!r}, which is none of the scorings {', '.join(settings.scorings)}"
    outcomes = {settings.scorings[0]: grade.outcome}
    for scoring, outcome in [*outcomes.items(), *grade.outcomes.items()]:
        if not isinstance(outcome, Outcome):
            return "an outcome that is none (runners.outcomes.Outcome)"
        if outcome_class(outcome) is OutcomeClass.INFRASTRUCTURE:
            return "an outcome that is no finding about an answer; raise an error instead"
        score = grade.scores[scoring]
        if outcome is Outcome.PASSED and score == 0:
            return f"outcome {outcome.value!r} with a score of 0 ({scoring})"
    return ""


def _wrong_items(grade: Any, settings: ExamSettings) -> str:
    if len(grade.items) > ITEMS_MOST:
        return f"{len(grade.items):,} items; a grade may have {ITEMS_MOST:,}: put several checks into one item"
    seen = set()
    for item in grade.items:
        if not isinstance(item, Item):
            return f"an item of type {type(item).__name__} instead of an Item"
        if why := _wrong_item(item, settings):
            return f"the item {str(item.name)[:100]!r} {why}"
        if (item.name, item.scoring) in seen:
            return f"two items called {item.name[:100]!r}"
        seen.add((item.name, item.scoring))
    if len(json.dumps([asdict(item) for item in grade.items])) > _ITEMS_BYTES:
        return f"items of more than {_ITEMS_BYTES:,} bytes as JSON: shorten their notes, or write them into the log"
    return ""


def _wrong_item(item: Any, settings: ExamSettings) -> str:
    for name in ("name", "note", "scoring"):
        if not isinstance(value := getattr(item, name), str):
            return f"whose {name} is no text but of type {type(value).__name__}"
    if not item.name.strip():
        return "without a name"
    if item.scoring and item.scoring not in settings.scorings:
        return f"of the scoring {item.scoring[:100]!r}, which the exam does not have"
    if not isinstance(item.passed, bool):
        return f"whose passed is neither True nor False but of type {type(item.passed).__name__}"
    if not (_is_points(item.points) and _is_points(item.points_max)):
        return "with points that are no numbers from 0"
    if item.points > item.points_max * (1 + _CLOSE):
        return f"with {item.points:g} points of {item.points_max:g}"
    if item.passed and item.points == 0 and item.points_max > 0:
        return f"that has passed with 0 points of {item.points_max:g}"
    return ""


def _is_points(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
