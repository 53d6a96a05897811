"""Intel GPUs by the files of ``xe`` and ``i915``: Arc cards, and the graphics inside a processor.

Neither driver has a file for memory in every kernel. What there is: ``lmem_total_bytes`` (some i915), and the size of
the memory window on the PCI bus, which is at least the card's memory where the firmware opens it whole (resizable
BAR). The size of a product is known from the catalogue; how much of it is free is not, unless an engine tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.catalogue import Card, card_of_device, load_catalogue
from profiles.drm import DrmCard, drm_cards, holders
from profiles.probe.system import Found
from profiles.types import Device, Notice

if TYPE_CHECKING:
    from profiles.probe.system import System

PCI_VENDOR = 0x8086
DRIVERS = frozenset({"xe", "i915"})
MEMORY_BAR = 2
"""The PCI region through which the processor sees the card's memory."""


def probe_intel(system: System) -> Found:
    """Every Intel GPU with one of its drivers bound."""
    devices: list[Device] = []
    notices: list[Notice] = []
    cards = (card for card in drm_cards(system, PCI_VENDOR) if card.driver in DRIVERS)
    for number, card in enumerate(cards):
        device, notice = _device(system, card, f"intel-{number}")
        devices.append(device)
        notices.append(notice)
    return Found(tuple(devices), tuple(notices))


def _device(system: System, card: DrmCard, device_id: str) -> tuple[Device, Notice]:
    own = system.integer(card.folder / "drm" / f"card{card.index}" / "lmem_total_bytes")
    window = _window_bytes(system, card)
    product = _product(card, own, window)
    discrete = product is not None or bool(own)
    name = product.name if product is not None else f"Intel graphics {card.pci_device_hex}"
    kernel = system.text("/proc/sys/kernel/osrelease")
    device = Device(
        id=device_id,
        vendor="intel",
        name=name if name.startswith("Intel") else f"Intel {name}",
        kind="discrete" if discrete else "unified",
        memory_total_bytes=own or (product.memory_bytes if product is not None else None),
        memory_free_bytes=None,
        bandwidth_bytes_per_s=None if product is None else product.bandwidth_bytes_per_s,
        bandwidth_source=None if product is None else product.bandwidth_source,
        driver=f"{card.driver} (kernel {kernel})",
        pci_id=card.pci_id,
        index=card.index,
        vram_total_bytes=own,
        sysfs_path=str(card.folder),
        processes=holders(system, card.pci_id),
    )
    what = "how much of its memory is free" if discrete else "how much RAM it may take"
    message = (
        f"{device_id} ({device.name}): {card.driver} does not tell {what}; nothing is placed on it unless "
        f"an engine that lists it says so, or the override file does ([device.{device_id}] memory = ...)"
    )
    return device, Notice("intel-memory-unknown", message, device_id)


def _product(card: DrmCard, own: int | None, window: int | None) -> Card | None:
    """The catalogue's card of this PCI id; of several sizes, the one that the memory or its window allows."""
    named = [known for known in load_catalogue() if card.pci_device_hex in known.pci_ids]
    if len(named) == 1:
        return named[0]
    if own:
        return card_of_device("", own, pci_id=card.pci_device_hex)
    fitting = [known for known in named if window and known.memory_bytes and window == known.memory_bytes]
    return fitting[0] if len(fitting) == 1 else None


def _window_bytes(system: System, card: DrmCard) -> int | None:
    """The size of the memory window: line 2 of ``resource`` holds its first and last address."""
    lines = (system.text(card.folder / "resource") or "").splitlines()
    if len(lines) <= MEMORY_BAR:
        return None
    words = lines[MEMORY_BAR].split()
    try:
        first, last = int(words[0], 16), int(words[1], 16)
    except (IndexError, ValueError):
        return None
    return last - first + 1 if last > first else None
