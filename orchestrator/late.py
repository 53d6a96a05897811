"""Says what is being done only where it takes long: a mistake that is found at once is then all that one reads."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATE_S: Final = 2.0
"""After so long without a word a person wonders."""


@contextlib.contextmanager
def said_late(say: Callable[[str], object], text: str, *, after_s: float = LATE_S) -> Iterator[None]:
    """Has `say(text)` called, by a thread of its own, if the block is not done after `after_s` seconds."""
    timer = threading.Timer(after_s, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what it says comes before whatever is said next
