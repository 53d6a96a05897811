"""The table at the end: what was done, what was seen of it, how long it took until the sweep went on."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.chaos.faults import Strike
    from tests.chaos.sweep import Sweep

SAME_CAUSE = timedelta(seconds=150)
"""What is seen later than this after a fault is not put down to it."""


@dataclass(slots=True)
class Line:
    """What came of all the faults of one name."""

    times: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    recovered_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """Adds up sweep after sweep."""

    lines: dict[str, Line] = field(default_factory=dict)
    impossible: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    late: int = 0
    sweeps: int = 0
    starts: int = 0
    planned: int = 0
    final: int = 0
    attempts: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        """How many were done."""
        return sum(line.times for line in self.lines.values())

    def add(self, sweep: Sweep, strikes: list[Strike], rows: list[dict[str, Any]], planned: int) -> None:
        """Takes in a sweep that has ended."""
        self.sweeps += 1
        self.starts += len(sweep.starts)
        self.planned += planned
        self.final += len({row["job_id"] for row in rows if row["final"]})
        self.attempts += len(rows)
        failed = [row for row in rows if row["outcome_class"] == "infrastructure"]
        self.failures.update(row["outcome"] for row in failed)
        for strike in strikes:
            line = self.lines.setdefault(strike.name, Line())
            line.times += 1
            after = [
                (row["ended_at"] - strike.at).total_seconds()
                for row in rows
                if row["started_at"] > strike.at
                and row["outcome_class"] != "infrastructure"
                and strike.node in {"", row["node"]}
            ]
            if after:
                line.recovered_s.append(min(after))
        seen = [(row["ended_at"], row["outcome"]) for row in failed]
        seen += [(_time(event), _words(event)) for event in sweep.events() if _words(event)]
        for at, what in seen:
            if (cause := _cause(strikes, at)) is not None:
                self.lines[cause.name].seen[what] += 1

    def text(self, seed: int) -> str:
        """The table, and the sums."""
        rows = [("fault", "times", "recovered after s: median (most)", "seen: failed attempts, lines of the journal")]
        for name, line in self.lines.items():
            recovered = ""
            if line.recovered_s:
                recovered = f"{statistics.median(line.recovered_s):.1f} ({max(line.recovered_s):.1f})"
            seen = ", ".join(f"{what} {times}" for what, times in line.seen.most_common())
            rows.append((name, str(line.times), recovered, seen or "nothing"))
        rows += [(name, "-", "", f"not possible here: {why}") for name, why in self.impossible.items()]
        rows += [(name, "-", "", f"given up: {why}") for name, why in self.given_up.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]) for row in rows
        ]
        named = ", ".join(f"{what} {times}" for what, times in self.failures.most_common()) or "none"
        lines += [
            "",
            f"faults: {self.faults}, sweeps: {self.sweeps}, starts of the command: {self.starts}",
            f"attempts: {self.attempts}, of them failed by the infrastructure: {self.failures.total()} ({named})",
            f"planned jobs: {self.planned}, final jobs: {self.final}",
            f"planned = final: {'yes' if self.planned == self.final else 'NO'}",
        ]
        if self.late:
            lines.append(f"rows that stay on a node, damaged or too late for a sweep that had ended: {self.late}")
        if self.violations:
            lines += [f"VIOLATIONS: {len(self.violations)}; to repeat: --seed {seed}", *self.violations]
        else:
            lines.append("violations: none")
        return "\n".join(lines)


def _time(event: dict[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(event["at"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return datetime.min.replace(tzinfo=UTC)


def _words(event: dict[str, Any]) -> str:
    match event.get("event"):
        case "node_lost" | "driver_started":
            return str(event["event"])
        case "lease_ended" if event.get("how") == "failed":
            return "lease failed"
        case "blamed":
            return f"blamed {event.get('kind')}"
    return ""


def _cause(strikes: list[Strike], at: datetime) -> Strike | None:
    before = [strike for strike in strikes if strike.at <= at <= strike.at + SAME_CAUSE]
    return before[-1] if before else None
