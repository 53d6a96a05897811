"""The counters of a device, whatever its vendor: opened, and guarded against drivers that break."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiles.counters.readings import GpuMemory, GpuState

if TYPE_CHECKING:
    from collections.abc import Collection

    from profiles.counters.readings import GpuCounters
    from profiles.types import Device


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A device without counters: everything is None, for the reason given."""

    reason: str

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """Nothing, and why."""
        del pids
        return GpuMemory(tree_refused=self.reason)

    def state(self) -> GpuState:
        """Nothing, and why."""
        names = ("power_w", "energy_j", "clock_core_hz", "clock_memory_hz", "temperature_c", "throttle_reasons")
        return GpuState(refused=dict.fromkeys(names, self.reason))

    def close(self) -> None:
        """Nothing is held open."""


class Guarded:
    """Counters that may break in ways nobody thought of: from then on the device is unmeasured, and says why."""

    def __init__(self, device: Device, counters: GpuCounters) -> None:
        self._device = device
        self._counters = counters

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """What the counters say, or why they no longer do."""
        try:
            return self._counters.memory(pids)
        except Exception as error:  # the server that is being measured must not suffer
            return self._break(error).memory(pids)

    def state(self) -> GpuState:
        """What the counters say, or why they no longer do."""
        try:
            return self._counters.state()
        except Exception as error:  # likewise
            return self._break(error).state()

    def close(self) -> None:
        """Close the counters."""
        self._counters.close()

    def _break(self, error: Exception) -> Unmeasured:
        broken = Unmeasured(f"{self._device.id}: {type(error).__name__}: {error}")
        with contextlib.suppress(Exception):
            self._counters.close()
        self._counters = broken
        return broken


def open_counters(device: Device) -> GpuCounters:
    """The counters of a device; one that cannot be opened, or breaks, tells why in every reading."""
    try:
        counters = _counters(device)
    except Exception as error:  # a driver may fail in any way; measuring a model goes on without it
        return Unmeasured(f"{device.id}: {type(error).__name__}: {error}")
    if counters is None:
        return Unmeasured(f"{device.id}: no counters are known for {device.vendor} devices")
    return Guarded(device, counters)


def device_busy(device: Device) -> bool | None:
    """Whether anything computes on a GPU now; None where the driver does not tell. May hang with a driver that does."""
    if device.vendor == "nvidia":
        from profiles.counters.nvidia import NvidiaCounters

        try:
            counters = NvidiaCounters.open(device)
        except Exception:  # as in `open_counters`
            return None
        try:
            return counters.busy()
        finally:
            counters.close()
    if device.sysfs_path is not None:
        from profiles.probe.system import System

        percent = System().integer(Path(device.sysfs_path) / "gpu_busy_percent")  # amdgpu's
        return None if percent is None else percent > 0
    return None


def _counters(device: Device) -> GpuCounters | None:
    if device.vendor == "cpu":
        from profiles.counters.cpu import CpuCounters

        return CpuCounters()
    if device.vendor == "nvidia":
        from profiles.counters.nvidia import NvidiaCounters

        return NvidiaCounters.open(device)
    if device.vendor in {"amd", "intel"}:
        from profiles.counters.drm import DrmCounters

        return DrmCounters.open(device)
    if device.vendor == "apple":
        from profiles.counters.apple import AppleCounters

        return AppleCounters()
    return None
