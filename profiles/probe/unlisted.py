"""What only one side knows: GPUs that an engine lists and no driver tells of, and cards that no engine knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import strangers, vendor_of
from profiles.probe.system import Found
from profiles.types import Device, Notice, Vendor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.types import FoundEngine

VENDORS: dict[str, Vendor] = {"nvidia": "nvidia", "amd": "amd", "intel": "intel", "apple": "apple"}


def devices_of_engines(devices: Sequence[Device], engines: Sequence[FoundEngine]) -> Found:
    """GPUs that only an engine tells of, as devices: their memory is known, their energy and temperature are not."""
    for engine in engines:
        found = []
        numbers: dict[Vendor, int] = {}
        for entry in strangers(devices, engine.devices):
            vendor = VENDORS.get(vendor_of(entry.description) or "", "unknown")
            number = numbers[vendor] = numbers.get(vendor, -1) + 1
            found.append(
                Device(
                    id=f"{'gpu' if vendor == 'unknown' else vendor}-{number}",
                    vendor=vendor,
                    name=entry.description,
                    kind="discrete",
                    memory_total_bytes=entry.memory_total_bytes or None,
                    memory_free_bytes=entry.memory_free_bytes if entry.memory_total_bytes else None,
                    pci_id=entry.pci_id,
                    index=number,
                )
            )
        if found:
            return Found(tuple(found), tuple(_only_there(device, engine) for device in found))
    return Found()


def unmatched_notices(devices: Sequence[Device], engines: Sequence[FoundEngine]) -> tuple[Notice, ...]:
    """A notice for each card that an engine cannot be given, and for each whose match is an assumption."""
    notices = []
    for engine in engines:
        whose = engine.kind if engine.named is None else engine.named
        if engine.problem is not None:
            notices.append(Notice("engine-unusable", f"{whose} cannot be used: {engine.problem}"))
            continue
        for device in devices:
            match = engine.match(device.id)
            if match is None or device.excluded is not None:
                continue
            if match.name is None and engine.devices:
                message = f"{device.id} ({device.name}) has no match in {whose}: {match.how}; nothing is placed on it"
                notices.append(Notice("device-unmatched", message, device.id))
            elif match.name is None:
                message = f"{device.id} ({device.name}) is not used by {whose}: {match.how}"
                notices.append(Notice("engine-without-gpu", message, device.id))
            elif not match.sure:
                message = f"{device.id} is taken to be {match.listed_as} of {whose}: {match.how}"
                notices.append(Notice("device-match-assumed", message, device.id))
    return tuple(notices)


def _only_there(device: Device, engine: FoundEngine) -> Notice:
    message = (
        f"{device.id} ({device.name}) is known from {engine.kind} alone: no driver's files or library tell of it, "
        "so its energy, its temperature and what else runs there are not measured"
    )
    return Notice("device-from-engine", message, device.id)
