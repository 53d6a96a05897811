"""`quantsweep fits`: which quants of a source fit which cards, as a table for a person or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.commands.fits_notes import legend, notes
from orchestrator.terminal import Json
from quants.fit.amounts import GIB, MIB, amount
from quants.fit.verdict import VerdictKind
from results.figures import rate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

    from orchestrator.terminal import Part
    from quants.fit.rows import CardVerdict, FitRow, FitsSettings, FitTable
    from quants.fit.targets import Target

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
    measured: Sequence[Path] = (),
    as_json: bool = False,
) -> FitsOutput:
    """The answer for `sources`, on the cards named or else on this machine; rates are learned from `measured` as well.

    Raises:
        QuantsError: a source, a size or a setting that cannot be used.
        ProfilesError: a card that is not in the catalogue.
        RunFolderError: one of `measured` is no run folder.
        StoreError: a newer quantsweep wrote one.
    """
    from orchestrator.rates import predictor_of
    from quants.fit.table import fits

    table = fits(sources, choose_targets(vram, cards, here=here), settings, rates=predictor_of(measured))
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


def render(table: FitTable) -> list[Part]:
    """The answer for a person: for each source a heading and a table, in two where one would be too wide."""
    from rich.text import Text

    parts: list[Part] = []
    unit, name = (GIB, "GiB") if max(row.file_bytes for row in table.rows) >= GIB // 2 else (MIB, "MiB")
    for source, group in groupby(table.rows, key=lambda row: row.source):
        rows = list(group)
        if parts:
            parts.append("")
        parts += [_heading(source, rows), _Tables(rows, table.targets, unit)]
    parted = tuple(_parts(table.rows, unit))
    return [*parts, "", *(Text(each) for each in legend(table, (unit, name), parted))]


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


def _parts(rows: Sequence[FitRow], unit: int) -> dict[str, list[int | None]]:
    """What adds up to the total, by heading: each component that any of the rows has."""
    components = {
        "weights": [row.weights_bytes for row in rows],
        "KV": [row.kv_bytes for row in rows],
        "state": [row.state_bytes for row in rows],
        "compute": [None if row.compute_bytes is None else row.compute_bytes + (row.margin_bytes or 0) for row in rows],
        "output": [row.output_bytes for row in rows],
        "engine": [row.overhead_bytes for row in rows],
    }
    always = {"weights", "KV", "compute"}
    return {name: sizes for name, sizes in components.items() if name in always or _shows(sizes, unit)}


def _shows(sizes: Sequence[int | None], unit: int) -> bool:
    return any(round((size or 0) / unit, 1) for size in sizes)


def _sizes(rows: Sequence[FitRow], unit: int) -> list[_Column]:
    """The file, its bits per weight, what lies on the cards, and what lies in host memory besides."""
    sizes = _parts(rows, unit) | {"total": [row.total_bytes for row in rows]}
    if any(row.host_bytes is not None for row in rows):
        sizes["host"] = [row.host_bytes for row in rows]
    return [
        _Column("file", [_size(row.file_bytes, unit) for row in rows]),
        _Column("bpw", [_bits(row.bits_per_weight) for row in rows]),
        *(_Column(name, [_size(size, unit) for size in each]) for name, each in sizes.items()),
    ]


def _bits(bits_per_weight: float | None) -> str:
    """Three figures, as the labels of quants tell them apart: `4.53`, `16.0`."""
    return "?" if bits_per_weight is None else f"{bits_per_weight:.{2 if bits_per_weight < 9.995 else 1}f}"


def _verdicts(rows: Sequence[FitRow], targets: Sequence[Target], unit: int) -> list[_Column]:
    longest = _Column("max ctx", [_tokens(row.max_context) for row in rows])
    verdicts = [_Column(each.name, [_cell(row.verdicts[each.name], unit) for row in rows]) for each in targets]
    rates = [
        _Column(
            "tok/s" if len(targets) == 1 else f"{each.name} tok/s", [_rate(row.verdicts[each.name]) for row in rows]
        )
        for each in targets
    ]
    return [longest, *verdicts, *(column for column in rates if any(column.cells))]


def _rate(verdict: CardVerdict) -> str:
    """The predicted decode rate with its interval: `61.0 (50.2-74.5)`."""
    found = verdict.decode
    return "" if found is None else f"{rate(found.tps)} ({rate(found.low)}-{rate(found.high)})"


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
    parts = [word] if verdict.headroom_bytes is None else [word, _headroom(verdict.headroom_bytes, unit)]
    if verdict.verdict is VerdictKind.FITS_OFFLOADED:
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


def _size(size_bytes: int | None, unit: int) -> str:
    return "?" if size_bytes is None else f"{size_bytes / unit:.1f}"


def _headroom(size_bytes: int, unit: int) -> str:
    """What stays free or is missing; in a finer unit where it would read as nothing, so that no "no" lacks its why."""
    if size_bytes and not round(size_bytes / unit, 1):
        return f"{'-' if size_bytes < 0 else ''}{amount(size_bytes)}"
    return _size(size_bytes, unit)


def _tokens(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens / 1024:g}k"
