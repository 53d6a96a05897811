"""CUDA_VISIBLE_DEVICES as its setter meant it: the NVIDIA cards that it hides are left alone.

NVML shows all cards whatever the variable says. Engines are started with a list of ours, so that theirs would be lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiles.types import Device

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"


def left_alone(devices: Sequence[Device], environment: Mapping[str, str]) -> tuple[Device, ...]:
    """The devices, those excluded that the variable hides; all as they are where it is not set.

    Numbers count in the order of the PCI bus, as in nvidia-smi. As with CUDA, what follows on an entry that is no
    device is hidden too.
    """
    value = environment.get(VARIABLE)
    if value is None:
        return tuple(devices)
    cards = [device for device in devices if device.vendor == "nvidia"]
    visible: list[str] = []
    for entry in value.split(","):
        meant = [card.id for card in cards if _is_meant(entry.strip(), card)]
        if not meant:
            break
        visible += meant
    reason = f"{VARIABLE}={value[:80]} hides it"
    return tuple(
        replace(device, excluded=device.excluded or reason)
        if device.vendor == "nvidia" and device.id not in visible
        else device
        for device in devices
    )


def _is_meant(entry: str, card: Device) -> bool:
    if entry.isascii() and entry.isdigit():
        return card.index == int(entry[:9])
    return entry.startswith(("GPU-", "MIG-")) and len(entry) > 4 and (card.uuid or "").startswith(entry)
