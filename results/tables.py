"""The tables of a run, for people and as JSON: per quant the mean, range, size, memory, TTFT and tokens a second.

Names are kept as they came: whoever prints what is made here makes them harmless to a terminal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from results.answer import Answer, answers, cell_name, place_name
from results.figures import count, durations, plain, points, rate, size
from results.files import summary_of
from results.layout import Column, Layout
from results.notes import notes
from results.reading import read_run
from results.summary import SUMMARISED, QuantSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from results.files import FilesSummary
    from results.reading import Torn

_Cells: TypeAlias = "Callable[[Sequence[QuantSummary]], list[str]]"
"""What stands in one column, for the lines of a table."""

_REASONED: Final = 1.2
"""From this multiple of the TTFT on, the wait for the answer is worth a column."""
_SPREAD: Final = 2
"""From so many requests on there is a slowest and a fastest."""

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
        remarks: what a reader has to know of the figures.
        where: the run folder, for a report that is empty.
        files: what gradings left to be looked at; None where they left nothing.
        planned: how many jobs the run has in all; None where that is not known.
    """

    attempts: int
    sweeps: Sequence[str]
    summaries: Sequence[QuantSummary]
    answers: Sequence[Answer]
    remarks: Sequence[str]
    where: str = "this run"
    files: FilesSummary | None = None
    planned: int | None = None

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
            "notes": list(self.remarks),
            "files": None if self.files is None else asdict(self.files),
        }

    def parts(self) -> list[RenderableType]:
        """The report for a person: lines and tables, one below the other; readable without colour."""
        from rich.text import Text

        notes = [Text(f"Note: {remark}") for remark in self.remarks]
        # With the tables, so that what is written to a file does not look complete.
        begun = [] if self.planned is None or self.done >= self.planned else [self._how_far(self.planned), ""]
        if not self.summaries:
            return [*begun, f"No attempt in {self.where} yet: nothing has been committed.", *notes]
        named = {(answer.model, answer.variant, answer.exam, answer.smallest) for answer in self.answers}
        parts: list[RenderableType] = [*begun]
        for title, group, label in _grouped(self.summaries):
            parts += [Text(title, style="bold"), _table(group, label, named), ""]
        for answer in self.answers:
            parts += [Text(answer.sentence, style="bold"), ""]
        if self.files is not None:
            parts += [Text(str(self.files)), ""]
        return [*parts, *notes] if notes else parts[:-1]

    def _how_far(self, planned: int) -> RenderableType:
        from rich.text import Text

        return Text(f"Not finished: {self.done:,} of {count(planned, 'job')} done.", style="bold")


def report(run_folder: Path, *, planned: int | None = None, order: Sequence[tuple[str, str]] = ()) -> Report:
    """The report of the run in `run_folder`, finished or running, which has `planned` jobs.

    Its tables come in the `order` of these models and variants, as far as it names them.

    Raises:
        StoreError: There is no run, or a newer quantsweep wrote it.
    """
    reading = read_run(run_folder, (*SUMMARISED, "files"))
    found = report_of(reading.table, torn=reading.torn, where=str(run_folder), planned=planned, order=order)
    finals = reading.table.filter(reading.table["final"])
    return replace(found, files=summary_of(finals["files"].to_pylist(), run_folder))


def report_of(
    table: Any,
    *,
    torn: Sequence[Torn] = (),
    where: str = "this run",
    planned: int | None = None,
    order: Sequence[tuple[str, str]] = (),
) -> Report:
    """The report of the attempts in `table` (a `pyarrow.Table`)."""
    summaries = summarise(table, order)
    return Report(
        attempts=table.num_rows,
        sweeps=sorted(table["sweep"].unique().to_pylist()),
        summaries=summaries,
        answers=answers(summaries),
        remarks=notes(summaries, torn, taken_out=_jobs_taken_out(table)),
        where=where,
        planned=planned,
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


def _table(
    group: Sequence[QuantSummary], label: Callable[[QuantSummary], str], named: set[tuple[Any, ...]]
) -> RenderableType:
    """One table; the lines of quants that an answer names are green."""
    chosen = [(summary.model, summary.variant, summary.exam, summary.quant) in named for summary in group]
    columns = [replace(column, cells=cells(group)) for column, cells in _COLUMNS]
    if all(len(summary.scores) == summary.jobs + summary.open_jobs for summary in group):
        # `4/5` says how many jobs there are where none is left out.
        columns = [replace(column, told=True) if column.heading == "jobs" else column for column in columns]
    return Layout(
        "quant",
        [label(summary) for summary in group],
        [column for column in columns if any(column.cells)],
        ["green" if each else "" for each in chosen],
    )


def _range(summary: QuantSummary) -> str:
    return "" if summary.low is None else f"{plain(summary.low)}-{plain(summary.high)}"


def _interval(summary: QuantSummary) -> str:
    interval = summary.interval
    return "" if interval is None else f"{points(interval.low)}-{points(interval.high)}"


def _full_marks(summary: QuantSummary) -> str:
    return f"{summary.full_marks}/{len(summary.scores)}" if summary.scores else ""


def _jobs(summary: QuantSummary) -> str:
    """Scored jobs; `3 of 5` where some of those that began have no score."""
    begun = summary.jobs + summary.open_jobs
    scored = len(summary.scores)
    return str(scored) if scored == begun else f"{scored} of {begun}"


def _rates(summary: QuantSummary) -> str:
    """The slowest and the fastest request that the median is of, where there are several."""
    timings = summary.timings
    if timings.rates < _SPREAD or timings.decode_tps_low is None:
        return ""
    return f"{rate(timings.decode_tps_low)}-{rate(timings.decode_tps_high)}"


def _rates_behind(summary: QuantSummary) -> str:
    """`1/5` where the rate is not of all requests that were timed."""
    timings = summary.timings
    return "" if timings.rates in {0, timings.timed} else f"{timings.rates:,}/{timings.timed:,}"


def _first_tokens_behind(summary: QuantSummary) -> str:
    """The same of TTFT, where it is another number than that behind the rate beside it."""
    timings = summary.timings
    if not timings.first_tokens or timings.first_tokens == (timings.rates or timings.timed):
        return ""
    return f"{timings.first_tokens:,}/{timings.timed:,}"


def _answer_delay(summary: QuantSummary) -> float | None:
    """Time to the first token of the answer, where reasoning came before it."""
    first, answer = summary.timings.ttft_any_s, summary.timings.ttft_answer_s
    return None if first is None or answer is None or answer < _REASONED * first else answer


def _starred(text: str, summary: QuantSummary) -> str:
    return text if summary.timings.clean or not text else text + "*"


def _each(cell: Callable[[QuantSummary], str]) -> _Cells:
    return lambda group: [cell(summary) for summary in group]


def _times(seconds: Callable[[QuantSummary], float | None], *, starred: bool = True) -> _Cells:
    """A column of times, which has one unit."""

    def cells(group: Sequence[QuantSummary]) -> list[str]:
        texts = durations([seconds(summary) for summary in group])
        return [_starred(text, summary) if starred else text for text, summary in zip(texts, group, strict=True)]

    return cells


_COLUMNS: Final[tuple[tuple[Column, _Cells], ...]] = (
    (Column("size", (), "scores"), _each(lambda s: size(s.file_bytes))),
    (Column("mean", (), "scores"), _each(lambda s: points(s.mean))),
    (Column("95%", (), "scores"), _each(_interval)),
    (Column("range", (), "scores"), _each(_range)),
    (Column("full", (), "scores"), _each(_full_marks)),
    (Column("jobs", (), "scores"), _each(_jobs)),
    (Column("cut off", (), "scores", told=True), _each(lambda s: str(s.budget or ""))),
    (Column("RAM", (), "machine"), _each(lambda s: size(s.peak_ram_bytes))),
    (Column("VRAM", (), "machine"), _each(lambda s: size(s.peak_vram_bytes))),
    (Column("load", (), "machine"), _times(lambda s: s.load_s, starred=False)),
    (Column("TTFT", (), "machine"), _times(lambda s: s.timings.ttft_any_s)),
    (Column("of", (), "machine", joined=True), _each(_first_tokens_behind)),
    (Column("answer", (), "machine"), _times(_answer_delay)),
    (Column("tok/s", (), "machine"), _each(lambda s: _starred(rate(s.timings.decode_tps), s))),
    (Column("of", (), "machine", joined=True), _each(_rates_behind)),
    (Column("min-max", (), "machine", joined=True), _each(_rates)),
)
"""What may stand in a table; a column of which no line has anything to say is left out."""
