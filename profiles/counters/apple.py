"""Memory that the GPU of an Apple chip holds, by ``ioreg``: the whole device's, since macOS tells no process's share.

Power, clocks and throttling need ``powermetrics``, which only root may run; they stay unknown.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from profiles.counters.readings import GpuMemory, GpuState
from profiles.probe.system import System

if TYPE_CHECKING:
    from collections.abc import Collection

IN_USE = re.compile(r'"In use system memory"=(\d+)')
ASK_S = 0.5
"""ioreg is a program to be started: too costly for every reading, so its last answer stands for half a second."""

STATE_FIGURES = ("power_w", "energy_j", "clock_core_hz", "clock_memory_hz", "temperature_c", "throttle_reasons")


class AppleCounters:
    """The counters of the one GPU of an Apple chip."""

    def __init__(self, system: System | None = None) -> None:
        self._system = system or System()
        self._due_s = 0.0
        self._used: int | None = None

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """What all processes together hold."""
        del pids
        now = time.monotonic()
        if now >= self._due_s:
            text = self._system.output(["ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"], timeout_s=3.0)
            match = IN_USE.search(text or "")
            self._used = int(match[1]) if match else None
            self._due_s = now + ASK_S
        return GpuMemory(
            used_bytes=self._used,
            tree_refused="macOS tells the GPU memory of no single process",
            source="ioreg IOAccelerator",
        )

    def state(self) -> GpuState:
        """Nothing, and why."""
        reason = "macOS tells it to root only (powermetrics)"
        return GpuState(source="ioreg", refused=dict.fromkeys(STATE_FIGURES, reason))

    def close(self) -> None:
        """Nothing is held open."""
