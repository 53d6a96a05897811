"""The exam go-v1: three small programs in one reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.go_v1.exam import GoV1Exam


def load() -> GoV1Exam:
    """The exam."""
    from runners.exams.go_v1.exam import GoV1Exam

    return GoV1Exam()
