"""Names the outcome of a Go exam, and writes the log that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runners.exams.base import Item
    from runners.sandbox.base import Completed

_BY_STATUS = {
    "time_limit": Outcome.TIME_LIMIT,
    "memory_limit": Outcome.MEMORY_LIMIT,
    "output_limit": Outcome.OUTPUT_LIMIT,
}
_SHOWN_CHARS = 2000


def outcome_of(*, full_marks: bool, cut_off: bool, all_built: bool, runs: Iterable[Completed | None]) -> Outcome:
    """What to call a score: the worst thing that happened, but full marks are full marks.

    A reply that reached its token limit with less than full marks is the budget's, whatever else is wrong with it.
    """
    if full_marks:
        return Outcome.PASSED
    if cut_off:
        return Outcome.MAX_TOKENS
    if not all_built:
        return Outcome.COMPILE_ERROR
    ends = [run.status for run in runs if run is not None]
    for status, outcome in _BY_STATUS.items():
        if status in ends:
            return outcome
    return Outcome.RUNTIME_ERROR if any(end != "ok" for end in ends) else Outcome.WRONG


def head_lines(
    scores: Mapping[str, float], outcomes: Mapping[str, Outcome], items: Sequence[Item], *about: str
) -> list[str]:
    """Scores first, what they were found with, then every item."""
    lines = [f"{scoring}: {score:g} ({outcomes[scoring].sentence})" for scoring, score in scores.items()]
    lines += [*(line for line in about if line), ""]
    return lines + [item_line(item) for item in items]


def item_line(item: Item) -> str:
    """One item with its points."""
    mark = "ok " if item.passed else "-- "
    return f"{mark}{item.points:4g} of {item.points_max:g}  {item.name}" + (f": {item.note}" if item.note else "")


def run_lines(title: str, done: Completed | None) -> list[str]:
    """How a program ended and what it printed, from the beginning."""
    if done is None:
        return ["", title, "(not run)"]
    how = f"exit {done.exit_code}" if done.exit_code is not None else f"{done.status} {done.signal or ''}".strip()
    lines = ["", title, f"({how}, {done.wall_s:.2f} s)"]
    return lines + [shown(stream) for stream in (done.stdout, done.stderr) if stream.strip()]


def shown(stream: bytes) -> str:
    """What a program printed, cut to what a log can hold."""
    text = stream.decode("utf-8", "replace").rstrip()
    left = len(text) - _SHOWN_CHARS
    return text if left <= 0 else f"{text[:_SHOWN_CHARS]}\n[{left} more characters]"
