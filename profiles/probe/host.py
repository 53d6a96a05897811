"""The machine itself: processor, cores, RAM, swap, disk room, and the power state that makes timings comparable."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.probe.cgroups import cpu_quota, memory_limit
from profiles.types import Device, Notice

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.probe.system import System

SLOW_GOVERNORS = frozenset({"powersave", "conservative"})
SLOW_PROFILES = frozenset({"low-power", "quiet", "cool"})
SELF_SCALING_DRIVERS = frozenset({"intel_pstate", "amd-pstate-epp"})
"""With these drivers in active mode ``powersave`` is the normal, dynamic governor: the preference below decides."""

SLOW_PREFERENCES = frozenset({"power", "balance_power"})


@dataclass(frozen=True, slots=True)
class Memory:
    """RAM and swap that this process may use; ``limit`` names the container's limit, None where the host decides."""

    total_bytes: int | None
    free_bytes: int | None
    limit: str | None
    swap_total_bytes: int | None
    swap_free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor; ``usable`` is what affinity and CPU quota leave of the logical cores."""

    model: str | None
    physical: int | None
    logical: int | None
    usable: float | None


@dataclass(frozen=True, slots=True)
class PowerState:
    """What the firmware and the kernel were told about saving power."""

    governor: str | None
    platform_profile: str | None
    notices: tuple[Notice, ...]


def memory(system: System) -> Memory:
    """RAM by psutil, cut down to the tightest cgroup limit. ``free`` is what can be had without swapping."""
    import psutil

    ram = psutil.virtual_memory()
    total, free, source = int(ram.total), int(ram.available), None
    limit = memory_limit(system)
    if limit is not None and limit.limit_bytes < total:
        total, source = limit.limit_bytes, limit.source
    if limit is not None and limit.free_bytes is not None:
        free = min(free, limit.free_bytes)
    swap = psutil.swap_memory()
    return Memory(total, min(free, total), source, int(swap.total), int(swap.free))


def processor(system: System) -> Processor:
    """Model, cores and what we may use of them."""
    import psutil

    logical = psutil.cpu_count(logical=True)
    usable = None if logical is None else float(logical)
    if hasattr(os, "sched_getaffinity"):
        usable = float(len(os.sched_getaffinity(0)))
    quota = cpu_quota(system)
    if quota is not None:
        usable = quota if usable is None else min(usable, quota)
    return Processor(_cpu_model(system), psutil.cpu_count(logical=False), logical, usable)


def cpu_device(cpu: Processor, ram: Memory, bandwidth_bytes_per_s: float | None) -> Device:
    """The CPU as a place for a model: its memory is the RAM that we may use; its bandwidth is measured or unknown."""
    return Device(
        id="cpu",
        vendor="cpu",
        name=cpu.model or platform.machine(),
        kind="cpu",
        memory_total_bytes=ram.total_bytes,
        memory_free_bytes=ram.free_bytes,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        bandwidth_source=None if bandwidth_bytes_per_s is None else "measured: all usable cores reading",
    )


def disk_free_bytes(folder: Path) -> int | None:
    """Room for an ordinary user where ``folder`` is or will be; None where no part of the path can be asked."""
    for candidate in (folder, *folder.absolute().parents):
        try:
            stats = os.statvfs(candidate)
        except OSError:
            continue
        return stats.f_bavail * stats.f_frsize
    return None


def power_state(system: System) -> PowerState:
    """Governor and platform profile, with a notice for each one that slows the machine down or varies between cores."""
    notices = []
    cpus = "/sys/devices/system/cpu"
    policies = [path for path in system.entries(f"{cpus}/cpufreq") if path.name.startswith("policy")]
    governors = sorted({text for path in policies if (text := system.text(path / "scaling_governor"))})
    drivers = {text for path in policies if (text := system.text(path / "scaling_driver"))}
    preferences = {text for path in policies if (text := system.text(path / "energy_performance_preference"))}
    governor = "+".join(governors) or None
    if governor is None:
        message = "this machine does not tell its CPU governor (a virtual machine?): its power state cannot be checked"
        notices.append(Notice("governor-unknown", message))
    if drivers and drivers <= SELF_SCALING_DRIVERS and preferences:
        # The governor's name alone says nothing here; what was asked of the firmware does.
        governor = f"{governor}/{'+'.join(sorted(preferences))}"
        slow = SLOW_PREFERENCES.intersection(preferences)
    else:
        slow = SLOW_GOVERNORS.intersection(governors)
    if slow:
        word = min(slow)
        message = (
            f"the CPU governor is {governor}: timings will not be comparable with those of a machine at full speed; "
            "`cpupower frequency-set -g performance` (as root) mends it"
        )
        notices.append(Notice(f"governor-{word}", message))
    profile = system.text("/sys/firmware/acpi/platform_profile") or None
    if profile in SLOW_PROFILES:
        message = (
            f"the platform profile is {profile}: timings will not be comparable; "
            "`powerprofilesctl set performance` mends it"
        )
        notices.append(Notice(f"platform-profile-{profile}", message))
    return PowerState(governor, profile, tuple(notices))


def _cpu_model(system: System) -> str | None:
    if system.platform == "darwin":
        return system.output(["sysctl", "-n", "machdep.cpu.brand_string"]) or None
    fields: dict[str, str] = {}
    for line in (system.text("/proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), " ".join(value.split()))
    for key in ("model name", "Model", "Hardware", "cpu model"):  # x86; Raspberry Pi; older Arm; MIPS
        if fields.get(key):
            return fields[key]
    board = system.text("/sys/firmware/devicetree/base/model")
    return board.rstrip("\0") if board else None
