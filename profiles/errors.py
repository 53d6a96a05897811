"""The errors about machines and cards that a person meets: what was wrong and what to do about it."""

from __future__ import annotations


class ProfilesError(Exception):
    """Something about a machine, a card or an override file that its user can mend.

    Attributes:
        message: What was wrong, in one sentence.
        hint: What to do about it; None where nothing sensible can be said.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"
