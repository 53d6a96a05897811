"""Variants of a model, and models on an exam, held against one another over the answers that they have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from results.answer import cell_name
from results.saving import Saving, saving_of
from results.verdict import Comparison, Pairs, compared, paired

if TYPE_CHECKING:
    from collections.abc import Iterable

    from results.answer import Answer
    from results.summary import QuantSummary

Judge: TypeAlias = Callable[[Sequence[Pairs]], tuple[Comparison, ...]]
"""What compares pairs that are looked at together: `results.verdict.compared`, or one for seeds chosen by score."""

ALL_QUANTS: Final = "all quants"
"""The name of a comparison over the quants of both variants."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Comparisons with one reference, which are looked at together.

    Attributes:
        of: What is compared. `variants`: of one model, quant by quant, and over all of them where there are several.
            `models`: each by the quant that its answer names, else its largest, in its first variant.
        model: Whose variants they are; None where models are compared.
        reference: The first variant in the order of the spec; the model with the highest mean.
        quants: Of each comparison, in order; ALL_QUANTS where it is over all of them.
        comparisons: One a line; corrected together, without the ones over all quants, which are so among themselves.
        savings: Of each, what it takes less than the reference.
    """

    of: Literal["variants", "models"]
    exam: str
    model: str | None
    reference: str
    score_max: float | None
    quants: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    savings: tuple[Saving | None, ...]


def pairings(
    summaries: Sequence[QuantSummary], answers: Sequence[Answer], judge: Judge = compared
) -> tuple[Pairing, ...]:
    """Those of variants first, then those of models; `summaries` are in the order of the spec.

    `judge` compares pairs that are looked at together.
    """
    scored = [summary for summary in summaries if summary.scores]
    return (*_of_variants(scored, judge), *_of_models(scored, answers, judge))


def _of_variants(summaries: Iterable[QuantSummary], judge: Judge) -> Iterable[Pairing]:
    groups: dict[tuple[str, str], dict[str, dict[str, QuantSummary]]] = defaultdict(lambda: defaultdict(dict))
    for summary in summaries:
        groups[summary.model, summary.exam][summary.variant][summary.quant] = summary
    for (model, exam), variants in groups.items():
        (first, base), *others = variants.items()
        quants: list[str] = []
        pairs: list[Pairs] = []
        overall: list[Pairs] = []
        savings: list[Saving | None] = []
        for variant, cells in others:
            both = [quant for quant in base if quant in cells]
            quants += both
            pairs += [_paired(variant, cells[quant], first, base[quant]) for quant in both]
            savings += [saving_of(cells[quant], base[quant]) for quant in both]
            if len(both) > 1:
                overall.append(_over_quants(variant, cells, first, base, both))
        if pairs:
            yield Pairing(
                of="variants",
                exam=exam,
                model=model,
                reference=first,
                score_max=max((cell.score_max or 0.0 for cell in base.values()), default=0.0) or None,
                quants=(*[ALL_QUANTS] * len(overall), *quants),
                comparisons=(*judge(overall), *judge(pairs)),
                savings=(*[None] * len(overall), *savings),
            )


def _over_quants(
    variant: str,
    cells: dict[str, QuantSummary],
    first: str,
    base: dict[str, QuantSummary],
    quants: Sequence[str],
) -> Pairs:
    """Both variants over all quants: pairs share quant, task and seed."""

    def answers(of: dict[str, QuantSummary]) -> dict[tuple[tuple[str, str], int], float]:
        return {
            ((quant, task), seed): points
            for quant in quants
            for (task, seed), points in of[quant].points_by_answer().items()
        }

    return paired(variant, answers(cells), first, answers(base), base[quants[0]].score_max or 1.0)


def _of_models(summaries: Sequence[QuantSummary], answers: Sequence[Answer], judge: Judge) -> Iterable[Pairing]:
    named = {(answer.model, answer.variant, answer.exam): answer.smallest for answer in answers}
    exams: dict[str, dict[str, list[QuantSummary]]] = defaultdict(lambda: defaultdict(list))
    for summary in summaries:
        cells = exams[summary.exam][summary.model]
        if not cells or cells[0].variant == summary.variant:
            cells.append(summary)
    for exam, models in exams.items():
        if len(models) < 2:
            continue
        each = [_standing_for(cells, named) for cells in models.values()]
        best = max(each, key=lambda summary: summary.mean or 0.0)
        others = sorted((one for one in each if one is not best), key=lambda summary: -(summary.mean or 0.0))
        yield Pairing(
            of="models",
            exam=exam,
            model=None,
            reference=_cell(best),
            score_max=best.score_max,
            quants=tuple(one.quant for one in others),
            comparisons=judge([_paired(_cell(one), one, _cell(best), best) for one in others]),
            savings=tuple(saving_of(one, best) for one in others),
        )


def _standing_for(cells: Sequence[QuantSummary], named: dict[tuple[str, str, str], str | None]) -> QuantSummary:
    """The quant that a model is compared by: the one that its answer names, else the first, which is the largest."""
    wanted = named.get((cells[0].model, cells[0].variant, cells[0].exam))
    return next((cell for cell in cells if cell.quant == wanted), cells[0])


def _paired(name: str, ours: QuantSummary, reference: str, theirs: QuantSummary) -> Pairs:
    return paired(name, ours.points_by_answer(), reference, theirs.points_by_answer(), theirs.score_max or 1.0)


def _cell(summary: QuantSummary) -> str:
    return cell_name(summary.model, summary.variant, summary.quant)
