"""The answer a sweep is run for, in a sentence: the smallest quant that kept the score, and what that rests on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.figures import count, plain, points, size
from results.stats import unseen_rate
from results.verdict import ALLOWANCE, FEWEST_SEEDS, GOOD_SEEDS, Certainty, Comparison, compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from results.summary import QuantSummary


@dataclass(frozen=True, slots=True)
class Answer:
    """The smallest quant of one model, in one variant, that kept the score of one exam.

    `smallest` is None where the seeds do not allow naming one. `comparisons` go from the largest quant but one down.
    """

    model: str
    variant: str
    exam: str
    smallest: str | None
    certainty: Certainty
    sentence: str
    comparisons: tuple[Comparison, ...]


def answers(summaries: Iterable[QuantSummary]) -> tuple[Answer, ...]:
    """One answer for each model, variant and exam among `summaries`."""
    groups: dict[tuple[str, str, str], list[QuantSummary]] = defaultdict(list)
    for summary in summaries:
        groups[summary.model, summary.variant, summary.exam].append(summary)
    return tuple(_answer(*key, group) for key, group in groups.items())


def place_name(model: str, variant: str) -> str:
    """A model with its variant, where the spec names one."""
    return model if variant == "default" else f"{model} ({variant})"


def cell_name(model: str, variant: str, quant: str) -> str:
    """A cell, as the plan's `Cell.label` has it; a model of an endpoint has no quant, which its rows call `none`."""
    return place_name(model, variant) if quant == "none" else f"{place_name(model, variant)} {quant}"


def exam_name(exam: str, task: str | None) -> str:
    """An exam with its task, where it has several."""
    return exam if task in {None, "main"} else f"{exam} ({task})"


def _answer(model: str, variant: str, exam: str, group: Sequence[QuantSummary]) -> Answer:
    ranked = sorted(group, key=lambda summary: (-(summary.file_bytes or 0), summary.quant))
    usable = [summary for summary in ranked if summary.scores and summary.file_bytes is not None]
    comparisons = tuple(compare(summary, usable[:place]) for place, summary in enumerate(usable) if place)
    smallest, certainty, text = _Words(usable, comparisons).answer()
    where = f"{place_name(model, variant)} on {exam}"
    return Answer(model, variant, exam, smallest, certainty, f"{where}: {text}", comparisons)


class _Words:
    """Finds the words for one group: the quants that have scores, largest first, each but the first compared."""

    def __init__(self, usable: Sequence[QuantSummary], comparisons: Sequence[Comparison]) -> None:
        self.usable = usable
        self.comparisons = comparisons
        self.place = {summary.quant: place for place, summary in enumerate(usable)}

    def answer(self) -> tuple[str | None, Certainty, str]:
        """The quant that is named, how sure that is, and the sentence."""
        if not self.usable:
            return None, "undecided", "no quant has a score yet."
        best = max(self.usable, key=lambda summary: summary.mean or 0.0)
        if (best.mean or 0.0) <= ALLOWANCE * (best.score_max or 1.0):
            return None, "undecided", f"no quant scored above {_mean_of(best)}: there is no score to keep."
        if not self.comparisons:
            return None, "undecided", f"only {self.usable[0].quant} has scores, so there is nothing to compare it with."
        if max(comparison.pairs for comparison in self.comparisons) < FEWEST_SEEDS:
            return None, "undecided", self._too_few()
        kept = [comparison for comparison in self.comparisons if comparison.kept]
        if kept:
            return kept[-1].quant, kept[-1].certainty, self._kept(kept[-1]) + self._below(kept[-1].quant)
        largest = self.usable[0]
        surely = all(comparison.certainty == "loses" for comparison in self.comparisons)
        text = f"only the largest, {self._sized(largest.quant)}, has its score: mean {_mean_of(largest)}."
        return largest.quant, "keeps" if surely else "undecided", text + self._below(largest.quant)

    def _too_few(self) -> str:
        most = max(self.comparisons, key=lambda comparison: comparison.pairs)
        tasks = max(most.tasks, 1)
        fewest, good = (-(-wanted // tasks) for wanted in (FEWEST_SEEDS, GOOD_SEEDS))
        return (
            f"undecided: with {_seen(most)} to compare by, one unlucky draw would turn the answer. "
            f"Run at least {fewest if tasks == 1 else count(fewest, 'seed')}, better {good}."
        )

    def _kept(self, kept: Comparison) -> str:
        quant = self.usable[self.place[kept.quant]]
        text = (
            f"{self._sized(kept.quant)} is the smallest quant that kept the score: mean {_mean_of(quant)}, "
            f"{_against(kept)} {kept.reference}, the best larger one, over {_seen(kept)}."
        )
        allowance = points(ALLOWANCE * (quant.score_max or 1.0))
        if kept.certainty == "keeps":
            return f"{text} To within {allowance} points, {_seen(kept)} are enough to say so at 95%."
        if kept.lowest is None:
            room = f"a failure in up to {unseen_rate(kept.pairs):.0%} of replies could have gone unseen"
        else:
            room = f"they leave room for a true mean up to {points(max(-kept.lowest, 0.0))} points lower"
        text += f" That is what {_seen(kept)} saw, not proof: {room} (95%)"
        if kept.more_seeds is None:
            return f"{text}, and the fall is too near the allowance of {allowance} points to tell by running more."
        return f"{text}; if they go on like this, about {_more(kept)} would show it to within {allowance} points."

    def _below(self, name: str) -> str:
        """What became of the next smaller quant."""
        below = next((c for c in self.comparisons if self.place[c.quant] == self.place[name] + 1), None)
        if below is None:
            return " No smaller one has scores."
        text = f" The next smaller, {self._sized(below.quant)}, "
        if below.difference is None or below.pairs < FEWEST_SEEDS:
            return f"{text}has too few {'seeds' if below.tasks <= 1 else 'answers'} to compare by ({below.pairs})."
        text += f"scored {points(-below.difference)} points lower"
        seeds = _seen(below)
        if below.certainty == "loses":
            return f"{text}, and {seeds} are enough to tell."
        if below.more_seeds is None:
            return f"{text}, too near the allowance to tell by running more."
        return f"{text}, which {seeds} cannot tell from chance; if the difference stays, about {_more(below)} would."

    def _sized(self, name: str) -> str:
        return f"{name} ({size(self.usable[self.place[name]].file_bytes)})"


def _mean_of(summary: QuantSummary) -> str:
    return f"{points(summary.mean)} of {plain(summary.score_max)}"


def _against(kept: Comparison) -> str:
    difference = kept.difference or 0.0
    if abs(difference) < 0.05:
        return "as high as"
    return f"{points(abs(difference))} points {'above' if difference > 0 else 'below'}"


def _seen(comparison: Comparison) -> str:
    """What a comparison rests on: `5 seeds`, or `10 answers (2 tasks, 5 seeds)`."""
    if comparison.tasks <= 1:
        return count(comparison.pairs, "seed")
    return f"{count(comparison.pairs, 'answer')} ({comparison.tasks} tasks, {count(comparison.seeds, 'seed')})"


def _more(comparison: Comparison) -> str:
    more = f"{comparison.more_seeds:,} more"
    return more if comparison.tasks <= 1 else f"{more} seed{'s' * (comparison.more_seeds != 1)}"
