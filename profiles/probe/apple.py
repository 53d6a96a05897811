"""Apple silicon: unified memory by ``sysctl``, and how much of it the GPU may wire down (Metal's working set).

The limit is ``iogpu.wired_limit_mb`` where somebody set it, else what Metal itself recommends for the device. A machine
that tells neither keeps None: the share of RAM differs between models and versions of macOS.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from profiles.catalogue import card_of_device
from profiles.probe.system import Found
from profiles.types import Device, Notice

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiles.probe.host import Memory
    from profiles.probe.system import System

MIB = 1 << 20


def probe_apple(system: System, ram: Memory, *, working_set: Callable[[], int | None] | None = None) -> Found:
    """The GPU of an Apple chip; nothing on an Intel Mac or another system.

    Args:
        system: where ``sysctl`` is looked up.
        ram: what the CPU probe found; the GPU takes from the same.
        working_set: asks Metal; None asks this machine's.
    """
    chip = _sysctl(system, "machdep.cpu.brand_string")
    if system.platform != "darwin" or chip is None or not chip.startswith("Apple"):
        return Found()
    memory = _integer(_sysctl(system, "hw.memsize"))
    limit = _integer(_sysctl(system, "iogpu.wired_limit_mb"))
    source = "iogpu.wired_limit_mb"
    total = limit * MIB if limit else None
    if total is None:
        total, source = (working_set or metal_working_set_bytes)(), "Metal's recommended working set"
    notices: list[Notice] = []
    if total is None:
        message = (
            "apple-0: neither sysctl nor Metal tells how much memory the GPU may use; nothing is placed on it unless "
            "an engine that lists it says so, or the override file does ([device.apple-0] memory = ...)"
        )
        notices.append(Notice("apple-working-set-unknown", message, "apple-0"))
    product = card_of_device(chip, memory)
    if product is None:
        notices.append(Notice("bandwidth-unknown", f"apple-0: the catalogue has no {chip} of this size", "apple-0"))
    free = None if total is None or ram.free_bytes is None else min(total, ram.free_bytes)
    device = Device(
        id="apple-0",
        vendor="apple",
        name=chip,
        kind="unified",
        memory_total_bytes=total,
        memory_free_bytes=free,
        bandwidth_bytes_per_s=None if product is None else product.bandwidth_bytes_per_s,
        bandwidth_source=None if product is None else product.bandwidth_source,
        driver=None if total is None else f"Metal ({source})",
    )
    return Found((device,), tuple(notices))


def metal_working_set_bytes() -> int | None:
    """``recommendedMaxWorkingSetSize`` of the default Metal device, through the Objective-C runtime."""
    try:
        ctypes.CDLL("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics")
        metal = ctypes.CDLL("/System/Library/Frameworks/Metal.framework/Metal")
        runtime = ctypes.CDLL("/usr/lib/libobjc.A.dylib")
    except OSError:
        return None
    metal.MTLCreateSystemDefaultDevice.restype = ctypes.c_void_p
    runtime.sel_registerName.restype = ctypes.c_void_p
    runtime.sel_registerName.argtypes = [ctypes.c_char_p]
    runtime.objc_msgSend.restype = ctypes.c_uint64
    runtime.objc_msgSend.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    device = metal.MTLCreateSystemDefaultDevice()
    if not device:
        return None
    return int(runtime.objc_msgSend(device, runtime.sel_registerName(b"recommendedMaxWorkingSetSize"))) or None


def _sysctl(system: System, name: str) -> str | None:
    return system.output(["sysctl", "-n", name], timeout_s=3.0) or None


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
