"""NVIDIA GPUs by NVML: several, sliced (MIG), sharing the machine's RAM, lost while we look, and drivers that lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from profiles import nvml
from profiles.catalogue import card_of_device
from profiles.probe.pci import display_devices
from profiles.probe.system import Found
from profiles.types import Device, DeviceKind, DeviceProcess, Notice

if TYPE_CHECKING:
    from profiles.nvml import Refusal
    from profiles.probe.host import Memory
    from profiles.probe.system import System

PCI_VENDOR = 0x10DE

BANDWIDTH_TOLERANCE = 0.15
"""How far NVML's figure may lie from the catalogue's before it is worth a word; overclocked memory is within it."""

UNIFIED_CHIPS = ("GB10", "Thor", "Orin", "Xavier", "Tegra", "nvgpu")
"""Chips whose GPU lives in the machine's RAM: NVML refuses to tell their memory, and RAM is the answer."""


def probe_nvidia(system: System, ram: Memory) -> Found:
    """Every NVIDIA device, or the notice that says why there is none although the machine has a card."""
    try:
        with nvml.session() as pynvml:
            return _Probe(pynvml, ram).run()
    except nvml.NvmlUnavailable as error:
        cards = display_devices(system, PCI_VENDOR)
        if error.code == "nvml-missing" and not cards:
            return Found()  # No card and no driver: most machines. Nothing is wrong.
        where = f" (card at PCI {', '.join(cards)})" if cards else ""
        return Found(notices=(Notice(error.code, f"{error}{where}"),))


@dataclass(slots=True)
class _Probe:
    pynvml: Any
    ram: Memory

    def run(self) -> Found:
        driver, _ = nvml.ask(self.pynvml.nvmlSystemGetDriverVersion)
        count, refusal = nvml.ask(self.pynvml.nvmlDeviceGetCount)
        if count is None:
            return Found(
                notices=(Notice("nvml-failed", f"NVML does not say how many GPUs there are: {_why(refusal)}"),)
            )
        devices: list[Device] = []
        notices: list[Notice] = []
        for index in range(count):
            handle, refusal = nvml.ask(self.pynvml.nvmlDeviceGetHandleByIndex, index)
            if handle is None:
                notices.append(self._unreachable(f"nvidia-{index}", refusal))
                continue
            found = self._device(handle, index, driver)
            devices += found.devices
            notices += found.notices
        return Found(tuple(devices), tuple(notices))

    def _device(self, handle: Any, index: int, driver: str | None) -> Found:
        device = Device(id=f"nvidia-{index}", vendor="nvidia", name="NVIDIA GPU", kind="discrete", index=index)
        name, refusal = nvml.ask(self.pynvml.nvmlDeviceGetName, handle)
        if name is None and refusal is not None and refusal.number in nvml.GONE:
            return Found(notices=(self._unreachable(device.id, refusal),))
        uuid, _ = nvml.ask(self.pynvml.nvmlDeviceGetUUID, handle)
        pci, _ = nvml.ask(self.pynvml.nvmlDeviceGetPciInfo, handle)
        capability, _ = nvml.ask(self.pynvml.nvmlDeviceGetCudaComputeCapability, handle)
        limit_mw, _ = nvml.ask(self.pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        bandwidth = self._bandwidth(handle)
        device = replace(
            device,
            name=name or device.name,
            driver=driver,
            uuid=uuid,
            pci_id=None if pci is None else _pci_id(pci.busId),
            compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
            power_limit_w=None if not limit_mw else limit_mw / 1000,
            bandwidth_bytes_per_s=bandwidth,
            bandwidth_source=None if bandwidth is None else "nvml: memory clock x bus width",
        )
        mode, _ = nvml.ask(self.pynvml.nvmlDeviceGetMigMode, handle)
        if mode is not None and mode[0] == 1:
            return self._slices(handle, device)
        found = self._with_memory(handle, device)
        checked, notices = _checked_bandwidth(found.devices[0])
        return Found((checked,), (*found.notices, *notices))

    def _slices(self, parent: Any, whole: Device) -> Found:
        """The MIG instances of a GPU. The GPU itself cannot run anything while it is sliced, so it is not listed."""
        count, _ = nvml.ask(self.pynvml.nvmlDeviceGetMaxMigDeviceCount, parent)
        devices: list[Device] = []
        notices: list[Notice] = []
        for number in range(count or 0):
            handle, _ = nvml.ask(self.pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, number)
            if handle is None:
                continue  # NVML numbers the places, not the instances: most places are empty
            name, _ = nvml.ask(self.pynvml.nvmlDeviceGetName, handle)
            uuid, _ = nvml.ask(self.pynvml.nvmlDeviceGetUUID, handle)
            part = replace(
                whole,
                id=f"{whole.id}-mig-{number}",
                name=name or f"{whole.name} MIG {number}",
                uuid=uuid,
                bandwidth_bytes_per_s=None,
                bandwidth_source=None,
            )
            found = self._with_memory(handle, part)
            devices += found.devices
            message = f"{part.id} ({part.name}): the bandwidth of a MIG instance is not told"
            notices += (*found.notices, Notice("bandwidth-unknown", message, part.id))
        if not devices:
            message = f"{whole.id} ({whole.name}) is in MIG mode without an instance: create one with `nvidia-smi mig`"
            notices.append(Notice("nvml-mig-empty", message, whole.id))
        return Found(tuple(devices), tuple(notices))

    def _with_memory(self, handle: Any, device: Device) -> Found:
        memory, refusal = nvml.ask(self.pynvml.nvmlDeviceGetMemoryInfo, handle)
        holders, _ = nvml.processes(self.pynvml, handle)
        kind: DeviceKind = "unified" if _is_unified(device.name) else "discrete"
        device = replace(device, kind=kind, processes=_named(holders or {}))
        if memory is None and refusal is not None and refusal.number in nvml.GONE:
            return Found((device,), (self._unreachable(device.id, refusal),))
        if memory is None and kind == "unified" and refusal is not None and refusal.number == nvml.NOT_SUPPORTED:
            total, free = self.ram.total_bytes, self.ram.free_bytes
            return Found((replace(device, memory_total_bytes=total, memory_free_bytes=free),))
        if memory is None:
            message = f"{device.id} ({device.name}) does not tell its memory: {_why(refusal)}; nothing is placed on it"
            return Found((device,), (Notice("nvml-memory-unknown", message, device.id),))
        if not _plausible(memory.total, memory.free, memory.used):
            message = (
                f"{device.id} ({device.name}) reports {memory.total} bytes in all, {memory.used} used and "
                f"{memory.free} free, which cannot be; nothing is placed on it"
            )
            return Found((device,), (Notice("nvml-memory-implausible", message, device.id),))
        return Found((replace(device, memory_total_bytes=memory.total, memory_free_bytes=memory.free),))

    def _bandwidth(self, handle: Any) -> float | None:
        """Bytes per second: two transfers a clock, as NVML counts its memory clock, times the width of the bus.

        Agrees with the vendor's pages from Pascal to Blackwell (RTX 4090: 10501 MHz x 2 x 384 bit = 1008 GB/s).
        """
        mhz, _ = nvml.ask(self.pynvml.nvmlDeviceGetMaxClockInfo, handle, self.pynvml.NVML_CLOCK_MEM)
        bits, _ = nvml.ask(self.pynvml.nvmlDeviceGetMemoryBusWidth, handle)
        return mhz * 1e6 * 2 * bits / 8 if mhz and bits else None

    def _unreachable(self, device_id: str, refusal: Refusal | None) -> Notice:
        number = None if refusal is None else refusal.number
        if number == nvml.GPU_IS_LOST:
            message = f"{device_id} fell off the bus (`dmesg | grep -i xid` tells more): reboot, check power and seat"
            return Notice("nvml-gpu-lost", message, device_id)
        if number == nvml.RESET_REQUIRED:
            return Notice("nvml-reset-required", f"{device_id} asks for a reset: `nvidia-smi --gpu-reset`", device_id)
        if number == nvml.NO_PERMISSION:
            return Notice("nvml-no-permission", f"{device_id}: {nvml.CURES[nvml.NO_PERMISSION][1]}", device_id)
        return Notice("nvml-device-failed", f"{device_id} cannot be opened: {_why(refusal)}", device_id)


def _checked_bandwidth(device: Device) -> tuple[Device, tuple[Notice, ...]]:
    """Held against the catalogue, and taken from it where NVML does not tell."""
    card = card_of_device(device.name, device.memory_total_bytes)
    told = device.bandwidth_bytes_per_s
    if card is None:
        if told is not None:
            return device, ()
        message = f"{device.id} ({device.name}): neither NVML nor the catalogue tells its bandwidth"
        return device, (Notice("bandwidth-unknown", message, device.id),)
    listed = card.bandwidth_bytes_per_s
    if told is None:
        return replace(device, bandwidth_bytes_per_s=listed, bandwidth_source=card.bandwidth_source), ()
    if abs(told / listed - 1) <= BANDWIDTH_TOLERANCE or card.bandwidth_is_maximum:
        return device, ()
    message = (
        f"{device.id} ({device.name}): NVML's clock and bus give {told / 1e9:.0f} GB/s, the catalogue "
        f"{listed / 1e9:.0f}; overclocked, or one of them is wrong"
    )
    return device, (Notice("bandwidth-disagrees", message, device.id),)


def _plausible(total: int, free: int, used: int) -> bool:
    return total > 0 and 0 <= free <= total and 0 <= used <= total


def _is_unified(name: str) -> bool:
    return any(chip.lower() in name.lower() for chip in UNIFIED_CHIPS)


def _pci_id(bus_id: bytes | str) -> str:
    """NVML's ``00000000:01:00.0`` in the kernel's spelling, ``0000:01:00.0``."""
    text = bus_id.decode(errors="replace") if isinstance(bus_id, bytes) else bus_id
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _named(holders: dict[int, int | None]) -> tuple[DeviceProcess, ...]:
    import psutil

    named = []
    for pid, held in sorted(holders.items()):
        try:
            name = psutil.Process(pid).name()
        except psutil.Error:
            name = None  # gone meanwhile, or a pid of the host seen from inside a container
        named.append(DeviceProcess(pid, name, held))
    return tuple(named)


def _why(refusal: Refusal | None) -> str:
    return "no answer" if refusal is None else refusal.text
