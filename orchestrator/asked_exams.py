"""The exams that a spec asks for: ours by their names, a user's own by the paths of their folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import one_line
from orchestrator.needs import why_refused
from profiles.homes import expanded
from runners.errors import RunnersError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Protocol

    from orchestrator.spec import SweepSpec
    from runners.exams.base import Exam

    class NoteProblem(Protocol):
        """Notes what is wrong with the key at a path of the spec."""

        def __call__(self, message: str, /, *path: str | int) -> None:
            """Notes it."""
            ...


def asked_exams(
    spec: SweepSpec, base_dir: Path, problem: NoteProblem, *, local: bool
) -> tuple[dict[str, Exam], dict[str, str]]:
    """The exams by their names, and of those that are not ours where they lie.

    Args:
        spec: what asks for them.
        base_dir: the folder that relative paths count from.
        problem: told of every exam that cannot be used.
        local: they are to be graded on this machine alone, so it has to have what they need.
    """
    from profiles.probe.needs import find_needs
    from runners.exams import exam_names, get_exam, is_folder

    found: dict[str, Exam] = {}
    folders: dict[str, str] = {}
    for number, text in enumerate(spec.exams):
        folder = base_dir / expanded(text) if is_folder(text) else None
        try:
            exam = get_exam(text) if folder is None else _opened(folder)
        except RunnersError as error:
            problem(one_line(error), "exams", number)
            continue
        name = exam.name
        if name in found or (folder is not None and name in exam_names()):
            other = "another exam of this sweep" if name in found else "an exam of quantsweep"
            problem(f"{text} is called {name!r}, as {other}; give it another name in its exam.toml", "exams", number)
            continue
        found[name] = exam
        if folder is not None:
            folders[name] = str(folder.resolve())
        if spec.scoring is not None and spec.scoring not in exam.scorings:
            known = ", ".join(exam.scorings)
            problem(f"exam {name!r} has no scoring {spec.scoring!r}; it has: {known}", "scoring")
        if local and (why := why_refused(name, find_needs(exam.needs))) is not None:
            problem(why, "exams", number)
    return found, folders


def _opened(folder: Path) -> Exam:
    from runners.exams.folder.exam import open_exam

    return open_exam(folder)
