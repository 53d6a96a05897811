"""Grading as a sweep does it, in the best sandbox of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runners.exams import get_exam
from runners.exams.base import Grade, Reply
from runners.sandbox import Sandbox, open_sandbox
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from pathlib import Path

GradeText = Callable[..., Grade]


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return open_sandbox()


@pytest.fixture
def grade(sandbox: Sandbox, tmp_path: Path) -> GradeText:
    """Grades a text that ended as `finish_reason` says."""
    exam = get_exam("todo")

    def run(text: str, finish_reason: str | None = "stop") -> Grade:
        folder = tmp_path / f"grading-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return grade_reply(exam, Reply(text, finish_reason=finish_reason), sandbox, folder)

    return run
