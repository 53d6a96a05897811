"""An exam for tests that is todo in all but its name, and needs a Go toolchain."""

from __future__ import annotations

from dataclasses import replace

from runners.exams.todo.exam import TodoExam


def load() -> TodoExam:
    """The exam."""
    return replace(TodoExam(), name="needy", needs=frozenset({"go"}))
