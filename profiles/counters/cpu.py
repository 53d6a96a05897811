"""Energy, clocks, temperature and throttling of the processor, from Linux's powercap, cpufreq and hwmon folders.

Energy is the whole package's (RAPL): everything that ran on it is in it. Kernels since 5.10 let only root read it
(CVE-2020-8694). The folder is called ``intel-rapl`` on AMD machines as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiles.counters.readings import GpuMemory, GpuState
from profiles.probe.system import System

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

SENSORS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
PACKAGE = re.compile(r"^intel-rapl:\d+$")


class CpuCounters:
    """The counters of all processor packages of a machine."""

    def __init__(self, system: System | None = None) -> None:
        self._system = system or System()
        folders = self._system.entries("/sys/class/powercap")
        self._packages = [_Package(self._system, path) for path in folders if PACKAGE.match(path.name)]
        self._throttled_before = self._throttle_count()

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """Nothing: the memory of a CPU is RAM, which is measured on its own."""
        del pids
        return GpuMemory(tree_refused="the CPU has no memory of its own")

    def state(self) -> GpuState:
        """Energy of all packages, mean clock, hottest sensor, and whether the packages throttled since the start."""
        refused = {
            "power_w": "the processor gives energy, not power",
            "clock_memory_hz": "the kernel does not tell the memory's clock",
        }
        energy = self._energy_j(refused)
        clock = self._clock_hz()
        if clock is None:
            refused["clock_core_hz"] = "no cpufreq in this kernel (a virtual machine?)"
        temperature = self._temperature_c()
        if temperature is None:
            refused["temperature_c"] = f"no sensor of {', '.join(sorted(SENSORS))}"
        count = self._throttle_count()
        throttle: tuple[str, ...] | None = None
        if count is None or self._throttled_before is None:
            refused["throttle_reasons"] = "the processor does not count throttling"
        else:
            throttle = ("thermal",) if count > self._throttled_before else ()
        return GpuState(
            energy_j=energy,
            clock_core_hz=clock,
            temperature_c=temperature,
            throttle_reasons=throttle,
            source="the whole CPU (sysfs)",
            refused=refused,
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _energy_j(self, refused: dict[str, str]) -> float | None:
        if not self._packages:
            refused["energy_j"] = "no RAPL energy counter in this kernel (a virtual machine?)"
            return None
        joules = [package.energy_j() for package in self._packages]
        if any(value is None for value in joules):
            refused["energy_j"] = "RAPL energy counters are readable by root only"
            return None
        return sum(value for value in joules if value is not None)

    def _clock_hz(self) -> float | None:
        folders = self._system.entries("/sys/devices/system/cpu/cpufreq")
        clocks = [khz for path in folders if (khz := self._system.integer(path / "scaling_cur_freq")) is not None]
        return 1000.0 * sum(clocks) / len(clocks) if clocks else None

    def _temperature_c(self) -> float | None:
        readings = []
        for folder in self._system.entries("/sys/class/hwmon"):
            if self._system.text(folder / "name") in SENSORS:
                inputs = (path for path in self._system.entries(folder) if re.match(r"temp\d+_input$", path.name))
                readings += [milli for path in inputs if (milli := self._system.integer(path)) is not None]
        return max(readings) / 1000 if readings else None

    def _throttle_count(self) -> int | None:
        cpus = (path for path in self._system.entries("/sys/devices/system/cpu") if re.match(r"cpu\d+$", path.name))
        name = "thermal_throttle/package_throttle_count"
        counts = [count for path in cpus if (count := self._system.integer(path / name)) is not None]
        return sum(counts) if counts else None


class _Package:
    """One RAPL domain. Its counter wraps around after some hours, at ``max_energy_range_uj``."""

    def __init__(self, system: System, folder: Path) -> None:
        self._system = system
        self._folder = folder
        self._range_uj = system.integer(folder / "max_energy_range_uj") or 0
        self._before_uj: int | None = None
        self._wrapped_uj = 0

    def energy_j(self) -> float | None:
        """Joules since some point in the past, None where the file may not be read."""
        now = self._system.integer(self._folder / "energy_uj")
        if now is None:
            return None
        if self._before_uj is not None and now < self._before_uj:
            self._wrapped_uj += self._range_uj
        self._before_uj = now
        return (self._wrapped_uj + now) / 1e6
