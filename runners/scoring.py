"""One answer, one grade: in a folder of its own, and once more where the machine may have spoilt the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.exams.box import Box
from runners.sandbox.scratch import Scratch
from runners.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.exams.base import Exam, Grade, Task, Transcript
    from runners.sandbox.base import Sandbox


def grade_of(
    exam: Exam, task: Task, transcript: Transcript, sandbox: Sandbox, note_traceback: Callable[[], None]
) -> Grade:
    """The grade of what was said; `note_traceback` is called where its folder could not be removed, which costs none.

    Raises:
        RunnersError: the sandbox, or what reads texts, could not be had.
        OSError: no room, no inodes, no temporary folder.
    """
    grade, doubt = _examine(exam, task, transcript, sandbox, note_traceback)
    if doubt:  # what the machine did to a program it does not do again, what the program did it does
        grade, _ = _examine(exam, task, transcript, sandbox, note_traceback)
    return grade


def _examine(
    exam: Exam, task: Task, transcript: Transcript, sandbox: Sandbox, note_traceback: Callable[[], None]
) -> tuple[Grade, str]:
    """The grade, and why it is in doubt; empty if it is not."""
    witness, folder = Witness(sandbox), Scratch()
    try:
        return exam.grade(task, transcript, Box(witness, folder.path)), witness.doubt
    finally:
        try:
            folder.remove()
        except Exception:
            note_traceback()
