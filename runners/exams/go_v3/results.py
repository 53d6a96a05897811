"""Reads the verdict of the scenarios out of what was printed beside it; run where no text holds anybody up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTE_CHARS = 300


def read_results(output: str, word: str, items: Sequence[str]) -> dict[str, str]:
    """Why each item is not passed, by item; empty where the last line with `word` is not the verdict.

    The word is known to whoever printed the verdict, and to nothing that a model wrote.
    """
    lines = [line for line in output.splitlines() if line.startswith(f"{word} ")]
    if not lines:
        return {}
    results = json.loads(lines[-1].removeprefix(f"{word} "))
    found = {str(name): "" if passed else str(why)[:_NOTE_CHARS] or "failed" for name, passed, why in results}
    return {name: found[name] for name in items if name in found}
