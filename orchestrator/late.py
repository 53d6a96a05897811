"""Says what is being done only where it takes long: a mistake that is found at once is then all that one reads."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATE_S = 5.0
"""After so long without a word a person wonders."""


@contextlib.contextmanager
def said_late(say: Callable[[str], object], text: str, *, after_s: float | None = None) -> Iterator[None]:
    """Has `say(text)` called, by a thread of its own, if the block is not done after `after_s` (LATE_S) seconds."""
    timer = threading.Timer(LATE_S if after_s is None else after_s, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what it says comes before whatever is said next
