"""The tables of a run, for people and as JSON: per quant the mean, range, size, memory, TTFT and tokens a second."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from dataclasses import asdict
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from results.answer import Answer, answers, place_name
from results.figures import duration, plain, points, rate, size
from results.notes import notes
from results.reading import read_run
from results.summary import QuantSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from results.reading import Torn

PLAIN_WIDTH: Final = 100
"""Characters a line, where there is no terminal to ask."""

_REASONED: Final = 1.2
"""From this multiple of the TTFT on, the wait for the answer is worth a column."""


def show(run_folder: Path, as_json: bool = False, *, width: int | None = None, colour: bool | None = None) -> str:
    """The tables of the run in `run_folder`, finished or running.

    Args:
        run_folder: What `quantsweep run --out` wrote.
        as_json: JSON (docs/columns.md describes it) instead of tables.
        width: Characters a line; None for the terminal's.
        colour: Whether to use it; None for where standard output is a terminal.

    Raises:
        StoreError: There is no run, or a newer quantsweep wrote it.
    """
    reading = read_run(run_folder)
    terminal = sys.stdout.isatty()
    if width is None:
        width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if terminal else PLAIN_WIDTH
    if reading.table.num_rows == 0 and not as_json:
        text = f"No attempt in {run_folder} yet: nothing has been committed."
        return "\n".join([text, *(f"Note: {note}" for note in notes([], reading.torn))])
    return render(
        reading.table, as_json=as_json, width=width, colour=terminal if colour is None else colour, torn=reading.torn
    )


def render(
    table: Any, *, as_json: bool = False, width: int = PLAIN_WIDTH, colour: bool = False, torn: Sequence[Torn] = ()
) -> str:
    """The tables of the attempts in `table` (a `pyarrow.Table`); readable without colour."""
    summaries = summarise(table)
    found = answers(summaries)
    remarks = notes(summaries, torn)
    if as_json:
        return _as_json(table, summaries, found, remarks)
    if not summaries:
        return "No attempt yet: nothing has been committed."
    return _as_text(summaries, found, remarks, width, colour)


def _as_json(table: Any, summaries: Sequence[QuantSummary], found: Sequence[Answer], remarks: Sequence[str]) -> str:
    content = {
        "sweeps": sorted(set(table["sweep"].to_pylist())),
        "attempts": table.num_rows,
        "jobs": sum(summary.jobs for summary in summaries),
        "summaries": [asdict(summary) for summary in summaries],
        "answers": [asdict(answer) for answer in found],
        "notes": list(remarks),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_text(
    summaries: Sequence[QuantSummary], found: Sequence[Answer], remarks: Sequence[str], width: int, colour: bool
) -> str:
    from rich.console import Console

    named = {(answer.model, answer.variant, answer.exam, answer.smallest) for answer in found}
    out = StringIO()
    # No environment of its own: what the caller's terminal is was settled by `show`.
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None, _environ={}
    )
    for title, group, label in _grouped(summaries):
        console.print(_table(title, group, label, named, width), crop=False, overflow="ignore")
        console.print()
    for answer in found:
        console.print(answer.sentence, style="bold", markup=False, highlight=False)
        console.print()
    for remark in remarks:
        console.print(f"Note: {remark}", markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


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
            yield _title(exam, group), group, lambda s: f"{place_name(s.model, s.variant)} {s.quant}"
            continue
        for place, group in places.items():
            yield f"{place} on {_title(exam, group)}", group, lambda s: s.quant


def _title(exam: str, group: Sequence[QuantSummary]) -> str:
    full = max((summary.score_max for summary in group if summary.score_max is not None), default=None)
    scorings = sorted({scoring for summary in group for scoring in summary.scorings})
    return exam + ("" if full is None else f" (/{plain(full)})") + "".join(f", {name} scoring" for name in scorings)


def _table(
    title: str,
    group: Sequence[QuantSummary],
    label: Callable[[QuantSummary], str],
    named: set[tuple[Any, ...]],
    width: int,
) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    labels = [label(summary) for summary in group]
    columns = [("quant", labels), *_fitting(group, max(map(len, labels)), width)]
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
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
    for line, summary in enumerate(group):
        chosen = (summary.model, summary.variant, summary.exam, summary.quant) in named
        table.add_row(*(Text(cells[line]) for _, cells in columns), style="green" if chosen else "")
    return table


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
