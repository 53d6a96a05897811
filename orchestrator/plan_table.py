"""The cells of a plan as a table that fits any terminal, and a sentence for each that does not fit the machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from quants.fit.amounts import amount
from quants.fit.verdict import VerdictKind
from results.figures import rate, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from orchestrator.terminal import Part

_BEST_FIRST: Final = (VerdictKind.FITS, VerdictKind.FITS_OFFLOADED, VerdictKind.UNKNOWN, VerdictKind.TOO_BIG)
_WORDS: Final = {
    VerdictKind.FITS: ("fits", "free"),
    VerdictKind.FITS_OFFLOADED: ("fits in part", "free"),
    VerdictKind.UNKNOWN: ("not known", "beside the weights"),
    VerdictKind.TOO_BIG: ("too big", "missing"),
}
_HEADINGS: Final = ("quant", "size", "jobs", "device", "tok/s", "verdict")
_RIGHT: Final = frozenset({"size", "jobs"})
_RATE: Final = "tok/s"
_GAP: Final = 2


def plan_table(reports: Sequence[dict[str, Any]]) -> list[Part]:
    """The table of the cells in `reports` (see `preview.cell_report`), and why those do not fit that do not."""
    from rich.text import Text

    whose: dict[str, list[str]] = {}
    for report in reports:
        if (reason := _trouble(report)) is not None:
            whose.setdefault(reason, []).append(f"{_place(report)} {report['quant']}".strip())
    return [_Cells(reports), *(Text(f"{', '.join(names)}: {reason}") for reason, names in whose.items())]


@dataclass(frozen=True, slots=True)
class _Cells:
    """A line a cell; its model stands in front of it, or above its cells where the line would be too long."""

    reports: Sequence[dict[str, Any]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headings: Sequence[str] = _HEADINGS
        rows = [(_place(report), *_figures(report)) for report in self.reports]
        rate_at = headings.index(_RATE) + 1
        if not any(row[rate_at] for row in rows):  # nothing that could be predicted
            headings = [heading for heading in headings if heading != _RATE]
            rows = [row[:rate_at] + row[rate_at + 1 :] for row in rows]
        # As they will be drawn: names are foreign, and may hold characters of no width or of two.
        widths = [
            max(console.render_str(cell).cell_len for cell in column)
            for column in zip(("model", *headings), *rows, strict=True)
        ]
        if sum(widths) + _GAP * (len(widths) - 1) <= options.max_width:
            yield _table(("model", *headings), rows, widths)
            return
        for place, group in groupby(rows, key=lambda row: row[0]):
            yield console.render_str(place, style="bold")
            yield _table(headings, [row[1:] for row in group], widths[1:])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for heading, width in zip(headings, widths, strict=True):
        # Names and verdicts may take a second line where nothing else helps; figures never do.
        figure = heading in _RIGHT
        table.add_column(
            heading,
            justify="right" if figure else "left",
            no_wrap=figure,
            overflow="fold",
            min_width=width if figure else None,
        )
    for row in rows:
        table.add_row(*row)
    return table


def _place(report: dict[str, Any]) -> str:
    return str(report["model"]) + (f" ({report['variant']})" if report["variant"] else "")


def _figures(report: dict[str, Any]) -> tuple[str, ...]:
    device, verdict = _best(report)
    jobs, least = report["jobs"], report.get("jobs_least", report["jobs"])
    asked = str(jobs) if least == jobs else f"{least}-{jobs}"
    return (str(report["quant"]), size(report["file_bytes"]), asked, device, _predicted(report), verdict)


def _best(report: dict[str, Any]) -> tuple[str, str]:
    """The device that suits the cell best, and the verdict there in a few words."""
    if report.get("unreached"):
        return "", "not known"
    if report["missing"]:
        return "none", "no engine"
    found = _ranked(report)
    if not found:
        return "none", "no device"
    device, verdict = found[0]
    word, what = _WORDS[VerdictKind(verdict["verdict"])]
    headroom = verdict["headroom_bytes"]
    return device, word if headroom is None else f"{word}, {amount(headroom)} {what}"


def _predicted(report: dict[str, Any]) -> str:
    """The predicted decode rate with its interval, where the cell would be served: `61.0 (50.2-74.5)`."""
    found = None if not best_place(report) else _ranked(report)[0][1].get("decode")
    return "" if found is None else f"{rate(found['tps'])} ({rate(found['low'])}-{rate(found['high'])})"


def verdict_rate(report: dict[str, Any]) -> float | None:
    """The predicted decode rate in tokens a second where the cell would be served; None where there is none."""
    found = None if not best_place(report) else _ranked(report)[0][1].get("decode")
    return None if found is None else float(found["tps"])


def best_place(report: dict[str, Any]) -> str:
    """The id of the place that a cell would be served on, "" if there is none that could hold it."""
    if report["missing"]:
        return ""
    found = _ranked(report)
    too_big = not found or VerdictKind(found[0][1]["verdict"]) is VerdictKind.TOO_BIG
    return "" if too_big else found[0][0]


def _trouble(report: dict[str, Any]) -> str | None:
    """Why the cell may not be served here, in a sentence; None where it fits, and where another line says why."""
    if report.get("unreached"):
        return None
    if report["missing"]:
        return str(report["missing"])
    found = _ranked(report)
    if not found:
        return "no device of this machine may be used"
    if VerdictKind(found[0][1]["verdict"]) is VerdictKind.FITS:
        return None
    return "; ".join(f"{device}: {verdict['reason']}" for device, verdict in found)


def _ranked(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(report["verdicts"].items(), key=lambda item: _BEST_FIRST.index(VerdictKind(item[1]["verdict"])))
