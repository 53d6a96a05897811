"""The todo exam: does a model write a small command-line program that works?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.todo.exam import TodoExam


def load() -> TodoExam:
    """The exam."""
    from runners.exams.todo.exam import TodoExam

    return TodoExam()
