"""The exam go-v2: can a model make a program of 200 lines of Go survive network outages?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.exams.base import Exam


def load() -> Exam:
    """The exam."""
    from runners.exams.folder.exam import packaged_exam

    return packaged_exam(__name__)
