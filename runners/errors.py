"""The errors a person meets while a job runs: what was wrong and what to do about it."""

from __future__ import annotations


class RunnersError(Exception):
    """Something about running a job that its user can mend.

    Attributes:
        message: What was wrong, in one sentence.
        hint: What to do about it; empty where nothing sensible can be said.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message
