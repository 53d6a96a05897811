"""The tables of a run, for people and as JSON: per quant the mean, range, size, memory, TTFT and tokens a second.

Names are kept as they came: whoever prints what is made here makes them harmless to a terminal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from results.answer import Answer, answers, place_name
from results.figures import duration, plain, points, rate, size
from results.notes import notes
from results.reading import read_run
from results.summary import SUMMARISED, QuantSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from results.reading import Torn

_REASONED: Final = 1.2
"""From this multiple of the TTFT on, the wait for the answer is worth a column."""


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
    """

    attempts: int
    sweeps: Sequence[str]
    summaries: Sequence[QuantSummary]
    answers: Sequence[Answer]
    remarks: Sequence[str]
    where: str = "this run"

    def to_json(self) -> dict[str, Any]:
        """The report as docs/columns.md describes it."""
        return {
            "sweeps": list(self.sweeps),
            "attempts": self.attempts,
            "jobs": sum(summary.jobs for summary in self.summaries),
            "summaries": [asdict(summary) for summary in self.summaries],
            "answers": [asdict(answer) for answer in self.answers],
            "notes": list(self.remarks),
        }

    def parts(self) -> list[RenderableType]:
        """The report for a person: lines and tables, one below the other; readable without colour."""
        from rich.text import Text

        notes = [Text(f"Note: {remark}") for remark in self.remarks]
        if not self.summaries:
            return [f"No attempt in {self.where} yet: nothing has been committed.", *notes]
        named = {(answer.model, answer.variant, answer.exam, answer.smallest) for answer in self.answers}
        parts: list[RenderableType] = []
        for title, group, label in _grouped(self.summaries):
            parts += [_Table(title, group, label, named), ""]
        for answer in self.answers:
            parts += [Text(answer.sentence, style="bold"), ""]
        return [*parts, *notes] if notes else parts[:-1]


def report(run_folder: Path) -> Report:
    """The report of the run in `run_folder`, finished or running.

    Raises:
        StoreError: There is no run, or a newer quantsweep wrote it.
    """
    reading = read_run(run_folder, SUMMARISED)
    return report_of(reading.table, torn=reading.torn, where=str(run_folder))


def report_of(table: Any, *, torn: Sequence[Torn] = (), where: str = "this run") -> Report:
    """The report of the attempts in `table` (a `pyarrow.Table`)."""
    summaries = summarise(table)
    return Report(
        attempts=table.num_rows,
        sweeps=sorted(table["sweep"].unique().to_pylist()),
        summaries=summaries,
        answers=answers(summaries),
        remarks=notes(summaries, torn),
        where=where,
    )


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
            yield _title(exam, group), group, lambda s: _name(f"{place_name(s.model, s.variant)} {s.quant}")
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


@dataclass(frozen=True, slots=True)
class _Table:
    """One table, with as many columns as the console has room for."""

    title: str
    group: Sequence[QuantSummary]
    label: Callable[[QuantSummary], str]
    named: set[tuple[Any, ...]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        labels = [self.label(summary) for summary in self.group]
        columns = [("quant", labels), *_fitting(self.group, max(map(len, labels)), options.max_width)]
        yield Text(self.title, style="bold", no_wrap=True, overflow="ignore")
        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for heading, cells in columns:
            # Figures are never cut: what does not fit was left out as a whole column.
            table.add_column(
                heading,
                justify="left" if heading == "quant" else "right",
                no_wrap=True,
                min_width=max(len(heading), *map(len, cells)),
            )
        for line, summary in enumerate(self.group):
            chosen = (summary.model, summary.variant, summary.exam, summary.quant) in self.named
            table.add_row(*(cells[line] for _, cells in columns), style="green" if chosen else "")
        yield table


def _fitting(group: Sequence[QuantSummary], label_width: int, width: int) -> list[tuple[str, list[str]]]:
    """The columns that say something and fit, with their cells; the least needed ones are left out first."""
    columns = [(heading, [cell(summary) for summary in group], rank) for heading, rank, cell in _COLUMNS]
    columns = [column for column in columns if any(column[1])]

    def needed() -> int:
        return label_width + sum(2 + max(len(heading), *map(len, cells)) for heading, cells, _ in columns)

    while needed() > width and (rank := max(rank for _, _, rank in columns)) > 0:
        columns = [column for column in columns if column[2] != rank]
    return [(heading, cells) for heading, cells, _ in columns]


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


def _answer_delay(summary: QuantSummary) -> str:
    """Time to the first token of the answer, where reasoning came before it."""
    first, answer = summary.timings.ttft_any_s, summary.timings.ttft_answer_s
    return "" if first is None or answer is None or answer < _REASONED * first else duration(answer)


def _starred(text: str, summary: QuantSummary) -> str:
    return text if summary.timings.clean or not text else text + "*"


_COLUMNS: Final[tuple[tuple[str, int, Callable[[QuantSummary], str]], ...]] = (
    ("size", 0, lambda s: size(s.file_bytes)),
    ("mean", 0, lambda s: points(s.mean)),
    ("95%", 5, _interval),
    ("range", 0, _range),
    ("full", 3, _full_marks),
    ("jobs", 0, _jobs),
    ("cut off", 2, lambda s: str(s.budget or "")),
    ("RAM", 1, lambda s: size(s.peak_ram_bytes)),
    ("VRAM", 0, lambda s: size(s.peak_vram_bytes)),
    ("load", 4, lambda s: duration(s.load_s)),
    ("TTFT", 0, lambda s: _starred(duration(s.timings.ttft_any_s), s)),
    ("answer", 0, lambda s: _starred(_answer_delay(s), s)),
    ("tok/s", 0, lambda s: _starred(rate(s.timings.decode_tps), s)),
)
"""Heading, rank (0: always; the highest is left out first where room is short), and what stands there."""
