"""A reply graded by an exam as a lease does it, for whoever has only a text."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from runners.exams.base import Exam, Grade, Reply, Transcript
from runners.exams.box import Box

if TYPE_CHECKING:
    from pathlib import Path

    from runners.sandbox.base import Sandbox


def grade(exam: Exam, reply: Reply, sandbox: Sandbox, folder: Path) -> Grade:
    """The grade of `reply` to the exam's first task; `folder` is empty, and the caller's."""
    task = exam.tasks()[0]
    return exam.grade(task, Transcript.of(task, reply), Box(sandbox, folder))


def reference_of(exam: str) -> str:
    """The source of the first reference of an exam of ours, as it lies in its folder."""
    folder = files(f"runners.exams.{exam}").joinpath("reference")
    return min(folder.iterdir(), key=lambda entry: entry.name).read_text(encoding="utf-8")
