"""An exam for tests that is todo in all but its name, and needs a Go toolchain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runners.exams.folder.exam import packaged_exam

if TYPE_CHECKING:
    from runners.exams.base import Exam


def load() -> Exam:
    """The exam."""
    todo = packaged_exam("runners.exams.todo")
    return replace(todo, settings=replace(todo.settings, name="needy", needs=frozenset({"go"})))
