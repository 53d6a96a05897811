"""AMD GPUs by the files of the ``amdgpu`` driver: cards with memory of their own, and APUs that live in RAM.

An APU's memory is a small carve-out (VRAM) and the part of the machine's RAM that it may map (GTT); models go to both.
Whether a GPU is an APU is told by the driver itself, in the header of ``gpu_metrics``: format 1 is for cards, 2 and 3
for APUs (drivers/gpu/drm/amd/include/kgd_pp_interface.h).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiles.catalogue import card_of_device
from profiles.drm import DrmCard, drm_cards, holders
from profiles.probe.system import Found
from profiles.types import Device, DeviceKind, Notice

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.probe.host import Memory
    from profiles.probe.system import System

PCI_VENDOR = 0x1002
APU_FORMATS = frozenset({2, 3})
NAME_TABLES = ("/usr/share/libdrm/amdgpu.ids", "/opt/amdgpu/share/libdrm/amdgpu.ids")


def probe_amd(system: System, ram: Memory) -> Found:
    """Every AMD GPU that has a driver bound."""
    devices: list[Device] = []
    notices: list[Notice] = []
    for number, card in enumerate(drm_cards(system, PCI_VENDOR)):
        found = _device(system, card, f"amd-{number}", ram)
        devices += found.devices
        notices += found.notices
    return Found(tuple(devices), tuple(notices))


def _device(system: System, card: DrmCard, device_id: str, ram: Memory) -> Found:
    notices: list[Notice] = []

    def notice(code: str, message: str) -> None:
        notices.append(Notice(code, f"{device_id}: {message}", device_id))

    name = _name(system, card)
    if name is None:
        name = f"AMD GPU {card.pci_device_hex}"
        notice("amd-name-unknown", f"libdrm's list has no name for PCI device {card.pci_device_hex}; update libdrm")
    vram_total, vram_used = (system.integer(card.folder / f"mem_info_vram_{what}") for what in ("total", "used"))
    gtt_total, gtt_used = (system.integer(card.folder / f"mem_info_gtt_{what}") for what in ("total", "used"))
    if vram_total is not None and vram_used is not None and not 0 <= vram_used <= vram_total:
        message = f"reports {vram_used} of {vram_total} bytes of VRAM used; nothing is placed on it"
        notice("amd-memory-implausible", message)
        vram_total = vram_used = None
    elif not vram_total:
        driver = card.driver or "no driver"
        notice("amd-memory-unknown", f"{driver} does not tell its memory; nothing is placed on it")
        vram_total = None
    is_apu = _is_apu(card.folder)
    if is_apu is None:
        known = card_of_device(name, None)
        is_apu = known.kind == "unified" if known is not None else None
    if is_apu is None:
        notice("amd-kind-unknown", "is it a card or an APU? Only its VRAM is counted")
    kind: DeviceKind = "unified" if is_apu else "discrete"
    total, free = vram_total, None if vram_total is None or vram_used is None else vram_total - vram_used
    if is_apu and total is not None and free is not None and gtt_total is not None and gtt_used is not None:
        total += gtt_total
        free += max(0, min(gtt_total - gtt_used, ram.free_bytes or 0))
    product = card_of_device(name, vram_total if kind == "discrete" else None)
    if product is None:
        notice("bandwidth-unknown", f"the catalogue has no {name}; its bandwidth can be given in the override file")
    return Found(
        (
            Device(
                id=device_id,
                vendor="amd",
                name=name,
                kind=kind,
                memory_total_bytes=total,
                memory_free_bytes=free,
                bandwidth_bytes_per_s=None if product is None else product.bandwidth_bytes_per_s,
                bandwidth_source=None if product is None else product.bandwidth_source,
                driver=_driver(system, card),
                compute_capability=_gfx(system, card),
                pci_id=card.pci_id,
                uuid=_uuid(system, card),
                index=card.index,
                power_limit_w=_power_limit_w(system, card),
                vram_total_bytes=vram_total,
                gtt_total_bytes=gtt_total,
                sysfs_path=str(card.folder),
                processes=holders(system, card.pci_id),
            ),
        ),
        tuple(notices),
    )


def _is_apu(folder: Path) -> bool | None:
    """By the format revision, the third byte of the table; None where the driver has no such table."""
    try:
        with (folder / "gpu_metrics").open("rb") as file:
            header = file.read(4)
    except OSError:
        return None
    return header[2] in APU_FORMATS if len(header) == 4 else None


def _name(system: System, card: DrmCard) -> str | None:
    given = system.text(card.folder / "product_name")
    if given:
        return given
    revision = "" if card.revision is None else f"{card.revision:02x}"
    for table in NAME_TABLES:
        for line in (system.text(table) or "").splitlines():
            fields = [field.strip() for field in line.split(",", 2)]
            if len(fields) == 3 and [field.lower() for field in fields[:2]] == [card.pci_device_hex, revision]:
                return fields[2]
    return None


def _driver(system: System, card: DrmCard) -> str | None:
    if card.driver is None:
        return None
    version = system.text(f"/sys/module/{card.driver}/version")  # AMD's own package; the kernel's has none
    kernel = system.text("/proc/sys/kernel/osrelease")
    return f"{card.driver} {version or f'(kernel {kernel})'}"


def _uuid(system: System, card: DrmCard) -> str | None:
    """What ROCm knows the card by (``GPU-`` and sixteen hexadecimal digits); None where the driver has no number."""
    number = (system.text(card.folder / "unique_id") or "").lower()
    return f"GPU-{number}" if re.fullmatch(r"[0-9a-f]{16}", number) and number.strip("0") else None


def _gfx(system: System, card: DrmCard) -> str | None:
    """The instruction set (``gfx1151``) from the compute driver's topology; 110501 there is 11, 5 and 1 here."""
    for node in system.entries("/sys/class/kfd/kfd/topology/nodes"):
        pairs = (line.split() for line in (system.text(node / "properties") or "").splitlines())
        facts = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and re.match(r"^\d+$", pair[1])}
        version = facts.get("gfx_target_version", 0)
        if version and facts.get("drm_render_minor") == card.render_minor:
            return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    return None


def _power_limit_w(system: System, card: DrmCard) -> float | None:
    for sensor in system.entries(card.folder / "hwmon"):
        microwatts = system.integer(sensor / "power1_cap")
        if microwatts:
            return microwatts / 1e6
    return None
