"""Writes the log of a go-v2 grading: every test with its reason, and what each run showed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.exams.go.report import head_lines, run_lines

from .judging import ending_of

if TYPE_CHECKING:
    from runners.exams.base import Item
    from runners.outcomes import Outcome

    from .scenarios import Seen
    from .trying import Tried

_TAIL_CHARS = 600


def write_log(
    *,
    scores: dict[str, float],
    outcomes: dict[str, Outcome],
    items: tuple[Item, ...],
    method: str,
    notes: list[str],
    tried: Tried,
    isolation: str,
) -> str:
    """Scores first, then every test, then the builds and the runs."""
    about = [f"program found as {method}", *notes, f"built with {tried.toolchain}, isolated by {isolation}"]
    lines = head_lines(scores, outcomes, items, *about)
    if tried.built.program is None:
        return "\n".join([*lines, *run_lines("go build", tried.built.done)]) + "\n"
    if tried.race is not None and tried.race.program is None:
        lines += run_lines("go build -race", tried.race.done)
    if tried.flags is not None:
        lines += ["", "flags: " + " ".join(tried.flags.words(50, "200ms"))]
    for seen in tried.runs.seen.values() if tried.runs is not None else ():
        lines += ["", *_run_lines(seen)]
    return "\n".join(lines) + "\n"


def _run_lines(seen: Seen) -> list[str]:
    stopped = {None: "", True: ", stopped at SIGINT", False: ", did not stop at SIGINT"}[seen.stopped]
    counts = f"{seen.turned_away} turned away, {seen.malformed} malformed, {seen.repeated} repeated"
    lines = [f"run {seen.name!r}, room for {seen.size}: {ending_of(seen)}{stopped}; {counts}"]
    lines += ["more requests than any sound program sends"] if seen.flooded else []
    for outage in seen.outages:
        taken = outage.last - outage.first + 1
        kept = [number - outage.first + 1 for number in outage.kept]
        lines.append(f"  outage of {taken} readings; {len(kept)} of them came afterwards, then {outage.live} live ones")
        lines.append(f"  kept: {' '.join(map(str, kept[:120]))}")
    if tail := seen.output.strip()[-_TAIL_CHARS:]:
        lines += [f"  | {line}" for line in tail.splitlines()[-6:]]
    return lines
