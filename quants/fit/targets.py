"""What a model is to fit on, as the memory an engine may use: cards by size or name, the devices of a machine."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiles.types import hardware_class
from quants.errors import QuantsError
from quants.fit.amounts import GIB
from quants.fit.devices import device_memory, memory_of, shares_of
from quants.fit.verdict import DeviceSet, Memory
from quants.footprint import Backend
from quants.speed.observation import Hardware, hardware_of_card, hardware_of_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.catalogue import Card
    from profiles.types import Device, NodeProfile

# Of the memory a card is sold with, what the driver lets a program have: cudaMemGetInfo on an RTX 4090 says 24,077 MiB
# of 24,576 (llama.cpp's own memory breakdown). A card that keeps more to itself is better probed with --here.
USABLE_SHARE: Final = 24_077 / 24_576
# Where the GPU lives in the machine's RAM, the part that it may wire down. Apple: what Metal recommends, two thirds of
# up to 36 GiB and three quarters of more (llama.cpp prints recommendedMaxWorkingSetSize). AMD and Intel on Linux: half,
# the kernel's default (drivers/gpu/drm/ttm/ttm_device.c). NVIDIA's shared memory has no such limit.
_APPLE_LARGE_BYTES: Final = 36 * GIB
_LINUX_SHARE: Final = 1 / 2
_LARGEST_GB: Final = 4096
MOST_GPUS: Final = 16
"""More GPUs than this serve no model together: llama.cpp's own limit (GGML_CUDA_MAX_DEVICES)."""
_CARDS: Final = re.compile(r"(?:(\d{1,3})\s*[x*]\s*)?(\d{1,7}(?:\.\d{1,6})?)")

_BACKENDS: Final = {
    "nvidia": Backend.CUDA,
    "amd": Backend.ROCM,
    "intel": Backend.VULKAN,
    "apple": Backend.METAL,
    "cpu": Backend.CPU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One column of the table: what an engine would run on.

    Attributes:
        name: of the column, unique within one question.
        title: in words, with the memory.
        backend: what would compute there.
        devices: their memory.
        as_sold: its title has the memory that cards are sold with.
        asks_engine: these are the devices that an engine started on this machine sees, so it can be asked about models
            that the estimator does not know.
        bandwidth_bytes_per_s: at which it reads weights; None where that is not known, and for several cards.
        hardware: what it is, as far as rates depend on it; None where that is not known.
    """

    name: str
    title: str
    backend: Backend
    devices: DeviceSet
    as_sold: bool = False
    asks_engine: bool = False
    bandwidth_bytes_per_s: float | None = None
    hardware: Hardware | None = None

    @property
    def gpus(self) -> int:
        """How many GPUs it has."""
        return len(self.devices.gpus)

    @property
    def memories(self) -> tuple[Memory, ...]:
        """Those of its GPUs; of a machine's CPU the host's."""
        return self.devices.gpus or (self.devices.host,)

    @property
    def tensor_split(self) -> tuple[float, ...] | None:
        """The share of a model that each GPU gets; None for one GPU, and for equal shares."""
        if self.gpus < 2:
            return None
        shares = shares_of(self.devices.gpus)
        return shares if len(set(shares)) > 1 else None


def by_size(text: str) -> Target:
    """A card that is known by the memory it is sold with, in GB (GiB, as cards are named); as if it were NVIDIA's.

    `24+16` is one machine with two cards that serve a model together, `2x24` one with two equal ones.

    Raises:
        QuantsError: this is not a size, no card has so much, or so little.
    """
    sizes = _sizes(text)
    names = Counter(f"{size:g} GB" for size in sizes)
    name = " + ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())
    memories = tuple(
        Memory(
            total_bytes=int(size * GIB * USABLE_SHARE),
            name=f"a {size:g} GB card" if len(sizes) == 1 else f"card {number} ({size:g} GB)",
        )
        for number, size in enumerate(sizes, start=1)
    )
    return Target(
        name=name,
        title=f"a card of {name}" if len(sizes) == 1 else f"one machine with cards of {name}",
        backend=Backend.CUDA,
        devices=DeviceSet(host=_UNKNOWN_HOST, gpus=memories),
        as_sold=True,
    )


def _sizes(text: str) -> tuple[float, ...]:
    """The cards of `24`, `24+16`, `2x24`, `2x24+16`, in GB."""
    way_out = f"Give its memory in GB, such as 16 (at most {_LARGEST_GB}); 24+16 or 2x24 for one machine with two cards"
    sizes: list[float] = []
    for part in text.split("+"):
        found = _CARDS.fullmatch(part.strip())
        if found is None:
            raise QuantsError(f"--vram {text!r} is no size of a card", way_out)
        count, size = 1 if found[1] is None else int(found[1]), float(found[2])
        if not 0 < size <= _LARGEST_GB:
            raise QuantsError(f"--vram {text!r}: {size:g} GB is no size of a card", way_out)
        if not count:
            raise QuantsError(f"--vram {text!r} names no card", way_out)
        if len(sizes) + count > MOST_GPUS:
            raise QuantsError(f"--vram {text!r} are more cards than one model is spread over ({MOST_GPUS})", way_out)
        sizes += [size] * count
    return tuple(sizes)


def by_card(card: Card) -> Target:
    """A card of the catalogue. What host memory stands beside it is not known; a chip's own RAM is.

    Raises:
        QuantsError: its memory is the machine's RAM, which the catalogue cannot know.
    """
    backend = _BACKENDS.get(card.vendor, Backend.VULKAN)
    if card.memory_bytes is None:
        raise QuantsError(
            f"{card.id} has no memory of its own: it takes a part of the machine's",
            "Say how much it may take with --vram, or ask on that machine with --here",
        )
    title = f"{card.name}, {card.memory_bytes / GIB:g} GB"
    if card.kind == "discrete":
        memory = Memory(total_bytes=int(card.memory_bytes * USABLE_SHARE), name=card.id)
        devices = DeviceSet(host=_UNKNOWN_HOST, gpus=(memory,))
    else:
        backend = Backend.VULKAN if card.vendor == "amd" else backend
        host = Memory(total_bytes=card.memory_bytes, name=f"the RAM of {card.id}")
        wired = Memory(total_bytes=_wired_bytes(card.vendor, card.memory_bytes), name=card.id)
        devices = DeviceSet(host=host, gpus=(wired,), unified=True)
    return Target(
        name=card.id,
        title=title,
        backend=backend,
        devices=devices,
        as_sold=True,
        bandwidth_bytes_per_s=card.bandwidth_bytes_per_s,
        hardware=hardware_of_card(card),
    )


def of_machine(profile: NodeProfile) -> tuple[Target, ...]:
    """Every device of a machine that a model may be placed on, and its discrete GPUs of one maker together.

    Raises:
        QuantsError: there is none.
    """
    targets = [of_device(device, profile) for device in profile.devices if device.usable]
    for vendor in dict.fromkeys(device.vendor for device in profile.gpus):
        several = [d for d in profile.gpus if d.usable and d.vendor == vendor and d.kind == "discrete"]
        if len(several) > 1:
            targets.append(_together(several, profile))
    if not targets:
        raise QuantsError(
            f"{profile.hostname} has no device whose memory is known", "`quantsweep nodes` says what was found"
        )
    return tuple(targets)


def of_device(device: Device, profile: NodeProfile) -> Target:
    """One device of a machine, with the machine's RAM beside it. Its memory must be known (`device.usable`)."""
    devices = memory_of(profile, [device])
    total = device_memory(device).total_bytes
    size = "memory unknown" if total is None else f"{total / GIB:.1f} GiB"
    backend = _backend_here(device, profile) if device.is_gpu else Backend.CPU
    return Target(
        name=device.id,
        title=f"{device.name}, {size}",
        backend=backend,
        devices=devices,
        asks_engine=not device.is_gpu or len(profile.gpus) == 1,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s,
        hardware=hardware_of_device(device, hardware_class(profile, [device], backend.value).id),
    )


def unique(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets, each name once."""
    return tuple({target.name: target for target in targets}.values())


_UNKNOWN_HOST: Final = Memory(total_bytes=None, name="host memory")


def _together(devices: Sequence[Device], profile: NodeProfile) -> Target:
    memory = memory_of(profile, devices)
    total = sum(each.total_bytes or 0 for each in memory.gpus)
    return Target(
        name=f"{len(devices)} x {devices[0].vendor}",
        title=f"{len(devices)} GPUs together, {total / GIB:.1f} GiB",
        backend=_backend_here(devices[0], profile),
        devices=memory,
        asks_engine=len(devices) == len(profile.gpus),
    )


def _backend_here(device: Device, profile: NodeProfile) -> Backend:
    """What the machine's llama-server drives the GPU with; without an answer, what such GPUs are mostly driven with."""
    engine = profile.engine("llama-server")
    match = engine.match(device.id) if engine is not None else None
    if match is not None and match.backend in set(Backend):
        return Backend(match.backend)
    if device.kind == "unified" and device.vendor == "amd":
        return Backend.VULKAN
    return _BACKENDS.get(device.vendor, Backend.VULKAN)


def _wired_bytes(vendor: str, memory_bytes: int) -> int:
    if vendor == "apple":
        return memory_bytes * 3 // 4 if memory_bytes > _APPLE_LARGE_BYTES else memory_bytes * 2 // 3
    return memory_bytes if vendor == "nvidia" else int(memory_bytes * _LINUX_SHARE)
