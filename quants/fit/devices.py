"""The memory that a server may use on devices of a machine, and what a model needs that is spread over several."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from quants.fit.verdict import DeviceSet, Memory
from quants.footprint import Footprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.types import Device, NodeProfile

SplitMode: TypeAlias = Literal["layer", "row"]
Footprints: TypeAlias = dict[str, Footprint]
"""`footprint_key` to footprint."""

EQUAL: Final = 0.05
"""GPUs whose memory differs by less than this part count as equal, and get equal shares of a model."""


def footprint_key(backend: str, gpus: int = 1) -> str:
    """The key of the footprint on so many GPUs with equal shares: `cuda` for one (and `cpu`), `2 x cuda` for two."""
    return backend if gpus <= 1 else f"{gpus} x {backend}"


def memory_of(profile: NodeProfile, devices: Sequence[Device]) -> DeviceSet:
    """The memory that a server on `devices` of the machine may use: one device, or several GPUs for one model."""
    first = devices[0]
    if not first.is_gpu:
        return DeviceSet(host=device_memory(first))
    host = Memory(total_bytes=profile.ram_total_bytes, free_bytes=profile.ram_free_bytes, name="host memory")
    # Memory that a driver carves out of RAM is not part of what the machine reports as RAM.
    shares_ram = first.kind == "unified" and not first.vram_total_bytes
    return DeviceSet(host=host, gpus=tuple(device_memory(device) for device in devices), unified=shares_ram)


def device_memory(device: Device) -> Memory:
    """What of a device's memory a server may have."""
    total = device.memory_total_bytes
    return Memory(
        total_bytes=None if total is None else max(0, total - device.reserved_bytes),
        free_bytes=device.memory_free_bytes,
        name=device.id,
    )


def shares_of(memories: Sequence[Memory]) -> tuple[float, ...]:
    """The part of a model that each GPU gets, as llama.cpp's `--tensor-split` takes it: by memory, in whole GiB.

    GPUs that are as good as equal get equal shares. llama.cpp's own choice follows what is free at the moment, so that
    the same model would lie differently at each start.
    """
    totals = [memory.total_bytes or 0 for memory in memories]
    largest = max(totals)
    if not largest or min(totals) >= largest * (1 - EQUAL):
        return (1.0,) * len(memories)
    return tuple(float(max(1, round(total / 2**30))) for total in totals)


def spread(footprint: Footprint, shares: Sequence[float], split: SplitMode = "layer") -> Footprint:
    """A footprint of equal shares as one of `shares`, and by rows where that is how the model is split.

    Without the header it is not known where between two layers the model is cut, so a GPU is counted with one layer
    and the largest part besides what its share comes to. By rows, weights follow the shares, and caches may lie on the
    first GPU (llama.cpp's --main-gpu) or with their layers: they count on both.
    """
    parts = footprint.gpus
    if not footprint.known or len(parts) < 2 or len(parts) != len(shares):
        return footprint
    equal = len(set(shares)) == 1
    if equal and split == "layer":
        return footprint
    weights = sum(part.weights_bytes for part in parts)
    caches = sum(part.kv_bytes + part.state_bytes for part in parts)
    layer = (weights + caches) // max(1, footprint.layers)
    compute = max(part.compute_bytes for part in parts)
    uncertainty = max(part.uncertainty_bytes for part in parts)
    moved = []
    for place, (part, share) in enumerate(zip(parts, shares, strict=True)):
        of_all = share / sum(shares)
        kv = caches if split == "row" and place == 0 else int(caches * of_all)
        moved.append(
            replace(
                part,
                weights_bytes=int(weights * of_all),
                kv_bytes=kv,
                state_bytes=0,
                compute_bytes=compute,
                uncertainty_bytes=uncertainty + layer + _largest_lump(footprint),
            )
        )
    settings = replace(footprint.settings, tensor_split=tuple(shares))
    return replace(footprint, settings=settings, devices=(footprint.host, *moved))


def _largest_lump(footprint: Footprint) -> int:
    """How much more than its share of the weights a GPU got in an even split: the output layer lies on the last."""
    sizes = [part.weights_bytes for part in footprint.gpus]
    return max(0, max(sizes) - sum(sizes) // len(sizes))
