"""The exam go-v2: can a model make a program of 200 lines of Go survive network outages?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.go_v2.exam import GoV2Exam


def load() -> GoV2Exam:
    """The exam."""
    from runners.exams.go_v2.exam import GoV2Exam

    return GoV2Exam()
