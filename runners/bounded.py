"""What has to be done at the end of something: every step of it, each in a bounded time, whatever the others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.within import HungError, within

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Closing", "HungError", "within"]


class Closing:
    """What has to be undone at the end, last thing first; every step is done, whatever the others do."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, float, Callable[[], object]]] = []

    def add(self, what: str, seconds: float, call: Callable[[], object]) -> None:
        """`call` is one step, which is given `seconds`; `what` names it in a report."""
        self._steps.append((what, seconds, call))

    def close(self) -> list[str]:
        """Does the steps, in a bounded time, and says of those that failed or hung what happened. Never raises."""
        trouble: list[str] = []
        while self._steps:
            what, seconds, call = self._steps.pop()
            try:
                within(seconds, what, call)
            except BaseException as error:  # the next step must be done in any case
                trouble.append(f"{what}: {type(error).__name__}: {error}")
        return trouble
