"""Predicted rates of cells on the places of a node, from published rates and those of runs of ours."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from orchestrator.fitting import footprint_on
from orchestrator.measured import observations
from orchestrator.rundir import RunDir
from quants.models import FileModel
from quants.speed.history import published
from quants.speed.observation import Load, hardware_of_device, is_moe
from quants.speed.predictor import DEPTH, Predictor
from results.reading import StoreError
from runners.engines.settings import LlamaCppSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.places import ServingPlace
    from profiles.types import NodeProfile
    from quants.speed.predictor import Rate
    from runners.work import Cell


def predictor_of(measured: Sequence[Path], *, own: Path | None = None) -> Predictor:
    """A predictor that has learned from the runs in `measured`, and from `own` if there is such a run.

    Raises:
        RunFolderError: one of `measured` is no run folder.
        StoreError: a newer quantsweep wrote one of them.
    """
    for folder in measured:
        RunDir(folder).require()
    known = observations(measured)
    if own is not None and own.is_dir() and own.resolve() not in {folder.resolve() for folder in measured}:
        with contextlib.suppress(StoreError):  # not begun yet, or of another version: the predictions do without
            known += observations([own])
    return Predictor(published(), known)


def predicted_decode(cell: Cell, place: ServingPlace, profile: NodeProfile, rates: Predictor) -> Rate | None:
    """The decode rate of the cell there, at DEPTH; None where its header or the bandwidth is not known.

    With a part in host memory there is none: how fast the machine's memory is, is not measured before a run.
    """
    model, engine = cell.model, cell.engine
    if not isinstance(model, FileModel) or not isinstance(engine, LlamaCppSettings) or model.facts is None:
        return None
    bandwidth, facts = place.bandwidth_of(engine), model.facts
    on_host = place.backend != "cpu" and (engine.gpu_layers is not None or engine.cpu_moe_layers)
    if not bandwidth or not facts.token_bytes or on_host or not place.devices:
        return None
    footprint = footprint_on(model.footprints, place, engine)
    held = 0 if footprint is None else sum(device.kv_bytes for device in footprint.devices)
    read_bytes = facts.token_bytes + held * min(1.0, DEPTH / (engine.context * engine.slots))
    hardware = hardware_of_device(place.devices[0], place.hardware_class(profile))
    return rates.decode(Load(read_bytes / bandwidth, facts.bits_per_weight, is_moe(facts), model.quant, hardware))


def rate_json(found: Rate) -> dict[str, Any]:
    """A predicted rate: tokens a second, its interval, and how many local cells of the hardware are behind it."""
    return {"tps": found.tps, "low": found.low, "high": found.high, "local": found.local}
