"""Display controllers on the PCI bus, which are there whether or not a driver is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiles.probe.system import System

DISPLAY_CLASS = 0x03


def display_devices(system: System, vendor: int) -> list[str]:
    """PCI addresses (``0000:01:00.0``) of that vendor's display controllers."""
    found = []
    for folder in system.entries("/sys/bus/pci/devices"):
        has_vendor = hexadecimal(system.text(folder / "vendor")) == vendor
        pci_class = hexadecimal(system.text(folder / "class"))
        if has_vendor and pci_class is not None and pci_class >> 16 == DISPLAY_CLASS:
            found.append(folder.name)
    return found


def hexadecimal(text: str | None) -> int | None:
    """``0x10de`` as a number; None for anything else."""
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None
