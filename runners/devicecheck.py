"""Whether a loaded server computes where it was sent: its own log held against the device of the lease.

A match by name may be wrong, and a server that finds no GPU goes on with the CPU. Its log says what it used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiles.backends import backend_of_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.types import Device
    from runners.engines.base import BufferSizes

_USING: Final = re.compile(r"using device (\w{1,32}) \((.{0,200}?)\)(?: \(([\w:. ]{1,32})\))? - +\d{1,12} MiB free")
"""`using device CUDA0 (NVIDIA GeForce RTX 5060 Ti) (0000:01:00.0) - 15055 MiB free`; builds of before late 2025 leave
the PCI address out, others write `unknown id`."""
_PCI: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")


@dataclass(frozen=True, slots=True)
class UsedDevice:
    """A device that a server says it uses: its own name for it, the description, and the PCI address where it tells."""

    name: str
    description: str
    pci_id: str | None


def used_devices(log: str) -> tuple[UsedDevice, ...]:
    """The devices that a llama.cpp log names as those in use, each once, in order."""
    found = {}
    for name, description, address in _USING.findall(log):
        pci_id = address.lower() if _PCI.fullmatch(address.lower()) else None
        found[name] = UsedDevice(name, description, pci_id)
    return tuple(found.values())


def gpu_buffer_bytes(buffers: BufferSizes | None) -> int | None:
    """Bytes of the log's buffers that lie on GPUs, pinned memory of the host left out; None without any buffer."""
    if buffers is None:
        return None
    of = {name: size for name, size in buffers.total_bytes().items() if not name.endswith("_Host")}
    return sum(size for name, size in of.items() if backend_of_name(name.split("_")[0]) not in {None, "cpu"})


def misplaced(
    devices: Sequence[Device], engine_device: str | None, *, log: str, buffers: BufferSizes | None
) -> str | None:
    """What is wrong with where the server computes, as a sentence; None where nothing speaks against it.

    Args:
        devices: of the lease; several where one model is spread over them.
        engine_device: what the engine was told to use.
        log: of the load.
        buffers: as the log tells them.
    """
    gpus = [device for device in devices if device.is_gpu]
    if not gpus or engine_device in {None, "CPU"}:
        return None
    meant = " and ".join(f"{device.id} ({device.name})" for device in gpus)
    addresses = [device.pci_id for device in gpus if device.pci_id is not None]
    elsewhere = [each for each in used_devices(log) if each.pci_id is not None and each.pci_id not in addresses]
    if elsewhere and len(addresses) == len(gpus):
        one = elsewhere[0]
        where = " and ".join(addresses)
        return f"it computes on {one.name} at PCI {one.pci_id} ({one.description}), and {meant} is at {where}"
    if gpu_buffer_bytes(buffers) == 0:
        return f"its buffers are all in host memory: it computes on the CPU, and not on {meant}"
    return None
