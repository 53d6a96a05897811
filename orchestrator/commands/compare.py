"""`quantsweep compare A B`: two runs, or a run and a published report, differences first and then cell by cell."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator import terminal
from orchestrator.errors import SweepError
from orchestrator.rundir import RunDir
from profiles.homes import expanded
from results.compared import CellComparison, Compared, compare_sides
from results.figures import count, plain, points, rate
from results.layout import Column, Layout
from results.matching import RULE, MappingError
from results.published import REPORTS
from results.published.side import PREFIX, side_of_report
from results.published.source import SourceError
from results.sides import Side, side_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.terminal import Part

_MOST_VALUES: Final = 4
_VALUE_CHARS: Final = 200
_MOST_ALONE: Final = 40
_COLUMNS_WRONG: Final = {"score", "score_low", "score_high", "compiles", "decode_tps", "ttft_s", "model"}
"""What is compared here: what is wrong with other figures is in docs/published.md and in the rows."""


def compare(first: str, second: str, *, given: Sequence[str], as_json: bool) -> list[Part]:
    """What the two sides come to beside each other.

    Args:
        first: a run folder, or `published:` and the name of a report.
        second: likewise.
        given: `OURS=THEIRS`, names of models or cells of the first and of the second.
        as_json: for a program.

    Raises:
        SweepError: there is no such report, or a name of `given` is not there.
        RunFolderError: no run folder.
        StoreError: a newer quantsweep wrote it.
    """
    ours, theirs = side_of(first), side_of(second)
    try:
        found = compare_sides(ours, theirs, dict(map(_mapping, given)))
    except MappingError as error:
        raise SweepError(f"--map: {error}") from None
    if as_json:
        return [terminal.Json({**asdict(found), "rule": RULE})]
    return [*_said_first(found), *_tables(found), *_notes(found, given)]


def side_of(text: str) -> Side:
    """The side that `text` names; see `compare`."""
    if text.startswith(PREFIX):
        try:
            return side_of_report(text)
        except SourceError:
            known = ", ".join(f"{PREFIX}{name}" for name in REPORTS)
            raise SweepError(f"there is no {text!r}; there are: {known}") from None
    root = Path(expanded(text))
    RunDir(root).require()
    return side_of_run(root, text)


def _mapping(text: str) -> tuple[str, str]:
    ours, apart, theirs = text.partition("=")
    if not apart or not ours.strip() or not theirs.strip():
        raise SweepError(f"--map {text!r}: give a name of the first, =, and one of the second")
    return ours.strip(), theirs.strip()


def _said_first(found: Compared) -> list[Part]:
    from rich.text import Text

    parts: list[Part] = [f"A: {found.ours}", f"B: {found.theirs}", ""]
    if not found.cells:
        return [*parts, Text("No cell of A has one of B that answers it."), ""]
    if not found.differences:
        return [*parts, Text("Nothing that is on record differs in how they were run."), ""]
    parts.append(Text("They differ in", style="bold"))
    unsaid: dict[str, list[str]] = defaultdict(list)
    for each in found.differences:
        if each.ours and each.theirs:
            share = "" if each.cells == len(found.cells) else f" (in {each.cells} of {count(len(found.cells), 'cell')})"
            parts.append(f"  {each.name}: {_values(each.ours)} | {_values(each.theirs)}{share}")
        else:
            unsaid["A" if each.ours else "B"].append(f"{each.name} ({_values(each.ours or each.theirs)})")
    parts += [f"  said of {side} alone: {', '.join(names)}" for side, names in sorted(unsaid.items())]
    return [*parts, ""]


def _values(values: Sequence[str]) -> str:
    more = f", and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    return ", ".join(terminal.line(value, _VALUE_CHARS) for value in values[:_MOST_VALUES]) + more


def _tables(found: Compared) -> list[Part]:

    exams: dict[tuple[str, str | None, float | None], list[CellComparison]] = defaultdict(list)
    for cell in found.cells:
        exams[cell.exam, cell.scoring, cell.score_max].append(cell)
    parts: list[Part] = []
    for (exam, scoring, full), cells in exams.items():
        title = exam + ("" if full is None else f" (/{plain(full)})") + (f", {scoring} scoring" if scoring else "")
        columns = [
            Column("A", [points(cell.our_mean) for cell in cells]),
            Column("B", [points(cell.their_mean) for cell in cells]),
            Column("A - B", [_signed(cell.difference) for cell in cells]),
            Column("95%", [_interval(cell) for cell in cells]),
            Column("answers", [_answers(cell) for cell in cells]),
            Column("A is", [cell.verdict or "-" for cell in cells]),
            Column("tok/s A", [_marked(rate(cell.our_tps), wrong=cell.our_tps_wrong) for cell in cells], "speed"),
            Column("tok/s B", [_marked(rate(cell.their_tps), wrong=cell.their_tps_wrong) for cell in cells], "speed"),
        ]
        parts += [title]
        names = [cell.cell if cell.cell == cell.other else f"{cell.cell} | {cell.other}" for cell in cells]
        shown = [column for column in columns if any(text not in {"", "-"} for text in column.cells)]
        parts += [Layout("cell", names, shown, [""] * len(cells)), ""]
    return parts


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f}"


def _interval(cell: CellComparison) -> str:
    return "" if cell.interval is None else f"{cell.interval.low:+.1f} to {cell.interval.high:+.1f}"


def _answers(cell: CellComparison) -> str:
    if cell.how == "paired":
        return count(cell.ours, "pair")
    return f"{cell.ours} | {cell.theirs}" if cell.ours or cell.theirs else ""


def _marked(text: str, *, wrong: bool) -> str:
    return f"{text}!" if text and wrong else text


def _notes(found: Compared, given: Sequence[str]) -> list[Part]:
    from rich.text import Text

    ours: list[str] = []
    if any(cell.verdict for cell in found.cells):
        ours.append(
            "better, worse: A is, at 95% for all lines together; equivalent: apart by less than a twentieth of full "
            "marks; undecided: neither is shown. Pairs share task and seed; n | m answers cannot be paired, and their "
            "means are compared."
        )
    if any(not cell.sure and cell.verdict for cell in found.cells):
        ours.append(
            "Of some means the report gives too little to tell the scores behind them: the ones furthest apart that "
            "agree with what it prints are taken, so a verdict may be left undecided that they would give."
        )
    if any(difference.name == "hardware" for difference in found.differences):
        ours.append("Rates are of different machines: they say nothing about the models.")
    if found.alone:
        ours.append(RULE)
    # A line each, and no paragraph: names are foreign, and what is wrapped would stand there as if it were of ours.
    named: list[str] = []
    more = [f"{cell.cell} about {cell.more_seeds:,}" for cell in found.cells if cell.more_seeds is not None]
    if more:
        named.append(f"More seeds that would decide, if they go on like this: {', '.join(more)}.")
    unjudged = _grouped((cell.why_not, f"{cell.cell} on {cell.exam}") for cell in found.cells if cell.why_not)
    named += [f"No verdict, {reason}: {', '.join(cells)}." for reason, cells in unjudged]
    named += [f"Known to be wrong, {reason} ({', '.join(cells)})." for reason, cells in _grouped(_wrong(found.cells))]
    alone = _grouped((f"of {'AB'[each.side]}, {each.why}", f"{each.cell} ({each.exam})") for each in found.alone)
    named += [f"Not compared, {why}: {', '.join(cells)}." for why, cells in alone[:_MOST_ALONE]]
    named += [f"Left out: {text}." for text in found.left_out]
    if given:
        named.append(f"`--map` said: {'; '.join(given)}.")
    return [*(Text(f"Note: {line}") for line in ours), *(f"Note: {line}" for line in named)]


def _wrong(cells: Sequence[CellComparison]) -> list[tuple[str, str]]:
    """What is known to be wrong with the figures that are compared, and with whose: a cell's, or all of an exam."""
    whose: dict[str, dict[str, None]] = defaultdict(dict)
    columns: dict[str, dict[str, None]] = defaultdict(dict)
    for cell in cells:
        for column, reasons in cell.wrong.items():
            for reason in reasons if column in _COLUMNS_WRONG else ():
                columns[reason][column] = None
                whose[reason][f"{cell.other} ({cell.exam})"] = None
    exams: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        exams[cell.exam].append(f"{cell.other} ({cell.exam})")
    found = []
    for reason, names in whose.items():
        all_of = [exam for exam, each in exams.items() if len(each) > 1 and set(each) <= names.keys()]
        rest = [name for name in names if not any(name in exams[exam] for exam in all_of)]
        said = f"{', '.join(columns[reason])}: {reason}"
        found += [(said, name) for name in [*(f"all of {exam}" for exam in all_of), *rest]]
    return found


def _grouped(found: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Who there is for each reason, in the order in which they come; names are foreign, and may be of any length."""
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for reason, who in found:
        groups[reason][terminal.line(who, _VALUE_CHARS)] = None
    return [(reason, list(who)) for reason, who in groups.items()]
