"""One window of a sampled server: readings go in, figures with their sources come out. Pure: no clock, no files."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from profiles.counters.cputime import foreign_share
from profiles.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiles.counters.cputime import CpuReading
    from profiles.counters.ram import ExactReading, RamReading
    from profiles.counters.readings import GpuMemory, GpuState
    from profiles.types import Device

MIN_ENERGY_S = 0.5
"""Energy counters tick every 20 to 100 ms, so that over less than this a difference is mostly noise."""

MIN_CPU_S = 0.2
"""CPU time is counted in ticks of 10 ms, so that over less than this a share of it is mostly noise."""

STATE_FIGURES = ("clock_core_hz", "clock_memory_hz", "temperature_c", "throttle_reasons")
ENERGY_FIGURES = ("energy_j", "mean_power_w", "idle_power_w")


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the devices held and drew before the server was started; keys are device ids."""

    used_bytes: Mapping[str, int] = field(default_factory=dict)
    used_gtt_bytes: Mapping[str, int] = field(default_factory=dict)
    power_w: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Figures:
    """Values on their way into :class:`Samples`, each with its source or its reason."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, source: str) -> None:
        """A figure that could be had."""
        self.values[name], self.sources[name] = value, source

    def lack(self, name: str, reason: str) -> None:
        """A figure that could not be had."""
        self.reasons[name] = reason


@dataclass(slots=True)
class Peak:
    """The highest of what was seen, None until something was."""

    value: int | None = None

    def see(self, value: int | None) -> None:
        """One reading; None is no reading."""
        if value is not None and (self.value is None or value > self.value):
            self.value = value


@dataclass(slots=True)
class DeviceWindow:
    """What one device told during the window."""

    device: Device
    tree: Peak = field(default_factory=Peak)
    used: Peak = field(default_factory=Peak)
    tree_gtt: Peak = field(default_factory=Peak)
    used_gtt: Peak = field(default_factory=Peak)
    memory_source: str = ""
    tree_refused: str = ""
    states: list[tuple[float, GpuState]] = field(default_factory=list)

    def memory(self, reading: GpuMemory) -> None:
        """One reading of memory. A share larger than the device itself is a lie of the driver's, and not believed."""
        total = self.device.memory_total_bytes
        if total is not None and reading.tree_bytes is not None and reading.tree_bytes > total:
            self.tree_refused = "the driver reports more memory for the process than the device has"
        else:
            self.tree.see(reading.tree_bytes)
            self.tree_refused = reading.tree_refused or self.tree_refused
        self.used.see(reading.used_bytes)
        self.tree_gtt.see(reading.tree_gtt_bytes)
        self.used_gtt.see(reading.used_gtt_bytes)
        self.memory_source = reading.source or self.memory_source

    def vram(self, baseline: Baseline | None) -> tuple[int | None, str]:
        """The peak with its source, or None with the reason."""
        return self._held(self.tree, self.used, None if baseline is None else baseline.used_bytes)

    def gtt(self, baseline: Baseline | None) -> tuple[int | None, str]:
        """Likewise for the machine's RAM that the GPU mapped."""
        return self._held(self.tree_gtt, self.used_gtt, None if baseline is None else baseline.used_gtt_bytes)

    def _held(self, tree: Peak, used: Peak, before: Mapping[str, int] | None) -> tuple[int | None, str]:
        if tree.value is not None:
            return tree.value, f"{self.memory_source}, the process tree"
        why = self.tree_refused or "the driver gives no memory per process"
        if used.value is None:
            return None, why
        if before is None or self.device.id not in before:
            return None, f"{why}, and there is no baseline from before the launch"
        held = max(0, used.value - before[self.device.id])
        return held, f"{self.memory_source}, the whole device minus its baseline ({why})"

    def energy(self) -> tuple[float | None, str]:
        """Joules over the window with their source, or None with the reason."""
        if len(self.states) < 2:
            return None, "the window was too short for two readings"
        (begin_s, first), (end_s, last) = self.states[0], self.states[-1]
        if end_s - begin_s < MIN_ENERGY_S:
            return None, f"the window was shorter than {MIN_ENERGY_S} s, too little for an energy counter"
        if first.energy_j is not None and last.energy_j is not None and last.energy_j >= first.energy_j:
            return last.energy_j - first.energy_j, f"{last.source} energy counter"
        joules, powers = 0.0, [(at, state.power_w) for at, state in self.states if state.power_w is not None]
        if len(powers) >= 2:
            for (at, watts), (later, watts_later) in itertools.pairwise(powers):
                joules += (later - at) * (watts + watts_later) / 2
            return joules, f"{last.source} power, integrated over {len(powers)} readings"
        return None, last.refused.get("energy_j") or last.refused.get("power_w") or "the driver gives neither"


class Window:
    """The readings of one load or one job, folded into peaks and means as they come."""

    def __init__(self, pid: int, devices: Sequence[Device], baseline: Baseline | None, began_s: float) -> None:
        self._pid = pid
        self._baseline = baseline
        self._began_s = began_s
        self._devices = {device.id: DeviceWindow(device) for device in devices}
        self._share = Peak()
        self._rss = Peak()
        self._anon = Peak()
        self._file = Peak()
        self._exact: ExactReading | None = None
        self._share_refused: str | None = None
        self._spike_bytes = 0
        self._readings = 0
        self._cpu_s = 0.0
        self._cpu_times: list[CpuReading | None] = []

    def successor(self, began_s: float) -> Window:
        """The window that begins where this one ends; the last proportional share still holds there."""
        window = Window(self._pid, [each.device for each in self._devices.values()], self._baseline, began_s)
        window._share_refused = self._share_refused
        if self._exact is not None:
            window.exact(self._exact)
        return window

    def count(self, cpu_s: float) -> None:
        """One round of readings that cost ``cpu_s`` seconds of CPU."""
        self._readings += 1
        self._cpu_s += cpu_s

    def cpu_times(self, reading: CpuReading | None) -> None:
        """The machine's CPU time, at the window's edges; None where it could not be read."""
        self._cpu_times = [*self._cpu_times[:1], reading]

    def ram(self, reading: RamReading | None) -> None:
        """A cheap reading of the tree; None when the tree is gone."""
        if reading is not None:
            self._share.see(reading.share_bytes)
            self._rss.see(reading.rss_bytes)

    def exact(self, reading: ExactReading | None) -> None:
        """An exact reading of the tree."""
        if reading is not None:
            self._exact = reading
            self._anon.see(reading.anon_bytes)
            self._file.see(reading.file_bytes)

    def share_refused(self, reason: str | None) -> None:
        """Why there is no proportional share; None when there is."""
        self._share_refused = reason

    def spike(self, missed_bytes: int) -> None:
        """How far the kernel's own peak lies above every reading of this window."""
        self._spike_bytes = missed_bytes

    def gpu_memory(self, device_id: str, reading: GpuMemory) -> None:
        """A reading of one device's memory."""
        self._devices[device_id].memory(reading)

    def gpu_state(self, device_id: str, now_s: float, state: GpuState) -> None:
        """A reading of one device's power, clocks and temperature."""
        self._devices[device_id].states.append((now_s, state))

    def samples(self, now_s: float) -> Samples:
        """The figures of the window so far."""
        figures = Figures()
        self._put_ram(figures)
        self._put_device_memory(figures)
        self._put_energy(figures)
        self._put_foreign_cpu(figures, now_s - self._began_s)
        for name in STATE_FIGURES:
            self._put_state(figures, name)
        return Samples(
            duration_s=now_s - self._began_s,
            samples=self._readings,
            overhead_cpu_s=self._cpu_s,
            sources=figures.sources,
            reasons=figures.reasons,
            **figures.values,
        )

    def _put_ram(self, figures: Figures) -> None:
        names = ("peak_ram_bytes", "peak_rss_bytes", "peak_pss_anon_bytes", "peak_pss_file_bytes")
        if self._rss.value is None or self._share.value is None:
            for name in names:
                figures.lack(name, f"process {self._pid} was not running, or may not be read")
            return
        spike = " + VmHWM" if self._spike_bytes else ""
        figures.put("peak_rss_bytes", self._rss.value + self._spike_bytes, f"RSS{spike}")
        if self._exact is None:
            why = self._share_refused or "smaps_rollup was never read"
            figures.put("peak_ram_bytes", self._rss.value + self._spike_bytes, f"RSS{spike} ({why})")
            figures.lack("peak_pss_anon_bytes", why)
            figures.lack("peak_pss_file_bytes", why)
            return
        figures.put("peak_ram_bytes", self._share.value + self._spike_bytes, f"PSS: smaps_rollup + statm{spike}")
        figures.put("peak_pss_anon_bytes", self._anon.value, "smaps_rollup Pss_Anon")
        figures.put("peak_pss_file_bytes", self._file.value, "smaps_rollup Pss_File + Pss_Shmem")

    def _put_device_memory(self, figures: Figures) -> None:
        gpus = [each for each in self._devices.values() if each.device.is_gpu]
        if not gpus:
            for name in ("peak_vram_bytes", "peak_gtt_bytes"):
                figures.lack(name, "no GPU was used: the model's memory is peak_ram_bytes")
            return
        _sum(figures, "peak_vram_bytes", [each.vram(self._baseline) for each in gpus])
        sharing = [each for each in gpus if each.device.gtt_total_bytes is not None]
        if sharing:
            _sum(figures, "peak_gtt_bytes", [each.gtt(self._baseline) for each in sharing])
        else:
            figures.lack("peak_gtt_bytes", "the driver maps no RAM as GTT")

    def _put_energy(self, figures: Figures) -> None:
        if not self._devices:
            for name in ENERGY_FIGURES:
                figures.lack(name, "no device was given")
            return
        idle = {} if self._baseline is None else self._baseline.power_w
        if self._devices.keys() <= idle.keys():
            watts = sum(idle[device_id] for device_id in self._devices)
            figures.put("idle_power_w", watts, "one reading before the launch")
        else:
            figures.lack("idle_power_w", "no power was read before the launch")
        _sum(figures, "energy_j", [each.energy() for each in self._devices.values()])
        joules = figures.values.get("energy_j")
        if joules is None:
            figures.lack("mean_power_w", figures.reasons["energy_j"])
            return
        spans = [each.states[-1][0] - each.states[0][0] for each in self._devices.values()]
        figures.put("mean_power_w", joules / max(spans), f"energy / time: {figures.sources['energy_j']}")

    def _put_foreign_cpu(self, figures: Figures, duration_s: float) -> None:
        name = "foreign_cpu_share"
        if duration_s < MIN_CPU_S:
            figures.lack(name, f"the window was shorter than {MIN_CPU_S} s, too little for the ticks of CPU time")
            return
        readings = [reading for reading in self._cpu_times if reading is not None]
        share = foreign_share(readings[0], readings[1]) if len(readings) == 2 else None
        if share is None:
            figures.lack(name, "the machine's CPU time, or that of the server, could not be read")
        else:
            figures.put(name, share, "CPU time of the machine less that of the server and its agent")

    def _put_state(self, figures: Figures, name: str) -> None:
        states = [state for each in self._devices.values() for _, state in each.states]
        seen = [value for state in states if (value := getattr(state, name)) is not None]
        if not seen:
            told = (state.refused[name] for state in states if name in state.refused)
            figures.lack(name, next(told, "the device does not tell" if states else "no device was read"))
            return
        source = " + ".join(dict.fromkeys(state.source for state in states if state.source))
        if name == "throttle_reasons":
            figures.put(name, tuple(sorted({reason for reasons in seen for reason in reasons})), source)
        elif name == "temperature_c":
            figures.put(name, max(seen), f"{source}, hottest of {len(seen)}")
        else:
            figures.put(name, sum(seen) / len(seen), f"{source}, mean of {len(seen)}")


def _sum(figures: Figures, name: str, parts: Sequence[tuple[Any, str]]) -> None:
    """A sum over devices: one that is missing makes it None, since a part is not the whole."""
    missing = [why for value, why in parts if value is None]
    if missing:
        figures.lack(name, "; ".join(dict.fromkeys(missing)))
        return
    figures.put(name, sum(value for value, _ in parts), "; ".join(dict.fromkeys(source for _, source in parts)))
