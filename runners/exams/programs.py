"""What exams share that run the program of a reply: its environment, and the grade of a reply that holds none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runners.exams.base import Grade
from runners.outcomes import Outcome
from runners.sandbox.base import BOX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.exams.base import Item, Reply

ENVIRONMENT: Final = {
    "HOME": str(BOX),
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
    "COLUMNS": "120",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
}
"""What a program sees in its box: the same on every machine, and nothing of ours."""


def without_program(
    reply: Reply,
    *,
    scorings: Sequence[str],
    score_max: float,
    method: str,
    note: str = "",
    truncated: bool = False,
    items: tuple[Item, ...] = (),
) -> Grade:
    """The grade of a reply in which no program was found: nothing was run, and it gets nothing.

    Args:
        reply: What the model answered.
        scorings: The exam's.
        score_max: Full marks.
        method: How the reply was looked through (`Extraction.method`).
        note: What else the log says of it.
        truncated: Whether what the reply holds has no end, although its engine does not say so.
        items: What would have been looked at.
    """
    cut = reply.finish_reason == "length" or truncated
    outcome = Outcome.MAX_TOKENS if cut else Outcome.NO_CODE
    why = f"{method}: {note}" if note else method
    return Grade(
        scores=dict.fromkeys(scorings, 0.0),
        score_max=score_max,
        outcome=outcome,
        items=items,
        log=f"no program in the reply ({why}): {outcome.sentence}\n",
        extraction_method=method,
        isolation="",
        outcomes=dict.fromkeys(scorings, outcome),
    )
