"""The exam go-v1: three small programs in one reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.base import Exam


def load() -> Exam:
    """The exam."""
    from runners.exams.folder.exam import packaged_exam

    return packaged_exam(__name__)
