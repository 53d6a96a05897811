"""The exam go-v3: a relay between a source and a sink that fail and hang."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.go_v3.exam import GoV3Exam


def load() -> GoV3Exam:
    """The exam."""
    from runners.exams.go_v3.exam import GoV3Exam

    return GoV3Exam()
