"""What stands below the table of `quantsweep fits`: what its columns mean, warnings, and what is not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quants.fit.verdict import VerdictKind
from quants.trained import beyond_trained

if TYPE_CHECKING:
    from quants.fit.rows import FitTable
    from quants.fit.targets import Target


def legend(table: FitTable, unit: tuple[int, str], columns: tuple[str, ...]) -> list[str]:
    """What the words and figures of the table mean, a line each.

    Args:
        table: the answer.
        unit: of its sizes: bytes, and the name.
        columns: the headings that add up to the column `total`.
    """
    kinds = {verdict.verdict for row in table.rows for verdict in row.verdicts.values()}
    meanings = {
        VerdictKind.FITS: "fits: so much stays free",
        VerdictKind.FITS_OFFLOADED: "part: fits with part of it in host memory, so much there in all",
        VerdictKind.TOO_BIG: "no: so much is missing",
        VerdictKind.UNKNOWN: "?: not known",
    }
    said = [meaning for kind, meaning in meanings.items() if kind in kinds]
    lines = [f"Sizes in {unit[1]}. {'; '.join(said)}"]
    if any(row.target for row in table.rows):
        lines += _of_sizes(table, columns)
    lines.append("max ctx: the most tokens of context for each slot, on whichever takes most (k = 1,024)")
    if any(verdict.decode for row in table.rows for verdict in row.verdicts.values()):
        lines.append("tok/s: predicted decode rate at 1,024 tokens, with the interval of 90% (docs/rates.md)")
    lines += [_of_target(target, unit) for target in table.targets]
    if any(target.as_sold for target in table.targets):
        lines.append("GB of a card: as it is sold, where 1 GB is 1 GiB; the driver keeps a part of it")
    reasons = {row.reason: row.quant for row in reversed(table.rows) if row.reason}
    return lines + [f"{quant}: {reason}" for reason, quant in reversed(reasons.items())]


def _of_sizes(table: FitTable, columns: tuple[str, ...]) -> list[str]:
    """Where the parts of a footprint lie, and what of them is held against a memory."""
    used = dict.fromkeys(row.target for row in table.rows if row.target)
    targets = [target for target in table.targets if target.name in used]
    places = [
        f"{target.name} (its cards together)" if target.gpus > 1 else target.name if target.gpus else "RAM"
        for target in targets
    ]
    alike = len(
        {(target.backend, target.devices.unified, target.tensor_split, target.gpus) for target in table.targets}
    )
    others = "" if alike == 1 else "; elsewhere more or less"
    lines = [
        f"total = {' + '.join(columns)}: what has to be free, on {' or '.join(places)}{others}",
        "compute: with what the estimate may be short by; engine: what the driver and the program take",
    ]
    if any(target.gpus for target in targets):
        shared = "" if not any(target.devices.unified for target in targets) else "; shared memory holds both"
        lines.append(f"host: what lies in the machine's own memory besides{shared}")
    return lines


def _of_target(target: Target, unit: tuple[int, str]) -> str:
    """What a column stands for, and the memory that its verdicts compare with."""
    size, name = unit
    found = [memory.total_bytes if memory.free_bytes is None else memory.free_bytes for memory in target.memories]
    title = f"{target.name}: {target.title}"
    known = [memory for memory in found if memory is not None]
    if len(known) == len(found):
        is_free = all(memory.free_bytes is not None for memory in target.memories)
        title += f", {' + '.join(f'{memory / size:,.1f}' for memory in known)} {name} {'free' if is_free else 'to use'}"
    return f"{title}; free or missing: on the fullest of them" if target.gpus > 1 else title


def warnings(table: FitTable) -> list[str]:
    """A line for each source that is asked for a context beyond what its models were made for."""
    trained: dict[tuple[str, int], list[int | None]] = {}
    for row in table.rows:
        trained.setdefault((row.source, row.context), []).append(row.trained_context)
    found = (beyond_trained(source, context, lengths) for (source, context), lengths in trained.items())
    return [f"warning: {text}" for text in found if text is not None]


def _cut_off(table: FitTable) -> list[str]:
    """What of files that are shorter than their headers say is there; a header is enough to judge by, not to run."""
    parts = [
        f"{row.path} ({_decimal(row.file_bytes)} of {_decimal(row.file_bytes + row.missing_bytes)}, "
        f"{100 * row.file_bytes // (row.file_bytes + row.missing_bytes)}%)"
        for row in table.rows
        if row.missing_bytes
    ]
    if not parts:
        return []
    files = "a file is" if len(parts) == 1 else f"{len(parts)} files are"
    mend = "judged by the header alone; to run it, download or copy it again"
    if len(parts) > 1:
        mend = "judged by their headers alone; to run them, download or copy them again"
    return [f"warning: {files} shorter than the header says, {mend}. There is: {', '.join(parts)}"]


def notes(table: FitTable) -> list[str]:
    """Warnings, how much was fetched, and what is not in the table, one line each."""
    total = sum(row.file_bytes for row in table.rows)
    headers = f"{len(table.rows)} header{'s' if len(table.rows) > 1 else ''} read"
    lines = [*warnings(table), *_cut_off(table)]
    lines.append(f"{headers}: {_decimal(table.fetched_bytes)} fetched, for files of {_decimal(total)}")
    lines += [f"left out: {path}: {reason}" for path, reason in table.skipped]
    lines += [f"not counted: {path} ({_decimal(size)})" for path, size in table.sidecars]
    return lines


def _decimal(size_bytes: int) -> str:
    """Bytes as downloads are counted: 1 MB is a million."""
    for factor, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {name}"
    return f"{size_bytes} bytes"
