"""Linux's DRM subsystem as folders: the GPUs under ``/sys/class/drm``, and what each process holds of them.

Per-process memory is in ``/proc/PID/fdinfo`` of every open ``/dev/dri`` file (Documentation/gpu/drm-usage-stats.rst). A
process, or several that inherited the file, may have one client open many times: ``drm-client-id`` tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiles.probe.pci import hexadecimal
from profiles.types import DeviceProcess

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from profiles.probe.system import System

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MEMORY_KEY = re.compile(r"^drm-(resident|memory|total)-(\w+)$")


@dataclass(frozen=True, slots=True)
class DrmCard:
    """A GPU under ``/sys/class/drm``; ``folder`` is its ``device``, ``render_minor`` the number of its render node."""

    index: int
    folder: Path
    vendor: int
    device: int
    revision: int | None
    driver: str | None
    pci_id: str | None
    render_minor: int | None

    @property
    def pci_device_hex(self) -> str:
        """The PCI device id as four hexadecimal digits."""
        return f"{self.device:04x}"


def drm_cards(system: System, vendor: int) -> Iterator[DrmCard]:
    """The GPUs of a PCI vendor, in the order of their numbers."""
    cards = (path for path in system.entries("/sys/class/drm") if re.match(r"card\d+$", path.name))
    for path in sorted(cards, key=lambda path: int(path.name[4:])):
        folder = path / "device"
        device = hexadecimal(system.text(folder / "device"))
        if hexadecimal(system.text(folder / "vendor")) != vendor or device is None:
            continue
        uevent = dict(line.split("=", 1) for line in (system.text(folder / "uevent") or "").splitlines() if "=" in line)
        renders = [node.name for node in system.entries(folder / "drm") if re.match(r"renderD\d+$", node.name)]
        yield DrmCard(
            index=int(path.name[4:]),
            folder=folder,
            vendor=vendor,
            device=device,
            revision=hexadecimal(system.text(folder / "revision")),
            driver=uevent.get("DRIVER"),
            pci_id=uevent.get("PCI_SLOT_NAME"),
            render_minor=int(renders[0][7:]) if renders else None,
        )


@dataclass(slots=True)
class DrmClients:
    """What processes hold of one GPU, by memory region (``vram``, ``gtt``, ``vram0``, ``system0``).

    Which of a process's open files are GPU files is looked up once a second at most, since it means a walk over all of
    them; their fdinfo is read every time.
    """

    system: System
    pci_id: str
    _files: dict[int, list[Path]] = field(default_factory=dict)

    def refresh(self, pids: Collection[int]) -> None:
        """Look for the GPU files of these processes."""
        self._files = {pid: files for pid in pids if (files := self._gpu_files(pid))}

    def held_bytes(self, pids: Collection[int]) -> dict[str, int] | None:
        """Bytes by region that the processes hold, None where none of them has the GPU open."""
        clients: dict[str, dict[str, int]] = {}
        for pid in pids:
            for path in self._files.get(pid, ()):
                stats = _fdinfo(self.system.text(path) or "")
                if stats.get("drm-pdev") == self.pci_id and "drm-client-id" in stats:
                    clients[stats["drm-client-id"]] = _regions(stats)
        if not clients:
            return None
        held: dict[str, int] = {}
        for regions in clients.values():
            for region, size in regions.items():
                held[region] = held.get(region, 0) + size
        return held

    def _gpu_files(self, pid: int) -> list[Path]:
        folder = self.system.path(f"/proc/{pid}")
        found = []
        for link in self.system.entries(folder / "fd"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith(("/dev/dri/", "/dev/accel/")):
                found.append(folder / "fdinfo" / link.name)
        return found


def holders(system: System, pci_id: str | None) -> tuple[DeviceProcess, ...]:
    """The processes that have a GPU open and what they hold of it, as far as this user may see them."""
    if pci_id is None:
        return ()
    found = []
    clients = DrmClients(system, pci_id)
    for folder in system.entries("/proc"):
        if folder.name.isdecimal():
            pid = int(folder.name)
            clients.refresh([pid])
            held = clients.held_bytes([pid])
            if held is not None:
                found.append(DeviceProcess(pid, system.text(folder / "comm"), sum(held.values())))
    return tuple(found)


def _fdinfo(text: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _regions(stats: dict[str, str]) -> dict[str, int]:
    """Bytes by region. ``resident`` is what is really there; older kernels have only ``memory``, the same thing."""
    found: dict[str, dict[str, int]] = {}
    for key, value in stats.items():
        match = MEMORY_KEY.match(key)
        words = value.split()
        if match and words and words[0].isdecimal() and (words[1:2] or [""])[0] in UNITS:
            found.setdefault(match[2], {})[match[1]] = int(words[0]) * UNITS[(words[1:2] or [""])[0]]
    return {
        region: next(sizes[kind] for kind in ("resident", "memory", "total") if kind in sizes)
        for region, sizes in found.items()
    }
