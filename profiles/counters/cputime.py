"""CPU time: what the whole machine has spent so far, and how much of it a server and its watcher did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_IDLE = ("idle", "iowait")
_COUNTED_TWICE = ("guest", "guest_nice")
"""Part of `user` and `nice` already."""


@dataclass(frozen=True, slots=True)
class CpuReading:
    """Seconds of CPU time since the machine was started, summed over its CPUs.

    ``busy_s``: spent on anything, interrupts and what a hypervisor took for others included; ``total_s``: that and
    idle time; ``own_s``: of the processes asked about, and of this one.
    """

    busy_s: float
    total_s: float
    own_s: float


def read_cpu(pids: Iterable[int]) -> CpuReading | None:
    """The machine's CPU time and that of ``pids`` and this process; None where one of them cannot be read."""
    import psutil

    try:
        times = psutil.cpu_times()._asdict()
        own = time.process_time()
        for pid in pids:
            spent = psutil.Process(pid).cpu_times()
            own += spent.user + spent.system
    except (psutil.Error, OSError, ValueError):
        return None
    total = sum(seconds for name, seconds in times.items() if name not in _COUNTED_TWICE)
    return CpuReading(total - sum(times.get(name, 0.0) for name in _IDLE), total, own)


def foreign_share(first: CpuReading, last: CpuReading) -> float | None:
    """The share of the machine's CPU time between two readings that others took, 0 to 1; None where no time passed."""
    total = last.total_s - first.total_s
    if total <= 0:
        return None
    others = (last.busy_s - first.busy_s) - (last.own_s - first.own_s)
    return min(max(others / total, 0.0), 1.0)
