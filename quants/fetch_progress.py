"""How far the fetching of an artifact has come, over its files, and whether it is still wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quants.errors import FetchCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable


class FetchProgress:
    """Adds up the progress of an artifact over its files, and passes on the wish to stop."""

    def __init__(
        self, total_bytes: int, progress: Callable[[int, int], None] | None, cancelled: Callable[[], bool] | None
    ) -> None:
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self._progress = progress
        self._cancelled = cancelled

    def add(self, count: int) -> None:
        """Count bytes done (negative: bytes that turned out bad) and report."""
        self.done_bytes += count
        if self._progress is not None:
            self._progress(self.done_bytes, self.total_bytes)

    def is_cancelled(self) -> bool:
        """Whether the caller wants to stop."""
        return self._cancelled is not None and self._cancelled()

    def check(self, what: str) -> None:
        """Raise FetchCancelledError if the caller wants to stop."""
        if self.is_cancelled():
            raise FetchCancelledError(f"fetching {what} was cancelled", "What was fetched so far is kept")
