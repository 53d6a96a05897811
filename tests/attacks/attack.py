"""What an attack is: something hostile that is really tried, and what got through, if anything did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that a hostile model, file, Hub or user may try.

    Attributes:
        category: The line of the table that it counts for: `memory`, `kernel surface`, `terminal` ...
        name: What is tried, in a few words.
        attempt: Really tries it, in an empty folder of its own. None: it was held. Else a sentence that says what
            got through.
    """

    category: str
    name: str
    attempt: Callable[[Path], str | None]
