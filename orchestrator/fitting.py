"""What a cell needs on a device and whether it fits there: footprints from the plan, verdicts for each node.

A plan keeps, for each cell and backend, the footprint that its header gives under its settings. A node's verdict then
needs no header: a resumed sweep and one without network decide as the first start did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.backends import backend_of_name
from quants.fit.verdict import DeviceSet, Memory, Verdict, VerdictKind, verdict, weights_verdict
from quants.footprint import Backend

if TYPE_CHECKING:
    from profiles.types import Device, NodeProfile
    from quants.gguf import Header
    from quants.models import Footprints
    from runners.engines.settings import EngineSettings


def backend_of(engine_device: str | None) -> Backend:
    """The backend behind the engine's name of a device: `CUDA0`, `Vulkan1`, `CPU`.

    One that is not known counts as CUDA, whose driver takes the most: an estimate may refuse, not promise.
    """
    if engine_device is None:
        return Backend.CPU
    name = backend_of_name(engine_device)
    return Backend(name) if name in set(Backend) else Backend.CUDA


def footprints_of(header: Header, engine: EngineSettings) -> Footprints:
    """The footprints of a model under `engine`, for each backend that could serve it from one device."""
    from quants.footprint import predict
    from runners.engines.settings import LlamaCppSettings

    if not isinstance(engine, LlamaCppSettings):
        return {}
    backends = [Backend.CPU]
    if engine.gpu_layers != 0:
        backends += [Backend.CUDA, Backend.ROCM, Backend.VULKAN, Backend.METAL]
    found = {}
    for backend in backends:
        try:
            found[backend.value] = predict(header, engine, device=backend.value)
        except ValueError:  # settings that this backend refuses: the engine will say so in its own words
            continue
    return found


def _memory(device: Device) -> Memory:
    return Memory(total_bytes=device.memory_total_bytes, free_bytes=device.memory_free_bytes, name=device.id)


def devices_of(profile: NodeProfile, device: Device) -> DeviceSet:
    """The memory that a server on `device` may use."""
    host = Memory(total_bytes=profile.ram_total_bytes, free_bytes=profile.ram_free_bytes, name="host memory")
    if device.kind == "cpu":
        return DeviceSet(host=_memory(device))
    return DeviceSet(host=host, gpus=(_memory(device),), unified=device.kind == "unified")


def verdict_on(
    footprints: Footprints, file_bytes: int, profile: NodeProfile, device: Device, engine_device: str | None
) -> Verdict:
    """Whether the cell fits the device now; by the file's size alone where its footprint is not known."""
    footprint = footprints.get(backend_of(engine_device).value)
    if footprint is not None and footprint.known:
        return verdict(footprint, devices_of(profile, device))
    found = weights_verdict(file_bytes, device.memory_total_bytes)
    if footprint is not None and footprint.reason and found.kind is VerdictKind.UNKNOWN:
        return Verdict(found.kind, f"{found.reason} ({footprint.reason})", found.headroom_bytes)
    return found


def predicted_bytes(footprints: Footprints, engine_device: str | None) -> int | None:
    """What a measurement of the engine may show at most, all devices together; None where it is not known."""
    footprint = footprints.get(backend_of(engine_device).value)
    return footprint.peak_bytes if footprint is not None else None
