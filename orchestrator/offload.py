"""What of a model is kept in host memory where it fits no place whole: the cheapest offload that fits, for good.

The choice is part of a cell's identity, so it must come out alike when a plan is made again: free memory counts in
whole GiB, rounded down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.fitting import backend_of, verdict_on
from orchestrator.places import serving_places
from quants.fit.amounts import GIB
from quants.fit.devices import memory_of
from quants.fit.verdict import VerdictKind, cheapest_offload
from quants.footprint import Estimator, settings_for
from quants.models import FileModel
from runners.engines.settings import LlamaCppSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.places import ServingPlace
    from profiles.types import NodeProfile
    from quants.fit.verdict import DeviceSet, Memory, Offload
    from quants.gguf import Header
    from runners.work import Cell

Machines: TypeAlias = "Callable[[], Sequence[NodeProfile]]"
"""Gives the profiles of the machines that may serve a sweep, when they are asked for."""


class Offloading:
    """Settles what of cells stays in host memory. The machines are asked once, when the first cell needs them.

    Args:
        machines: gives the profiles of those that may serve the cells.
        earlier: cells of an earlier plan of the same sweep: what was settled for them stays as it is, whatever memory
            is free by now, or their rows could not stand beside new ones.
    """

    def __init__(self, machines: Machines, earlier: Iterable[Cell] = ()) -> None:
        self._machines = machines
        self._profiles: Sequence[NodeProfile] | None = None
        self._earlier = {cell.label: cell.engine for cell in earlier}

    def settled(self, cell: Cell, engine: LlamaCppSettings, header: Header) -> LlamaCppSettings:
        """The settings of the cell with what has to stay in host memory, as `engine.offload` allows."""
        if engine.offload == "never":
            return engine
        before = self._earlier.get(cell.label)
        if isinstance(before, LlamaCppSettings) and before.offload == engine.offload:
            same = replace(engine, gpu_layers=before.gpu_layers, cpu_moe_layers=before.cpu_moe_layers)
            if same.comparable() == before.comparable():
                return same
        if self._profiles is None:
            self._profiles = self._machines()
        return with_offload(cell, engine, header, self._profiles)


def with_offload(
    cell: Cell, engine: LlamaCppSettings, header: Header, profiles: Sequence[NodeProfile]
) -> LlamaCppSettings:
    """The settings with what has to stay in host memory, as `engine.offload` allows; as they are where nothing has to,
    or nothing helps.

    Args:
        cell: with the model as far as it is known, and `engine`.
        engine: its settings.
        header: of the model.
        profiles: of the machines that may serve it.
    """
    model = cell.model
    if engine.offload == "never" or engine.asks_for_cpu or not isinstance(model, FileModel):
        return engine
    places = [(profile, place) for profile in profiles for place in serving_places(cell, profile).values()]
    for profile, place in places:
        kind = verdict_on(model.footprints, model.file_bytes, profile, place, engine).kind
        if kind is not VerdictKind.TOO_BIG:
            return engine
    found = min(_offloads(engine, header, places), key=lambda each: each.host_bytes, default=None)
    if found is None:
        return engine
    return replace(engine, gpu_layers=found.settings.gpu_layers, cpu_moe_layers=found.settings.cpu_moe_layers or None)


def _offloads(
    engine: LlamaCppSettings, header: Header, places: Iterable[tuple[NodeProfile, ServingPlace]]
) -> Iterable[Offload]:
    estimator = Estimator(header)
    for profile, place in places:
        if not place.devices[0].is_gpu:
            continue
        settings = settings_for(engine, backend_of(place), gpus=len(place.devices))
        settings = replace(settings, tensor_split=place.tensor_split(engine))
        try:
            found = cheapest_offload(estimator, settings, _in_whole_gib(memory_of(profile, place.devices)))
        except ValueError:  # settings that this backend refuses: the engine will say so in its own words
            continue
        if found is not None and (engine.offload == "auto" or found.settings.gpu_layers is None):
            yield found


def _in_whole_gib(devices: DeviceSet) -> DeviceSet:
    return replace(devices, host=_rounded(devices.host), gpus=tuple(_rounded(memory) for memory in devices.gpus))


def _rounded(memory: Memory) -> Memory:
    return memory if memory.free_bytes is None else replace(memory, free_bytes=memory.free_bytes // GIB * GIB)
