"""The exams by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.exams.base import Exam

# Name -> module with a `load()`; imported only when asked for.
_EXAMS = {
    "go-v1": "runners.exams.go_v1",
    "go-v2": "runners.exams.go_v2",
    "go-v3": "runners.exams.go_v3",
    "todo": "runners.exams.todo",
}


def exam_names() -> list[str]:
    """Every exam that a spec can name, in order."""
    return sorted(_EXAMS)


def is_folder(text: str) -> bool:
    """Whether what a person wrote for an exam is the path of a folder: names of exams have no slash."""
    return "/" in text or text in {".", ".."} or text.startswith("~")


def get_exam(name: str, folders: Mapping[str, Exam] | None = None) -> Exam:
    """The exam called `name`: one of `folders`, which are a sweep's own, or of ours.

    Raises:
        UnknownExam: There is none; the hint names the nearest.
    """
    from difflib import get_close_matches
    from importlib import import_module

    from runners.exams.base import UnknownExam

    if folders is not None and name in folders:
        return folders[name]
    module = _EXAMS.get(name)
    if module is None:
        near = get_close_matches(name, _EXAMS, n=1, cutoff=0.5)
        ours = f"the exams are: {', '.join(exam_names())}; one of your own is named by its path, such as ./my-exam"
        hint = f"did you mean {near[0]!r}?" if near else ours
        raise UnknownExam(f"there is no exam called {name!r}", hint)
    exam: Exam = import_module(module).load()
    return exam
