"""`quantsweep show RUN --predicted`: the rates that would have been predicted beside those that were measured."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final

from orchestrator import terminal
from orchestrator.measured import measured_cells, observations
from orchestrator.rates import rate_json
from orchestrator.rundir import RunDir
from quants.speed.history import published
from quants.speed.predictor import LEVEL, Predictor
from results.answer import cell_name
from results.figures import count, rate
from results.layout import Column, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.measured import MeasuredCell
    from orchestrator.terminal import Part
    from quants.speed.predictor import Rate

_MEANING: Final = (
    "Decode rates in tok/s. before: from rates that others published, and rows of --measured; others: from the other "
    "cells of this run as well. How they are predicted: docs/rates.md"
)


def predicted_of_runs(root: Path, others: Sequence[Path], *, as_json: bool) -> list[Part]:
    """Each cell of the run in `root` as it would have been predicted.

    Twice: without any row of this run ("before"), and from the run's other cells ("others"), each from all but itself.

    Args:
        root: the run.
        others: further runs, whose rows are known in both.
        as_json: for a program.

    Raises:
        RunFolderError: one of them is no run folder.
        StoreError: a newer quantsweep wrote it.
    """
    for folder in (root, *others):
        RunDir(folder).require()
    cells, known = measured_cells(root), observations(others)
    bare = Predictor(published(), known)
    before = [bare.decode(cell.observation.load) for cell in cells]
    after = [_from_others(cell, cells, known) for cell in cells]
    if as_json:
        return [terminal.Json({"level": LEVEL, "cells": [*map(_json, cells, before, after)]})]
    if not cells:
        return ["No cell of this run has a decode rate whose ceiling is known, so none can be predicted from it."]
    return _table(cells, before, after)


def _from_others(cell: MeasuredCell, cells: Sequence[MeasuredCell], known: Sequence[Any]) -> Rate | None:
    rest = [each.observation for each in cells if each is not cell]
    return Predictor(published(), [*known, *rest]).decode(cell.observation.load) if rest else None


def _table(cells: Sequence[MeasuredCell], before: Sequence[Rate], after: Sequence[Rate | None]) -> list[Part]:
    measured = [cell.observation.decode_tps for cell in cells]
    errors = [_error(found, tps) for found, tps in zip(before, measured, strict=True)]
    later = [None if found is None else _error(found, tps) for found, tps in zip(after, measured, strict=True)]
    columns = [
        Column("measured", [rate(tps) for tps in measured]),
        Column("before", [rate(found.tps) for found in before]),
        Column("90%", [f"{rate(found.low)}-{rate(found.high)}" for found in before]),
        Column("error", [f"{error:+.0%}" for error in errors]),
        Column("others", ["" if found is None else rate(found.tps) for found in after], "learned"),
        Column("90%", ["" if f is None else f"{rate(f.low)}-{rate(f.high)}" for f in after], "learned"),
        Column("error", ["" if error is None else f"{error:+.0%}" for error in later], "learned"),
    ]
    shown = [column for column in columns if any(column.cells)]
    names = [cell_name(cell.model, cell.variant, cell.quant) for cell in cells]
    first = median(map(abs, errors))
    known = [abs(error) for error in later if error is not None]
    learned = f"; {median(known):.1%} from the run's other cells" if known else ""
    return [
        Layout("cell", names, shown, [""] * len(cells)),
        "",
        f"Median error of {count(len(cells), 'cell')}: {first:.1%} before any row of this run{learned}.",
        _MEANING,
    ]


def _error(found: Rate, measured: float) -> float:
    return found.tps / measured - 1


def _json(cell: MeasuredCell, before: Rate, after: Rate | None) -> dict[str, Any]:
    measured = cell.observation.decode_tps
    return {
        "model": cell.model,
        "quant": cell.quant,
        "variant": cell.variant,
        "hardware_class": cell.hardware_class,
        "requests": cell.requests,
        "decode_tps": measured,
        "before": rate_json(before) | {"error": _error(before, measured)},
        "others": None if after is None else rate_json(after) | {"error": _error(after, measured)},
    }
