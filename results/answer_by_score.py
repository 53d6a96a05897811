"""The answer of a sweep whose seeds were chosen by score: the smallest quant that is shown to keep up with the best."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from results.answer import Answer, doubt_of, has_quants, place_name
from results.figures import count, plain, points, size
from results.saving import saving_of, saving_text
from results.verdict import ALLOWANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from results.contest import Rule
    from results.seed_notes import SeedNote
    from results.summary import QuantSummary


def notes_by_cell(notes: Iterable[SeedNote]) -> dict[tuple[str, str, str, str], SeedNote]:
    """Each note by model, variant, quant and exam."""
    return {(note.model, note.variant, note.quant, note.exam): note for note in notes}


def answers_by_score(summaries: Iterable[QuantSummary], notes: Iterable[SeedNote], rule: Rule) -> tuple[Answer, ...]:
    """One answer for each model, variant and exam among `summaries`, by the standings alone (results.contest).

    They stand however often somebody looked while seeds were added; verdicts of `results.answer` would not.
    """
    by_cell = notes_by_cell(notes)
    groups: dict[tuple[str, str, str], list[QuantSummary]] = defaultdict(list)
    for summary in summaries:
        groups[summary.model, summary.variant, summary.exam].append(summary)
    return tuple(_answer(group, by_cell, rule) for group in groups.values() if has_quants(group))


def _answer(group: Sequence[QuantSummary], by_cell: Mapping[tuple[str, str, str, str], SeedNote], rule: Rule) -> Answer:
    first = group[0]
    ranked = sorted(group, key=lambda summary: (-(summary.file_bytes or 0), summary.quant))
    usable = [
        (summary, note)
        for summary in ranked
        if summary.scores and (note := by_cell.get((summary.model, summary.variant, summary.quant, summary.exam)))
    ]
    words = _Words(usable, rule)
    named, text = words.answer()
    smallest = None if named is None else usable[named][0].quant
    saves = saving_of(usable[named][0], usable[0][0]) if named else None
    where = f"{place_name(first.model, first.variant)} on {first.exam}{doubt_of(group)}"
    sure = named is not None and words.is_settled(named)
    return Answer(first.model, first.variant, first.exam, smallest, sure, f"{where}: {text}", (), saves)


class _Words:
    """Finds the words for one group: the quants that have scores, largest first, each with where it stands."""

    def __init__(self, usable: Sequence[tuple[QuantSummary, SeedNote]], rule: Rule) -> None:
        self.usable = usable
        self.rule = rule

    def answer(self) -> tuple[int | None, str]:
        """The place of the quant that is named, and the sentence."""
        if not self.usable:
            return None, "no quant has a score yet."
        best = max((summary for summary, _ in self.usable), key=lambda summary: summary.mean or 0.0)
        if (best.mean or 0.0) <= ALLOWANCE * (best.score_max or 1.0):
            return None, f"no quant scored above {_mean_of(best)}: there is no score to keep."
        if len(self.usable) == 1:
            return None, f"only {self.usable[0][0].quant} has scores, so there is nothing to compare it with."
        told = [place for place, (_, note) in enumerate(self.usable) if note.standing in {"best", "equivalent"}]
        if not told:
            return None, self._nothing_told()
        return told[-1], self._named(told[-1]) + self._below(told[-1])

    def is_settled(self, named: int) -> bool:
        """Whether it is shown that no smaller one keeps up, and nothing more is to come."""
        smaller = [note.standing for _, note in self.usable[named + 1 :]]
        return self.usable[named][1].finished and all(standing == "worse" for standing in smaller)

    def _nothing_told(self) -> str:
        note = self.usable[0][1]
        more = "seeds are still added" if not note.finished else f"{self.rule.most} seeds at most do not tell"
        return f"no quant of it is shown to keep up with {note.best}, the best of the model: {more}."

    def _named(self, place: int) -> str:
        summary, note = self.usable[place]
        name = f"{summary.quant} ({size(summary.file_bytes)})"
        mean = f"mean {_mean_of(summary)} over {count(note.seeds, 'seed')}"
        if note.standing == "best":
            smaller = " and no smaller quant is shown to keep up with it" if place + 1 < len(self.usable) else ""
            text = f"{name} has the highest mean{smaller}: {mean}."
        else:
            margin = points(self.rule.margin * (summary.score_max or 1.0))
            text = (
                f"{name} is the smallest quant that keeps up with the best, {note.best}: {mean}, less than {margin} "
                "points below it at 95%, however often it was looked at."
            )
        return text + (saving_text(saving_of(summary, self.usable[0][0]), self.usable[0][0].quant) if place else "")

    def _below(self, place: int) -> str:
        """What became of the next smaller quant."""
        if place + 1 == len(self.usable):
            return " No smaller one has scores."
        summary, note = self.usable[place + 1]
        text = f" The next smaller, {summary.quant} ({size(summary.file_bytes)}), "
        if note.standing == "worse":
            return f"{text}is worse: mean {_mean_of(summary)} over {count(note.seeds, 'seed')}."
        seeds = count(note.seeds, "seed")
        return f"{text}is undecided after {seeds}" + (", and gets more." if note.open else ".")


def _mean_of(summary: QuantSummary) -> str:
    return f"{points(summary.mean)} of {plain(summary.score_max)}"
