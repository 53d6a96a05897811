"""The exams by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.base import Exam

# Name -> module with a `load()`; imported only when asked for.
_EXAMS = {"todo": "runners.exams.todo"}


def exam_names() -> list[str]:
    """Every exam that a spec can name, in order."""
    return sorted(_EXAMS)


def get_exam(name: str) -> Exam:
    """The exam called `name`.

    Raises:
        UnknownExam: There is none; the hint names the nearest.
    """
    from difflib import get_close_matches
    from importlib import import_module

    from runners.exams.base import UnknownExam

    module = _EXAMS.get(name)
    if module is None:
        near = get_close_matches(name, _EXAMS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the exams are: {', '.join(exam_names())}"
        raise UnknownExam(f"there is no exam called {name!r}", hint)
    exam: Exam = import_module(module).load()
    return exam
