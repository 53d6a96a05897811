"""NVML's counters of one GPU while a model runs: memory of a process tree, energy, power, clocks, throttling."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from profiles import nvml
from profiles.counters.readings import GpuMemory, GpuState

if TYPE_CHECKING:
    from collections.abc import Collection

    from profiles.nvml import Refusal
    from profiles.types import Device

THROTTLE_BITS = {
    # nvmlClocksEventReason*, without those that are no throttling: idle, and clocks that somebody asked for.
    0x004: "power-cap",
    0x008: "hardware-slowdown",
    0x010: "sync-boost",
    0x020: "thermal-software",
    0x040: "thermal-hardware",
    0x080: "power-brake",
    0x200: "board-limit",
    0x400: "reliability",
}


TREE_S = 1.0


class NvidiaCounters:
    """The counters of one device, with an NVML session of its own."""

    def __init__(self, pynvml: Any, handle: Any, stack: ExitStack) -> None:
        self._pynvml = pynvml
        self._handle = handle
        self._stack = stack
        self._used: int | None = None
        self._pids: frozenset[int] = frozenset()
        self._tree: tuple[int | None, str | None] = (None, None)
        self._tree_due_s = 0.0

    @classmethod
    def open(cls, device: Device) -> Self:
        """Find the device by its UUID, else by its index.

        Raises:
            NvmlUnavailable: NVML is gone.
            LookupError: the device is.
        """
        with ExitStack() as stack:
            pynvml = stack.enter_context(nvml.session())
            handle, refusal = None, None
            if device.uuid is not None:
                handle, refusal = nvml.ask(pynvml.nvmlDeviceGetHandleByUUID, device.uuid)
            elif device.index is not None:
                handle, refusal = nvml.ask(pynvml.nvmlDeviceGetHandleByIndex, device.index)
            if handle is None:
                raise LookupError(f"NVML no longer has {device.name}: {refusal.text if refusal else 'no UUID'}")
            return cls(pynvml, handle, stack.pop_all())
        raise AssertionError  # unreachable: an ExitStack does not swallow errors

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """What the processes hold, and what the whole device does.

        The list of processes costs several times what the device's total does, so it is asked for anew when the total
        has moved, the tree has, or a second has passed: nothing is allocated without moving the total.
        """
        info, _ = nvml.ask(self._pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        used = None if info is None or info.total <= 0 or info.used > info.total else int(info.used)
        now, asked = time.monotonic(), frozenset(pids)
        if used is None or used != self._used or asked != self._pids or now >= self._tree_due_s:
            self._tree = self._ask_tree(asked) if asked else (None, None)
            self._used, self._pids, self._tree_due_s = used, asked, now + TREE_S
        tree, why = self._tree
        return GpuMemory(tree_bytes=tree, used_bytes=used, tree_refused=why, source="nvml")

    def _ask_tree(self, pids: Collection[int]) -> tuple[int | None, str | None]:
        holders, refusal = nvml.processes(self._pynvml, self._handle)
        if holders is None:
            return None, f"NVML lists no processes: {refusal.text if refusal else 'no answer'}"
        ours = {pid: held for pid, held in holders.items() if pid in pids}
        if not ours:
            return None, "NVML lists no process of the tree (a container, or nothing was allocated)"
        if any(held is None for held in ours.values()):
            return None, "NVML does not tell the memory of a process here"
        return sum(held for held in ours.values() if held is not None), None

    def state(self) -> GpuState:
        """Energy (a counter since the driver was loaded; Volta and later), power, clocks, temperature, throttling."""
        library, refused = self._pynvml, {}

        def figure(name: str, question: str, *arguments: Any) -> Any:
            value, refusal = nvml.ask(getattr(library, question, None), self._handle, *arguments)
            if refusal is not None:
                refused[name] = f"NVML: {_words(refusal)}"
            return value

        millijoules = figure("energy_j", "nvmlDeviceGetTotalEnergyConsumption")
        milliwatts = figure("power_w", "nvmlDeviceGetPowerUsage")
        core_mhz = figure("clock_core_hz", "nvmlDeviceGetClockInfo", library.NVML_CLOCK_SM)
        memory_mhz = figure("clock_memory_hz", "nvmlDeviceGetClockInfo", library.NVML_CLOCK_MEM)
        # Newer name first; older drivers and older bindings have only the other one.
        sensor = library.NVML_TEMPERATURE_GPU
        celsius = figure("temperature_c", "nvmlDeviceGetTemperatureV", sensor)
        if celsius is None:
            celsius = figure("temperature_c", "nvmlDeviceGetTemperature", sensor)
        bits = figure("throttle_reasons", "nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = figure("throttle_reasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuState(
            power_w=None if milliwatts is None else milliwatts / 1e3,
            energy_j=None if millijoules is None else millijoules / 1e3,
            clock_core_hz=None if core_mhz is None else core_mhz * 1e6,
            clock_memory_hz=None if memory_mhz is None else memory_mhz * 1e6,
            temperature_c=None if celsius is None else float(celsius),
            throttle_reasons=None if bits is None else tuple(word for bit, word in THROTTLE_BITS.items() if bits & bit),
            source="nvml",
            refused=refused,
        )

    def busy(self) -> bool | None:
        """Whether a kernel ran within the driver's last sampling period (a second at most)."""
        rates, _ = nvml.ask(getattr(self._pynvml, "nvmlDeviceGetUtilizationRates", None), self._handle)
        return None if rates is None else int(rates.gpu) > 0

    def close(self) -> None:
        """End the NVML session."""
        self._stack.close()


def _words(refusal: Refusal) -> str:
    return "the GPU is lost" if refusal.number == nvml.GPU_IS_LOST else refusal.text
