"""What is said of seeds that depend on the scores: how many each cell got, where it stands, why it gets no more."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from results.figures import count, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from results.contest import Rule, Standing


@dataclass(frozen=True, slots=True)
class CellName:
    """A cell by the names that its rows have; a variant or quant that it does not have is `default`, `none`."""

    model: str
    variant: str
    quant: str

    @property
    def label(self) -> str:
        """How a person knows it beside others of its model: `Q8_0`, `kv-q8 Q8_0`, the model's name if it is alone."""
        parts = ("" if self.variant == "default" else self.variant, "" if self.quant == "none" else self.quant)
        return " ".join(filter(None, parts)) or self.model


@dataclass(frozen=True, slots=True)
class SeedNote:
    """One cell on one exam.

    Attributes:
        cell: its label, see `CellName`.
        variant, quant: as in its rows.
        seeds: how many have ended, counted in their order without a gap.
        standing: where it stands beside the best of its model, see `results.contest`.
        best: the label of the cell with the highest mean so far; None before the first seeds of one have ended.
        open: whether more seeds of it are asked for now.
        finished: whether none are asked for of any cell of this model on this exam.
    """

    model: str
    exam: str
    cell: str
    seeds: int
    standing: Standing
    best: str | None
    open: bool
    finished: bool
    variant: str
    quant: str


def rule_text(rule: Rule) -> str:
    """`5 to 60 seeds each, margin 5 points of 100`."""
    return f"{rule.least} to {rule.most} seeds each, margin {plain(rule.margin * 100)} points of 100"


def standing_text(note: SeedNote, rule: Rule) -> str:
    """`worse than Q8_0 after 8 seeds`, with the reason where a cell gets no more seeds without a verdict."""
    after = f"after {count(note.seeds, 'seed')}"
    if note.open:
        return f"open {after}"
    match note.standing:
        case "best":
            return f"best {after}"
        case "worse":
            return f"worse than {note.best} {after}"
        case "equivalent":
            return f"equivalent to {note.best} {after}"
        case "measured":
            return f"mean known to the margin {after}"
        case "unscored":
            return f"no scores: the infrastructure failed the last {rule.least} seeds"
    if note.seeds >= rule.most:
        return f"undecided: cap reached, {count(note.seeds, 'seed')}"
    if not note.finished:
        return f"open {after}"
    return f"undecided {after}: the rest up to {rule.most} would hardly tell"


def seed_lines(notes: Sequence[SeedNote], rule: Rule) -> list[str]:
    """A line for each model on each exam, below one that says what the rule is."""
    lines = []
    for (model, exam), group in groupby(notes, key=lambda note: (note.model, note.exam)):
        parts = [f"{note.cell}: {standing_text(note, rule)}" for note in group]
        lines.append(f"{model} on {exam}: {'; '.join(parts)}")
    if not lines:
        return []
    return [f"Seeds by score ({rule_text(rule)}); verdicts hold however often they were looked at:", *lines]


def news(notes: Iterable[SeedNote], rule: Rule, told: dict[tuple[str, str, str], str]) -> list[str]:
    """Sentences of verdicts that are new since the last call, which `told` remembers."""
    found = []
    for note in notes:
        key = note.model, note.exam, note.cell
        says: str = note.standing if note.standing in {"worse", "equivalent", "measured", "unscored"} else ""
        if not says and note.finished and note.standing == "undecided":
            says = "undecided"
        if told.get(key, "") != says:
            told[key] = says
            if says:
                found.append(f"{note.model} {note.cell} on {note.exam}: {standing_text(note, rule)}")
    return found
