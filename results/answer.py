"""The answer a sweep is run for, in a sentence: the smallest quant that kept the score, and what that rests on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.figures import count, plain, points, size
from results.saving import Saving, saving_of, saving_text
from results.stats import in_order
from results.verdict import ALLOWANCE, FEWEST_SEEDS, GOOD_SEEDS, Comparison, Pairs, compared, paired

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from results.summary import QuantSummary


@dataclass(frozen=True, slots=True)
class Answer:
    """The smallest quant of one model, in one variant, that kept the score of one exam.

    Attributes:
        smallest: None where the seeds do not allow naming one.
        sure: Whether it keeps the score beyond these seeds, at 95%; where it is the largest, whether all others lose.
        saves: What it saves against the largest quant with scores; None where it is that, or none.
        comparisons: Of each quant with the best larger one, from the largest but one down.
    """

    model: str
    variant: str
    exam: str
    smallest: str | None
    sure: bool
    sentence: str
    comparisons: tuple[Comparison, ...]
    saves: Saving | None = None


def answers(summaries: Iterable[QuantSummary]) -> tuple[Answer, ...]:
    """One answer for each model, variant and exam among `summaries`; none for what an endpoint serves."""
    groups: dict[tuple[str, str, str], list[QuantSummary]] = defaultdict(list)
    for summary in summaries:
        groups[summary.model, summary.variant, summary.exam].append(summary)
    return tuple(_answer(*key, group) for key, group in groups.items() if has_quants(group))


def has_quants(group: Sequence[QuantSummary]) -> bool:
    """Whether there is a question which quant to take: not for what an endpoint serves."""
    return any(summary.quant != "none" for summary in group)


def doubt_of(group: Iterable[QuantSummary]) -> str:
    """What is put in front of an answer that rests on grades of a grader that was wrong about known answers."""
    doubted = any(found.startswith("failed") for summary in group for _, found, _ in summary.checks)
    return " (if its grader, which was wrong about known answers, can be trusted; see below)" if doubted else ""


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
    # The smaller, the likelier worse: so the smallest is tested first.
    smaller = reversed([_pairs(summary, usable[:place]) for place, summary in enumerate(usable) if place])
    comparisons = compared(list(smaller), correct=in_order)[::-1]
    words = _Words(usable, comparisons)
    smallest, sure, text = words.answer()
    if words.nothing_to_keep():
        comparisons = ()  # that all fail alike needs no more seeds
    where = f"{place_name(model, variant)} on {exam}{doubt_of(group)}"
    saves = words.saves(smallest) if smallest is not None and smallest != usable[0].quant else None
    return Answer(model, variant, exam, smallest, sure, f"{where}: {text}", comparisons, saves)


def _pairs(quant: QuantSummary, larger: Sequence[QuantSummary]) -> Pairs:
    """`quant` and the best of the `larger` ones, of which there is at least one; all of them have scores."""
    reference = max(larger, key=lambda summary: summary.mean or 0.0)
    return paired(
        quant.quant, quant.points_by_answer(), reference.quant, reference.points_by_answer(), quant.score_max or 1.0
    )


class _Words:
    """Finds the words for one group: the quants that have scores, largest first, each but the first compared."""

    def __init__(self, usable: Sequence[QuantSummary], comparisons: Sequence[Comparison]) -> None:
        self.usable = usable
        self.comparisons = comparisons
        self.place = {summary.quant: place for place, summary in enumerate(usable)}

    def answer(self) -> tuple[str | None, bool, str]:
        """The quant that is named, how sure that is, and the sentence."""
        if not self.usable:
            return None, False, "no quant has a score yet."
        best = max(self.usable, key=lambda summary: summary.mean or 0.0)
        if self.nothing_to_keep():
            return None, False, f"no quant scored above {_mean_of(best)}: there is no score to keep."
        if not self.comparisons:
            return None, False, f"only {self.usable[0].quant} has scores, so there is nothing to compare it with."
        if max(comparison.pairs for comparison in self.comparisons) < FEWEST_SEEDS:
            return None, False, self._too_few()
        kept = [comparison for comparison in self.comparisons if comparison.kept]
        if kept:
            name = kept[-1].name
            saved = saving_text(self.saves(name), self.usable[0].quant)
            return name, kept[-1].not_worse, self._kept(kept[-1]) + saved + self._below(name)
        largest = self.usable[0]
        surely = all(comparison.verdict == "worse" for comparison in self.comparisons)
        text = f"only the largest, {self._sized(largest.quant)}, has its score: mean {_mean_of(largest)}."
        return largest.quant, surely, text + self._below(largest.quant)

    def nothing_to_keep(self) -> bool:
        """Whether no quant has a score that differs from none at all."""
        return all((summary.mean or 0.0) <= ALLOWANCE * (summary.score_max or 1.0) for summary in self.usable)

    def saves(self, name: str) -> Saving:
        """What a quant takes less than the largest."""
        return saving_of(self.usable[self.place[name]], self.usable[0])

    def _too_few(self) -> str:
        most = max(self.comparisons, key=lambda comparison: comparison.pairs)
        tasks = max(most.tasks, 1)
        fewest, good = (-(-wanted // tasks) for wanted in (FEWEST_SEEDS, GOOD_SEEDS))
        return (
            f"undecided: with {_seen(most)} to compare by, one unlucky draw would turn the answer. "
            f"Run at least {fewest if tasks == 1 else count(fewest, 'seed')}, better {good}."
        )

    def _kept(self, kept: Comparison) -> str:
        quant = self.usable[self.place[kept.name]]
        text = (
            f"{self._sized(kept.name)} is the smallest quant that kept the score: mean {_mean_of(quant)}, "
            f"{_against(kept)} {kept.reference}, the best larger one, over {_seen(kept)}."
        )
        allowance = points(ALLOWANCE * (quant.score_max or 1.0))
        if kept.not_worse:
            what = {"better": "It is better", "equivalent": "They are equivalent"}.get(kept.verdict, "It is not worse")
            return f"{text} {what}: to within {allowance} points, {_seen(kept)} are enough to say so at 95%."
        room = points(max(-(kept.lowest or 0.0), 0.0))
        text += (
            f" That is what {_seen(kept)} saw, not proof: replies that they did not show leave room for a true mean up "
            f"to {room} points lower (95%)"
        )
        if kept.more_to_keep is None:
            return f"{text}, and the fall is too near the allowance of {allowance} points to tell by running more."
        more = _more(kept, kept.more_to_keep)
        return f"{text}; if they go on like this, about {more} would show it to within {allowance} points."

    def _below(self, name: str) -> str:
        """What became of the next smaller quant."""
        below = next((c for c in self.comparisons if self.place[c.name] == self.place[name] + 1), None)
        if below is None:
            return " No smaller one has scores."
        text = f" The next smaller, {self._sized(below.name)}, "
        if below.difference is None or below.pairs < FEWEST_SEEDS:
            return f"{text}has too few {'seeds' if below.tasks <= 1 else 'answers'} to compare by ({below.pairs})."
        text += f"scored {points(-below.difference)} points lower"
        seeds = _seen(below)
        if below.verdict == "worse":
            return f"{text}, and {seeds} are enough to tell that it is worse."
        if below.more_seeds is None:
            return f"{text}, too near the allowance to tell by running more."
        return f"{text}, which {seeds} do not settle at 95%; if the difference stays, {_more_would(below)}."

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


def _more(comparison: Comparison, number: int | None) -> str:
    more = f"{number:,} more"
    return more if comparison.tasks <= 1 else f"{more} seed{'s' * (number != 1)}"


def _more_would(comparison: Comparison) -> str:
    return f"about {_more(comparison, comparison.more_seeds)} would"
