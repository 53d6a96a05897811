"""What of a model is kept in host memory where it fits no place whole: the cheapest offload that fits, for good.

The choice is part of a cell's identity, so it must come out alike when a plan is made again: free memory counts in
whole GiB, rounded down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.fitting import backend_of, verdict_on
from orchestrator.places import serving_places
from quants.fit.devices import memory_of
from quants.fit.verdict import GIB, VerdictKind, cheapest_offload
from quants.footprint import Estimator, settings_for
from quants.models import FileModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.places import ServingPlace
    from profiles.types import NodeProfile
    from quants.fit.verdict import DeviceSet, Memory, Offload
    from quants.gguf import Header
    from runners.engines.settings import LlamaCppSettings
    from runners.work import Cell


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
        backend = backend_of(place.engine_device.split(",")[0])
        settings = settings_for(engine, backend, gpus=len(place.devices))
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
