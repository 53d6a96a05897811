"""Writes the log of a todo grading: what a person reads to see where the points are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .functional import PROGRAM, text_of

if TYPE_CHECKING:
    from runners.exams.base import Item
    from runners.outcomes import Outcome
    from runners.sandbox.base import Completed

    from .functional import Step
    from .reading import ReplyRead

_SHOWN_CHARS = 2000


def write_log(
    *,
    scores: dict[str, float],
    outcomes: dict[str, Outcome],
    items: tuple[Item, ...],
    found: ReplyRead,
    note: str,
    parsed: Completed,
    steps: list[Step],
    python: str,
    isolation: str,
) -> str:
    """Scores first, then every item, then what each call printed."""
    lines = [f"{scoring}: {scores[scoring]:.1f} ({outcomes[scoring].sentence})" for scoring in scores]
    lines += [f"program: {len(found['code'] or '')} characters, found as {found['method']}"]
    lines += [note] if note else []
    lines += [f"run on {python}, isolated by {isolation}", ""]
    lines += [_item_line(item) for item in items]
    if parsed.status != "ok":
        lines += ["", "it does not parse:", _shown(parsed.stderr)]
    for step in steps:
        lines += ["", *_step_lines(step)]
    return "\n".join(lines) + "\n"


def _item_line(item: Item) -> str:
    mark = "ok " if item.passed else "-- "
    return f"{mark}{item.points:5.1f} of {item.points_max:4.1f}  {item.name}" + (f": {item.note}" if item.note else "")


def _step_lines(step: Step) -> list[str]:
    head = f"$ python {PROGRAM} {' '.join(step.arguments)}"
    if step.done is None:
        return [head, "(not run)"]
    done = step.done
    how = f"exit {done.exit_code}" if done.exit_code is not None else f"{done.status} {done.signal or ''}".strip()
    lines = [head, f"({how}, {done.wall_s:.2f} s)"]
    lines += [_shown(stream) for stream in (done.stdout, done.stderr) if stream.strip()]
    return lines


def _shown(stream: bytes) -> str:
    text = text_of(stream).rstrip()
    left = len(text) - _SHOWN_CHARS
    return text if left <= 0 else f"{text[:_SHOWN_CHARS]}\n[{left} more characters]"
