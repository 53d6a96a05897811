"""The tables of a run, for people and as JSON: per quant the mean, range, size, memory, TTFT and tokens a second.

Names are kept as they came: whoever prints what is made here makes them harmless to a terminal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from results.answer import Answer, answers, cell_name, place_name
from results.answer_by_score import answers_by_score, notes_by_cell
from results.anytime import compared_at_any_time
from results.cells import COLUMNS, legend
from results.figures import count, plain
from results.files import summary_of
from results.items import alarms_of
from results.layout import Column, Layout, Paragraph
from results.notes import notes
from results.pairing_table import MEANING, MEANING_BY_SCORE, titled_tables, verdict_text
from results.pairings import pairings
from results.reading import read_run
from results.seed_notes import seed_lines
from results.summary import SUMMARISED, QuantSummary, summarise
from results.verdict import compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from results.contest import Rule
    from results.files import FilesSummary
    from results.items import Alarm
    from results.pairings import Pairing
    from results.reading import Torn
    from results.seed_notes import SeedNote

_NAME_CHARS: Final = 60
"""Of a name that stands in a table; the middle of a longer one is left out."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has come to so far.

    Attributes:
        attempts: rows that are committed.
        sweeps: the names of the sweeps that they are of.
        summaries: a line of a table each, the largest quant first.
        answers: which quant kept the score.
        pairings: variants and models, each against one of them.
        alarms: items of exams that every model failed, or every one passed.
        remarks: what a reader has to know of the figures.
        where: the run folder, for a report that is empty.
        files: what gradings left to be looked at; None where they left nothing.
        planned: how many jobs the run has in all; None where that is not known.
        seeds: how many seeds each cell got and why, where that depends on the scores, by `rule`.
    """

    attempts: int
    sweeps: Sequence[str]
    summaries: Sequence[QuantSummary]
    answers: Sequence[Answer]
    remarks: Sequence[str]
    where: str = "this run"
    files: FilesSummary | None = None
    planned: int | None = None
    pairings: Sequence[Pairing] = ()
    seeds: Sequence[SeedNote] = ()
    rule: Rule | None = None
    alarms: Sequence[Alarm] = ()

    @property
    def done(self) -> int:
        """Jobs that have ended, as far as these tables saw: a run that goes on is further a moment later."""
        return sum(summary.jobs for summary in self.summaries)

    def to_json(self) -> dict[str, Any]:
        """The report as docs/columns.md describes it."""
        return {
            "sweeps": list(self.sweeps),
            "attempts": self.attempts,
            "jobs": self.done,
            "planned": self.planned,
            "summaries": [asdict(summary) for summary in self.summaries],
            "answers": [asdict(answer) for answer in self.answers],
            "pairings": [asdict(pairing) for pairing in self.pairings],
            "alarms": [asdict(alarm) for alarm in self.alarms],
            "notes": list(self.remarks),
            "files": None if self.files is None else asdict(self.files),
            "seeds": [asdict(note) for note in self.seeds],
        }

    def parts(self) -> list[RenderableType]:
        """The report for a person: lines and tables, one below the other; readable without colour."""
        from rich.text import Text

        notes = [Paragraph(f"{'Note' if alarm.passed else 'Alarm'}: {alarm}") for alarm in self.alarms]
        notes += [Paragraph(f"Note: {remark}") for remark in self.remarks]
        # With the tables, so that what is written to a file does not look complete.
        begun = [] if self.planned is None or self.done >= self.planned else [self._how_far(self.planned), ""]
        if not self.summaries:
            return [*begun, f"No attempt in {self.where} yet: nothing has been committed.", *notes]
        verdicts = _Verdicts(self.answers, self.seeds)
        parts: list[RenderableType] = [*begun]
        headings: set[str] = set()
        for title, group, label in _grouped(self.summaries):
            table = _table(group, label, verdicts)
            headings.update(column.heading for column in table.columns if not column.told)
            parts += [Paragraph(title, "bold"), table, ""]
        if meanings := legend(headings):
            parts += [Text(meanings, style="dim"), ""]
        for answer in self.answers:
            parts += [Paragraph(answer.sentence, "bold"), ""]
        tables = list(titled_tables(self.pairings, _NAME_CHARS))
        for title, layout, left in tables:
            parts += [Paragraph(title, "bold"), layout, *([Paragraph(left)] if left else []), ""]
        if tables:
            parts += [Text(MEANING if self.rule is None else MEANING_BY_SCORE, style="dim"), ""]
        if self.rule is not None and (lines := seed_lines(self.seeds, self.rule)):
            parts += [*map(Paragraph, lines), ""]
        if self.files is not None:
            parts += [Text(str(self.files)), ""]
        return [*parts, *notes] if notes else parts[:-1]

    def _how_far(self, planned: int) -> RenderableType:
        from rich.text import Text

        return Text(f"Not finished: {self.done:,} of {count(planned, 'job')} done.", style="bold")


def report(
    run_folder: Path,
    *,
    planned: int | None = None,
    order: Sequence[tuple[str, str]] = (),
    by_score: tuple[Sequence[SeedNote], Rule] | None = None,
) -> Report:
    """The report of the run in `run_folder`, finished or running, which has `planned` jobs.

    Its tables come in the `order` of these models and variants, as far as it names them. `by_score` is where each cell
    stands and the rule, where the scores choose the number of seeds.

    Raises:
        StoreError: There is no run, or a newer quantsweep wrote it.
    """
    reading = read_run(run_folder, (*SUMMARISED, "files"))
    found = report_of(
        reading.table, torn=reading.torn, where=str(run_folder), planned=planned, order=order, by_score=by_score
    )
    finals = reading.table.filter(reading.table["final"])
    files = summary_of(finals["files"].to_pylist(), run_folder)
    return replace(found, files=files, alarms=alarms_of(run_folder))


def report_of(
    table: Any,
    *,
    torn: Sequence[Torn] = (),
    where: str = "this run",
    planned: int | None = None,
    order: Sequence[tuple[str, str]] = (),
    by_score: tuple[Sequence[SeedNote], Rule] | None = None,
) -> Report:
    """The report of the attempts in `table` (a `pyarrow.Table`)."""
    summaries = summarise(table, order)
    notes_of_seeds, rule = by_score or ((), None)
    found = answers(summaries) if rule is None else answers_by_score(summaries, notes_of_seeds, rule)
    judge = compared if rule is None else partial(compared_at_any_time, rule=rule)
    return Report(
        attempts=table.num_rows,
        sweeps=sorted(table["sweep"].unique().to_pylist()),
        summaries=summaries,
        answers=found,
        pairings=pairings(summaries, found, judge),
        remarks=notes(summaries, torn, taken_out=_jobs_taken_out(table)),
        where=where,
        planned=planned,
        seeds=notes_of_seeds,
        rule=rule,
    )


def _jobs_taken_out(table: Any) -> int:
    marks = zip(table["job_id"].to_pylist(), table["taken_out"].to_pylist(), strict=True)
    return len({job_id for job_id, taken_out in marks if taken_out})


def _grouped(
    summaries: Sequence[QuantSummary],
) -> Iterator[tuple[str, list[QuantSummary], Callable[[QuantSummary], str]]]:
    """What goes into one table, with its title and what names a line.

    A table for each model on an exam, lines named by quant; where no model has more than one quant, a table for each
    exam, lines named by model and quant.
    """
    by_exam: dict[str, dict[str, list[QuantSummary]]] = defaultdict(lambda: defaultdict(list))
    for summary in summaries:
        by_exam[summary.exam][place_name(summary.model, summary.variant)].append(summary)
    for exam, places in by_exam.items():
        if len(places) > 1 and all(len(group) == 1 for group in places.values()):
            group = [group[0] for group in places.values()]
            yield _title(exam, group), group, lambda s: _name(cell_name(s.model, s.variant, s.quant))
            continue
        for place, group in places.items():
            yield f"{_name(place)} on {_title(exam, group)}", group, lambda s: _name(s.quant)


def _name(text: str) -> str:
    """A name short enough for a column; that of a quant is told by its end as often as by its beginning."""
    half = (_NAME_CHARS - 3) // 2
    return text if len(text) <= _NAME_CHARS else f"{text[:half]}...{text[-half:]}"


def _title(exam: str, group: Sequence[QuantSummary]) -> str:
    full = max((summary.score_max for summary in group if summary.score_max is not None), default=None)
    scorings = sorted({scoring for summary in group for scoring in summary.scorings})
    return exam + ("" if full is None else f" (/{plain(full)})") + "".join(f", {name} scoring" for name in scorings)


class _Verdicts:
    """What is said of single cells: those that an answer names, each against the best larger one or where it stands."""

    def __init__(self, answers: Sequence[Answer], seeds: Sequence[SeedNote]) -> None:
        self.heading = "standing" if seeds else "verdict"
        self._named = {(answer.model, answer.variant, answer.exam, answer.smallest) for answer in answers}
        self._texts = {
            (answer.model, answer.variant, answer.exam, comparison.name): verdict_text(comparison)
            for answer in answers
            for comparison in answer.comparisons
        }
        self._texts |= {
            (model, variant, exam, quant): "open" if note.open else note.standing
            for (model, variant, quant, exam), note in notes_by_cell(seeds).items()
        }

    def text(self, summary: QuantSummary) -> str:
        return self._texts.get((summary.model, summary.variant, summary.exam, summary.quant), "")

    def named(self, summary: QuantSummary) -> bool:
        return (summary.model, summary.variant, summary.exam, summary.quant) in self._named


def _table(group: Sequence[QuantSummary], label: Callable[[QuantSummary], str], verdicts: _Verdicts) -> Layout:
    """One table; the lines of quants that an answer names are green."""
    columns = [replace(column, cells=cells(group)) for column, cells in COLUMNS]
    place = next(number for number, column in enumerate(columns) if column.part == "machine")
    columns.insert(place, Column(verdicts.heading, [verdicts.text(summary) for summary in group], "scores"))
    if all(len(summary.scores) == summary.jobs + summary.open_jobs for summary in group):
        # `4/5` says how many jobs there are where none is left out.
        columns = [replace(column, told=True) if column.heading == "jobs" else column for column in columns]
    return Layout(
        "quant",
        [label(summary) for summary in group],
        [column for column in columns if any(column.cells)],
        ["green" if verdicts.named(summary) else "" for summary in group],
    )
