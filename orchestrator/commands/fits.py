"""`quantsweep fits`: which quants of a source fit which cards, as a table for a person or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.terminal import Json
from quants.fit.verdict import GIB, VerdictKind
from quants.trained import beyond_trained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

    from orchestrator.terminal import Part
    from quants.fit.rows import CardVerdict, FitRow, FitsSettings, FitTable
    from quants.fit.targets import Target

MIB: Final = 1024**2
_GAP: Final = 2
"""Characters between two columns."""
_WORDS: Final = {
    VerdictKind.FITS: ("fits", "green"),
    VerdictKind.FITS_OFFLOADED: ("part", "yellow"),
    VerdictKind.TOO_BIG: ("no", "red"),
    VerdictKind.UNKNOWN: ("?", "dim"),
}


@dataclass(frozen=True, slots=True)
class FitsOutput:
    """What the command prints: the answer as `parts`; beside it, as `notes`, what was fetched and what was left out."""

    parts: Sequence[Part]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: Sequence[str | Text]
    justify: Literal["left", "right"] = "right"


def show_fits(
    sources: Sequence[str],
    *,
    vram: Sequence[str] = (),
    cards: Sequence[str] = (),
    here: bool = False,
    settings: FitsSettings | None = None,
    as_json: bool = False,
) -> FitsOutput:
    """The answer for `sources`, on the cards named or else on this machine.

    Raises:
        QuantsError: a source, a size or a setting that cannot be used.
        ProfilesError: a card that is not in the catalogue.
    """
    from quants.fit.table import fits

    table = fits(sources, choose_targets(vram, cards, here=here), settings)
    parts: list[Part] = [Json([row.to_json() for row in table.rows])] if as_json else render(table)
    return FitsOutput(parts, notes(table))


def choose_targets(vram: Sequence[str], cards: Sequence[str], *, here: bool) -> tuple[Target, ...]:
    """The columns that the options ask for; this machine's devices if they ask for none.

    Raises:
        QuantsError: a size that no card has, or a machine without a device that may be used.
        UnknownCardError: a card that is not in the catalogue.
    """
    from quants.fit.targets import by_card, by_size, of_machine, unique

    targets = [by_size(size) for size in vram]
    if cards:
        from profiles.catalogue import find_card

        targets += [by_card(find_card(name)) for name in cards]
    if here or not targets:
        from profiles.probe import probe_node

        profile = probe_node(engines=False)
        # An engine says what drives a GPU, and of some how much memory they have; starting one takes a second or two.
        targets += of_machine(probe_node() if profile.gpus else profile)
    return unique(targets)


def warnings(table: FitTable) -> list[str]:
    """A line for each source that is asked for a context beyond what its models were made for."""
    trained: dict[tuple[str, int], list[int | None]] = {}
    for row in table.rows:
        trained.setdefault((row.source, row.context), []).append(row.trained_context)
    found = (beyond_trained(source, context, lengths) for (source, context), lengths in trained.items())
    return [f"warning: {text}" for text in found if text is not None]


def notes(table: FitTable) -> list[str]:
    """Warnings, how much was fetched, and what is not in the table, one line each."""
    total = sum(row.file_bytes for row in table.rows)
    headers = f"{len(table.rows)} header{'s' if len(table.rows) > 1 else ''} read"
    lines = [*warnings(table), f"{headers}: {_decimal(table.fetched_bytes)} fetched, for files of {_decimal(total)}"]
    lines += [f"left out: {path}: {reason}" for path, reason in table.skipped]
    lines += [f"not counted: {path} ({_decimal(size)})" for path, size in table.sidecars]
    return lines


def render(table: FitTable) -> list[Part]:
    """The answer for a person: for each source a heading and a table, in two where one would be too wide."""
    from rich.text import Text

    parts: list[Part] = []
    unit, name = _unit(table.rows)
    for source, group in groupby(table.rows, key=lambda row: row.source):
        rows = list(group)
        if parts:
            parts.append("")
        parts += [_heading(source, rows), _Tables(rows, table.targets, unit)]
    return [*parts, "", *(Text(each) for each in _legend(table, name))]


@dataclass(frozen=True, slots=True)
class _Tables:
    """One table of a source's quants; where that would be too wide, sizes and verdicts apart, in parts."""

    rows: Sequence[FitRow]
    targets: Sequence[Target]
    unit: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = [_Column("quant", [row.quant for row in self.rows], "left")]
        architectures = [row.architecture or "?" for row in self.rows]
        kinds = [_Column("architecture", architectures, "left")] if len(set(architectures)) > 1 else []
        sizes, verdicts = _sizes(self.rows, self.unit), _verdicts(self.rows, self.targets, self.unit)
        width = options.max_width
        if _needed([*names, *kinds, *sizes, *verdicts]) <= width:
            yield _table([*names, *kinds, *sizes, *verdicts])
            return
        for number, columns in enumerate(
            [*_fitting(names, [*kinds, *sizes], width), *_fitting(names, verdicts, width)]
        ):
            if number:
                yield ""
            yield _table(columns)


def _fitting(names: list[_Column], columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """Tables with as many of `columns` each as there is room for beside `names`, and with one at least."""
    tables: list[list[_Column]] = []
    for column in columns:
        if not tables or (len(tables[-1]) > len(names) and _needed([*tables[-1], column]) > width):
            tables.append(list(names))
        tables[-1].append(column)
    return tables


def _needed(columns: Sequence[_Column]) -> int:
    """Characters a line, the gaps between columns included."""
    return sum(max(len(column.name), *map(len, column.cells)) + _GAP for column in columns) - _GAP


def _sizes(rows: Sequence[FitRow], unit: int) -> list[_Column]:
    """The file, its bits per weight, and each component that any of the rows has."""
    components = {
        "weights": [row.weights_bytes for row in rows],
        "KV": [row.kv_bytes for row in rows],
        "state": [row.state_bytes for row in rows],
        "compute": [row.compute_bytes for row in rows],
        "output": [row.output_bytes for row in rows],
        "engine": [row.overhead_bytes for row in rows],
        "total": [row.total_bytes for row in rows],
    }
    always = {"weights", "KV", "compute", "total"}
    return [
        _Column("file", [_size(row.file_bytes, unit) for row in rows]),
        _Column("bpw", ["?" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}" for row in rows]),
        *(
            _Column(name, [_size(size, unit) for size in sizes])
            for name, sizes in components.items()
            if name in always or any(round((size or 0) / unit, 1) for size in sizes)
        ),
    ]


def _verdicts(rows: Sequence[FitRow], targets: Sequence[Target], unit: int) -> list[_Column]:
    longest = _Column("max ctx", [_tokens(row.max_context) for row in rows])
    return [longest, *(_Column(each.name, [_cell(row.verdicts[each.name], unit) for row in rows]) for each in targets)]


def _table(columns: Sequence[_Column]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        # Figures stay whole; names give way where a table is too wide.
        wraps = column.justify == "left" or any(" -" in str(cell) for cell in column.cells)
        table.add_column(column.name, justify=column.justify, overflow="fold", no_wrap=not wraps)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _cell(verdict: CardVerdict, unit: int) -> Text:
    from rich.text import Text

    word, style = _WORDS[verdict.verdict]
    parts = [word] if verdict.headroom_bytes is None else [word, _size(verdict.headroom_bytes, unit)]
    if verdict.host_bytes is not None:
        parts += ["host", _size(verdict.host_bytes, unit), verdict.flags.replace("--n-cpu-moe", "-ncmoe")]
    return Text(" ".join(parts), style=style)


def _heading(source: str, rows: Sequence[FitRow]) -> Text:
    from rich.text import Text

    row = rows[0]
    names = {each.architecture for each in rows}
    repo, _, commit = row.resolved.partition("@")
    resolved = f"{repo}@{commit[:12]}, " if repo.startswith("hf:") else ""
    architecture = f"{resolved}{row.architecture}, " if len(names) == 1 and row.architecture else resolved
    contexts = sorted({each.context for each in rows})
    context = f"{contexts[0]:,}" if len(contexts) == 1 else f"{contexts[0]:,} to {contexts[-1]:,}"
    slots = f" x {row.slots} slots" if row.slots > 1 else ""
    caches = f"cache K {row.cache_type_k}, V {row.cache_type_v}"
    return Text.assemble((source, "bold"), f"  {architecture}{context} tokens{slots}, {caches}")


def _legend(table: FitTable, unit: str) -> list[str]:
    kinds = {verdict.verdict for row in table.rows for verdict in row.verdicts.values()}
    meanings = {
        VerdictKind.FITS: "fits: so much stays free",
        VerdictKind.FITS_OFFLOADED: "part: fits with part of it in host memory, so much there in all",
        VerdictKind.TOO_BIG: "no: so much is missing",
        VerdictKind.UNKNOWN: "?: not known",
    }
    said = [meaning for kind, meaning in meanings.items() if kind in kinds]
    lines = [
        f"Sizes in {unit}. {'; '.join(said)}",
        "max ctx: the most tokens of context for each slot, on whichever takes most (k = 1,024)",
    ]
    lines += [f"{target.name}: {target.title}" for target in table.targets]
    reasons = {row.reason: row.quant for row in reversed(table.rows) if row.reason}
    return lines + [f"{quant}: {reason}" for reason, quant in reversed(reasons.items())]


def _unit(rows: Sequence[FitRow]) -> tuple[int, str]:
    return (GIB, "GiB") if max(row.file_bytes for row in rows) >= GIB // 2 else (MIB, "MiB")


def _size(size_bytes: int | None, unit: int) -> str:
    return "?" if size_bytes is None else f"{size_bytes / unit:.1f}"


def _tokens(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens / 1024:g}k"


def _decimal(size_bytes: int) -> str:
    """Bytes as downloads are counted: 1 MB is a million."""
    for factor, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {name}"
    return f"{size_bytes} bytes"
