"""Counters of AMD and Intel GPUs while a model runs: fdinfo of the process tree, the driver's sysfs and hwmon files."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from profiles.counters.readings import GpuMemory, GpuState
from profiles.drm import DrmClients
from profiles.probe.system import System

if TYPE_CHECKING:
    from collections.abc import Collection

    from profiles.types import Device

CLIENTS_S = 1.0
"""How often the tree's open GPU files are looked for anew."""

# Regions by driver: amdgpu has vram and gtt; xe vram0, gtt and system; i915 local0 and system0.
ON_BOARD = re.compile(r"^(vram|local)\d*$")
IN_RAM = re.compile(r"^(gtt|system)\d*$")

CORE_CLOCK_FILES = ("tile0/gt0/freq0/act_freq", "../gt/gt0/rps_act_freq_mhz", "../gt_act_freq_mhz")
"""Where xe and i915 tell the real clock in MHz; amdgpu has it in hwmon."""

THROTTLE_FOLDERS = (("tile0/gt0/freq0/throttle", "reason_"), ("../gt/gt0", "throttle_reason_"))


class DrmCounters:
    """The counters of one GPU whose driver is a folder of files."""

    def __init__(self, folder: Path, pci_id: str | None, system: System | None = None) -> None:
        self._system = system or System()
        self._folder = folder
        self._clients = None if pci_id is None else DrmClients(self._system, pci_id)
        self._clients_due_s = 0.0
        self._hwmon = next(iter(self._system.entries(folder / "hwmon")), None)

    @classmethod
    def open(cls, device: Device) -> DrmCounters:
        """The counters of a probed device.

        Raises:
            LookupError: its folder is gone: the driver was unloaded, or the card is.
        """
        if device.sysfs_path is None or not Path(device.sysfs_path).is_dir():
            raise LookupError(f"{device.sysfs_path or 'its sysfs folder'} is not there any more")
        return cls(Path(device.sysfs_path), device.pci_id)

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """What the processes hold by fdinfo, and what the whole device does where the driver tells."""
        held = self._held(pids)
        why = None if held is not None else "no process of the tree has the GPU open, or its fdinfo may not be read"
        return GpuMemory(
            tree_bytes=_sum(held, ON_BOARD),
            used_bytes=self._system.integer(self._folder / "mem_info_vram_used"),
            tree_gtt_bytes=_sum(held, IN_RAM),
            used_gtt_bytes=self._system.integer(self._folder / "mem_info_gtt_used"),
            tree_refused=why,
            source="drm fdinfo" if held is not None else "sysfs mem_info",
        )

    def _held(self, pids: Collection[int]) -> dict[str, int] | None:
        if self._clients is None or not pids:
            return None
        now = time.monotonic()
        if now >= self._clients_due_s:
            self._clients.refresh(pids)
            self._clients_due_s = now + CLIENTS_S
        return self._clients.held_bytes(pids)

    def state(self) -> GpuState:
        """Power, clocks, temperature and throttling from hwmon and the driver's own files."""
        microwatts = self._sensor("power1_average", "power1_input")
        microjoules = self._sensor("energy1_input")
        core_hz = self._sensor("freq1_input")
        memory_hz = self._sensor("freq2_input")
        if core_hz is None:
            mhz = next((mhz for name in CORE_CLOCK_FILES if (mhz := self._number(name)) is not None), None)
            core_hz = None if mhz is None else mhz * 1_000_000
        temperature = self._temperature_c()
        throttle = self._throttle()
        figures = {
            "power_w": microwatts,
            "energy_j": microjoules,
            "clock_core_hz": core_hz,
            "clock_memory_hz": memory_hz,
            "temperature_c": temperature,
            "throttle_reasons": throttle,
        }
        return GpuState(
            power_w=None if microwatts is None else microwatts / 1e6,
            energy_j=None if microjoules is None else microjoules / 1e6,
            clock_core_hz=None if core_hz is None else float(core_hz),
            clock_memory_hz=None if memory_hz is None else float(memory_hz),
            temperature_c=temperature,
            throttle_reasons=throttle,
            source="sysfs",
            refused={name: "the driver has no such file here" for name, value in figures.items() if value is None},
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _number(self, name: str) -> int | None:
        return self._system.integer(self._folder / name)

    def _sensor(self, *names: str) -> int | None:
        if self._hwmon is None:
            return None
        readings = (self._system.integer(self._hwmon / name) for name in names)
        return next((reading for reading in readings if reading is not None), None)

    def _temperature_c(self) -> float | None:
        """The hottest of the card's own sensors (edge, junction, memory)."""
        if self._hwmon is None:
            return None
        inputs = (path for path in self._system.entries(self._hwmon) if re.match(r"temp\d+_input$", path.name))
        readings = [milli for path in inputs if (milli := self._system.integer(path)) is not None]
        return max(readings) / 1000 if readings else None

    def _throttle(self) -> tuple[str, ...] | None:
        for folder, prefix in THROTTLE_FOLDERS:
            files = [path for path in self._system.entries(self._folder / folder) if path.name.startswith(prefix)]
            if files:
                active = (path.name.removeprefix(prefix) for path in files if self._system.integer(path) == 1)
                return tuple(name for name in active if name != "status")
        return None


def _sum(held: dict[str, int] | None, region: re.Pattern[str]) -> int | None:
    if held is None:
        return None
    return sum(size for name, size in held.items() if region.match(name))
