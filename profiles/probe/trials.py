"""How a need of exams is tried: a program is asked in an empty folder, and what it fails at becomes the reason."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.probe.system import Answer

TRY_S: Final = 20.0
"""How long a program that is tried may take."""

_FAILURE_CHARS: Final = 200


class MissingError(Exception):
    """A need is not met, and why; `cures` has commands where those of the need itself would not mend it."""

    def __init__(self, reason: str, *cures: str) -> None:
        super().__init__(reason)
        self.cures = cures


def trial_environment(folder: Path) -> dict[str, str]:
    """What a program that is tried sees: nothing of ours, and its home is a folder that is thrown away."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C"}


def asked(answer: Answer, program: str) -> str:
    """What a program printed that ended well.

    Raises:
        MissingError: it did not.
    """
    if answer.exit_code == 0:
        return answer.text
    how = answer.failure or f"exit code {answer.exit_code}: {last_line(answer.text) or 'without a word'}"
    raise MissingError(f"{program} does not work: {how}")


def first_line(text: str) -> str:
    """The first line of what a program printed, cut to what fits into a sentence."""
    return text.strip().partition("\n")[0][:_FAILURE_CHARS]


def last_line(text: str) -> str:
    """The last one, where most programs say what went wrong."""
    return text.strip().rpartition("\n")[2][:_FAILURE_CHARS]
