"""Machines as their drivers tell of them, what llama.cpp's builds list there, and which name is right for which card.

The listings are written as the backends write them: CUDA and HIP give the driver's name of the product, Vulkan the
device name of Mesa or of NVIDIA's driver, SYCL and Metal that of Intel and Apple (ggml-cuda, ggml-vulkan, ggml-sycl,
ggml-metal and common/arg.cpp of llama.cpp 0.3.36). ``python -m tests.profiles.machines`` prints the table of matches.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from profiles.matching import match_devices
from profiles.probe.engines import listed_devices
from profiles.types import Device, EngineDevice

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    """``expected``: device id to the name that goes into --device, and a word of the reason; None: no match."""

    title: str
    devices: tuple[Device, ...]
    listing: str
    expected: Mapping[str, tuple[str | None, str]]
    unsure: tuple[str, ...] = ()
    tells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name or by place in the list, what is known of an entry besides: uuid, pci_id."""

    def listed(self) -> tuple[EngineDevice, ...]:
        entries = listed_devices(f"Available devices:\n{self.listing}\n")
        return tuple(
            replace(each, **dict(self.tells.get(str(number), self.tells.get(each.name, {}))))
            for number, each in enumerate(entries)
        )


def nvidia(index: int, name: str, gib: float | None, **more: Any) -> Device:
    return _device("nvidia", index, f"NVIDIA {name}", gib, uuid=f"GPU-{index}", **more)


def amd(index: int, name: str, gib: float | None, **more: Any) -> Device:
    return _device("amd", index, name, gib, **more)


def intel(index: int, name: str, gib: float | None, **more: Any) -> Device:
    return _device("intel", index, name, gib, **more)


def _device(vendor: Any, index: int, name: str, gib: float | None, **more: Any) -> Device:
    total = None if gib is None else int(gib * GIB)
    facts = {"kind": "discrete", "pci_id": f"0000:{index + 1:02x}:00.0", "index": index, **more}
    return Device(f"{vendor}-{index}", vendor, name, memory_total_bytes=total, memory_free_bytes=total, **facts)


MACHINES = (
    Machine(
        "one NVIDIA card, CUDA",
        (nvidia(0, "GeForce RTX 5090", 31.8),),
        "  CUDA0: NVIDIA GeForce RTX 5090 (32109 MiB, 31592 MiB free)",
        {"nvidia-0": ("CUDA0", "name")},
    ),
    Machine(
        "two NVIDIA cards, each asked by its UUID",
        (nvidia(0, "GeForce RTX 5090", 31.8), nvidia(1, "GeForce RTX 5060 Ti", 15.9)),
        "  CUDA0: NVIDIA GeForce RTX 5090 (32109 MiB, 31592 MiB free)\n"
        "  CUDA0: NVIDIA GeForce RTX 5060 Ti (16311 MiB, 15900 MiB free)",
        {"nvidia-0": ("CUDA0", "UUID"), "nvidia-1": ("CUDA0", "UUID")},
        tells={"0": {"uuid": "GPU-0"}, "1": {"uuid": "GPU-1"}},
    ),
    Machine(
        "a 4070 Ti before a 4070: one name is in the other",
        (nvidia(0, "GeForce RTX 4070", 12), nvidia(1, "GeForce RTX 4070 Ti", 12)),
        "  CUDA0: NVIDIA GeForce RTX 4070 Ti (12281 MiB, 11900 MiB free)\n"
        "  CUDA1: NVIDIA GeForce RTX 4070 (12281 MiB, 11900 MiB free)",
        {"nvidia-0": ("CUDA1", "name"), "nvidia-1": ("CUDA0", "name")},
    ),
    Machine(
        "a 4070 beside a 4070 Ti of which CUDA shows only the Ti",
        (nvidia(0, "GeForce RTX 4070", 12), nvidia(1, "GeForce RTX 4070 Ti", 12)),
        "  CUDA0: NVIDIA GeForce RTX 4070 Ti (12281 MiB, 11900 MiB free)",
        {"nvidia-0": (None, "does not list"), "nvidia-1": ("CUDA0", "name")},
    ),
    Machine(
        "two equal NVIDIA cards, asked by UUID",
        (nvidia(0, "GeForce RTX 3090", 24), nvidia(1, "GeForce RTX 3090", 24)),
        "  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23800 MiB free)\n"
        "  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23800 MiB free)",
        {"nvidia-0": ("CUDA0", "UUID"), "nvidia-1": ("CUDA0", "UUID")},
        tells={"0": {"uuid": "GPU-1"}, "1": {"uuid": "GPU-0"}},
    ),
    Machine(
        "two equal NVIDIA cards, a program that takes no UUID: in the order of the PCI bus",
        (nvidia(0, "GeForce RTX 3090", 24), nvidia(1, "GeForce RTX 3090", 24)),
        "  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23800 MiB free)\n"
        "  CUDA1: NVIDIA GeForce RTX 3090 (24124 MiB, 23800 MiB free)",
        {"nvidia-0": ("CUDA0", "order"), "nvidia-1": ("CUDA1", "order")},
    ),
    Machine(
        "two equal NVIDIA cards of which the program lists one",
        (nvidia(0, "GeForce RTX 3090", 24), nvidia(1, "GeForce RTX 3090", 24)),
        "  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23800 MiB free)",
        {"nvidia-0": (None, "not known"), "nvidia-1": (None, "not known")},
    ),
    Machine(
        "CUDA_VISIBLE_DEVICES=1: the card that is hidden was left out before",
        (nvidia(0, "GeForce RTX 4090", 24, excluded="hidden"), nvidia(1, "GeForce RTX 3060", 12)),
        "  CUDA0: NVIDIA GeForce RTX 3060 (12036 MiB, 11900 MiB free)",
        {"nvidia-0": (None, "does not list"), "nvidia-1": ("CUDA0", "name")},
    ),
    Machine(
        "MIG: two instances of one GPU, asked by UUID",
        (
            replace(nvidia(0, "A100-SXM4-80GB MIG 3g.40gb", 39.5), id="nvidia-0-mig-0", uuid="MIG-a"),
            replace(nvidia(0, "A100-SXM4-80GB MIG 3g.40gb", 39.5), id="nvidia-0-mig-1", uuid="MIG-b"),
        ),
        "  CUDA0: NVIDIA A100-SXM4-80GB MIG 3g.40gb (40192 MiB, 40000 MiB free)\n"
        "  CUDA0: NVIDIA A100-SXM4-80GB MIG 3g.40gb (40192 MiB, 40000 MiB free)",
        {"nvidia-0-mig-0": ("CUDA0", "UUID"), "nvidia-0-mig-1": ("CUDA0", "UUID")},
        tells={"0": {"uuid": "MIG-a"}, "1": {"uuid": "MIG-b"}},
    ),
    Machine(
        "MIG, a program that was not asked by UUID: CUDA shows one instance of them",
        (
            replace(nvidia(0, "A100-SXM4-80GB MIG 3g.40gb", 39.5), id="nvidia-0-mig-0", uuid="MIG-a"),
            replace(nvidia(0, "A100-SXM4-80GB MIG 3g.40gb", 39.5), id="nvidia-0-mig-1", uuid="MIG-b"),
        ),
        "  CUDA0: NVIDIA A100-SXM4-80GB MIG 3g.40gb (40192 MiB, 40000 MiB free)",
        {"nvidia-0-mig-0": (None, "not known"), "nvidia-0-mig-1": (None, "not known")},
    ),
    Machine(
        "a whole GPU beside a sliced one",
        (
            nvidia(0, "A100-SXM4-80GB", 80),
            replace(nvidia(1, "A100-SXM4-80GB MIG 1g.10gb", 9.75), id="nvidia-1-mig-0", uuid="MIG-c"),
        ),
        "  CUDA0: NVIDIA A100-SXM4-80GB (81050 MiB, 80600 MiB free)\n"
        "  CUDA0: NVIDIA A100-SXM4-80GB MIG 1g.10gb (9856 MiB, 9800 MiB free)",
        {"nvidia-0": ("CUDA0", "UUID"), "nvidia-1-mig-0": ("CUDA0", "UUID")},
        tells={"0": {"uuid": "GPU-0"}, "1": {"uuid": "MIG-c"}},
    ),
    Machine(
        "DGX Spark: the GPU lives in the machine's RAM",
        (nvidia(0, "GB10", 119.7, kind="unified"),),
        "  CUDA0: NVIDIA GB10 (122566 MiB, 118000 MiB free)",
        {"nvidia-0": ("CUDA0", "name")},
    ),
    Machine(
        "Jetson: NVML and CUDA call it differently",
        (Device("nvidia-0", "nvidia", "Orin (nvgpu)", "unified", 61 * GIB, 50 * GIB, index=0),),
        "  CUDA0: Orin (62841 MiB, 55000 MiB free)",
        {"nvidia-0": ("CUDA0", "words")},
    ),
    Machine(
        "an NVIDIA card that a build with CUDA and Vulkan lists twice",
        (nvidia(0, "GeForce RTX 4090", 24),),
        "  CUDA0: NVIDIA GeForce RTX 4090 (24082 MiB, 23600 MiB free)\n"
        "  Vulkan0: NVIDIA GeForce RTX 4090 (24564 MiB, 23900 MiB free)",
        {"nvidia-0": ("CUDA0", "name")},
    ),
    Machine(
        "an NVIDIA card, Vulkan alone",
        (nvidia(0, "GeForce RTX 3060", 12),),
        "  Vulkan0: NVIDIA GeForce RTX 3060 (12288 MiB, 11700 MiB free)",
        {"nvidia-0": ("Vulkan0", "name")},
    ),
    Machine(
        "Intel graphics in the processor, listed first, beside an NVIDIA card, Vulkan",
        (nvidia(0, "GeForce RTX 4060 Laptop GPU", 8), intel(0, "Intel graphics 7d55", None, kind="unified")),
        "  Vulkan0: Intel(R) Arc(tm) Graphics (MTL) (15885 MiB, 14300 MiB free)\n"
        "  Vulkan1: NVIDIA GeForce RTX 4060 Laptop GPU (8188 MiB, 7400 MiB free)",
        {"nvidia-0": ("Vulkan1", "name"), "intel-0": ("Vulkan0", "only one")},
    ),
    Machine(
        "an AMD card beside an NVIDIA card, CUDA and Vulkan",
        (nvidia(0, "GeForce RTX 4090", 24), amd(0, "AMD Radeon RX 7900 XTX", 24, pci_id="0000:0a:00.0")),
        "  CUDA0: NVIDIA GeForce RTX 4090 (24082 MiB, 23600 MiB free)\n"
        "  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24100 MiB free)\n"
        "  Vulkan1: NVIDIA GeForce RTX 4090 (24564 MiB, 23900 MiB free)",
        {"nvidia-0": ("CUDA0", "name"), "amd-0": ("Vulkan0", "words")},
    ),
    Machine(
        "one AMD card, ROCm",
        (amd(0, "AMD Radeon RX 7900 XTX", 24),),
        "  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24500 MiB free)",
        {"amd-0": ("ROCm0", "name")},
    ),
    Machine(
        "one AMD card, Vulkan, whose name libdrm's table lacks",
        (amd(0, "AMD GPU 744c", 24),),
        "  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24100 MiB free)",
        {"amd-0": ("Vulkan0", "memory")},
    ),
    Machine(
        "an AMD card and graphics in the processor, both without a name: by their chips",
        (
            amd(0, "AMD GPU 7480", 8, compute_capability="gfx1102"),
            amd(1, "AMD GPU 164e", 16, kind="unified", compute_capability="gfx1036"),
        ),
        "  Vulkan0: AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO) (15900 MiB, 15000 MiB free)\n"
        "  Vulkan1: AMD Radeon RX 7600 (RADV NAVI33) (8176 MiB, 8000 MiB free)",
        {"amd-0": ("Vulkan1", "chip"), "amd-1": ("Vulkan0", "chip")},
    ),
    Machine(
        "a 7900 XT before a 7900 XTX, Vulkan",
        (amd(0, "AMD Radeon RX 7900 XTX", 24), amd(1, "AMD Radeon RX 7900 XT", 20)),
        "  Vulkan0: AMD Radeon RX 7900 XT (RADV NAVI31) (20464 MiB, 20000 MiB free)\n"
        "  Vulkan1: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24100 MiB free)",
        {"amd-0": ("Vulkan1", "words"), "amd-1": ("Vulkan0", "words")},
    ),
    Machine(
        "two equal AMD cards, ROCm: their order is assumed",
        (amd(0, "AMD Radeon RX 7900 XTX", 24), amd(1, "AMD Radeon RX 7900 XTX", 24)),
        "  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24500 MiB free)\n"
        "  ROCm1: AMD Radeon RX 7900 XTX (24560 MiB, 24500 MiB free)",
        {"amd-0": ("ROCm0", "assumed"), "amd-1": ("ROCm1", "assumed")},
        unsure=("amd-0", "amd-1"),
    ),
    Machine(
        "two equal AMD accelerators, asked by UUID",
        (amd(0, "AMD Instinct MI300X", 192, uuid="GPU-aa"), amd(1, "AMD Instinct MI300X", 192, uuid="GPU-bb")),
        "  ROCm0: AMD Instinct MI300X (196288 MiB, 196000 MiB free)\n"
        "  ROCm0: AMD Instinct MI300X (196288 MiB, 196000 MiB free)",
        {"amd-0": ("ROCm0", "UUID"), "amd-1": ("ROCm0", "UUID")},
        tells={"0": {"uuid": "GPU-bb"}, "1": {"uuid": "GPU-aa"}},
    ),
    Machine(
        "two equal AMD cards, an engine that tells PCI addresses, in the other order",
        (amd(0, "AMD Radeon RX 7900 XTX", 24), amd(1, "AMD Radeon RX 7900 XTX", 24)),
        "  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24500 MiB free)\n"
        "  Vulkan1: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24500 MiB free)",
        {"amd-0": ("Vulkan1", "PCI"), "amd-1": ("Vulkan0", "PCI")},
        tells={"0": {"pci_id": "0000:02:00.0"}, "1": {"pci_id": "0000:01:00.0"}},
    ),
    Machine(
        "an AMD APU with unified memory, Vulkan",
        (amd(0, "AMD Radeon 8060S", 110, kind="unified", compute_capability="gfx1151"),),
        "  Vulkan0: AMD Radeon Graphics (RADV GFX1151) (87722 MiB, 87000 MiB free)",
        {"amd-0": ("Vulkan0", "chip")},
    ),
    Machine(
        "the same, ROCm and Vulkan",
        (amd(0, "AMD Radeon 8060S", 110, kind="unified", compute_capability="gfx1151"),),
        "  ROCm0: Radeon 8060S Graphics (98304 MiB, 98000 MiB free)\n"
        "  Vulkan0: AMD Radeon Graphics (RADV GFX1151) (87722 MiB, 87000 MiB free)",
        {"amd-0": ("ROCm0", "words")},
    ),
    Machine(
        "an AMD card whose build of Vulkan lists cards alone, beside graphics in the processor",
        (amd(0, "AMD Radeon RX 6800 XT", 16), amd(1, "AMD Radeon Graphics", 15, kind="unified")),
        "  Vulkan0: AMD Radeon RX 6800 XT (RADV NAVI21) (16368 MiB, 15900 MiB free)",
        {"amd-0": ("Vulkan0", "words"), "amd-1": (None, "does not list")},
    ),
    Machine(
        "an Intel card, SYCL",
        (intel(0, "Intel Arc A770", 16),),
        "  SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)",
        {"intel-0": ("SYCL0", "words")},
    ),
    Machine(
        "an Intel card, Vulkan, and the graphics in the processor",
        (intel(0, "Intel Arc B580", 12), intel(1, "Intel graphics 4680", None, kind="unified")),
        "  Vulkan0: Intel(R) UHD Graphics 770 (ADL-S GT1) (23929 MiB, 20000 MiB free)\n"
        "  Vulkan1: Intel(R) Arc(tm) B580 Graphics (BMG G21) (12216 MiB, 11100 MiB free)",
        {"intel-0": ("Vulkan1", "words"), "intel-1": ("Vulkan0", "only one")},
    ),
    Machine(
        "two equal Intel cards, Vulkan: their order is assumed",
        (intel(0, "Intel Arc Pro B60", 24), intel(1, "Intel Arc Pro B60", 24)),
        "  Vulkan0: Intel(R) Arc(tm) Pro B60 Graphics (BMG G21) (24480 MiB, 24000 MiB free)\n"
        "  Vulkan1: Intel(R) Arc(tm) Pro B60 Graphics (BMG G21) (24480 MiB, 24000 MiB free)",
        {"intel-0": ("Vulkan0", "assumed"), "intel-1": ("Vulkan1", "assumed")},
        unsure=("intel-0", "intel-1"),
    ),
    Machine(
        "Apple silicon",
        (Device("apple-0", "apple", "Apple M4 Max", "unified", 96 * GIB, 90 * GIB),),
        "  BLAS: Accelerate (0 MiB, 0 MiB free)\n  MTL0: Apple M4 Max (98304 MiB, 98300 MiB free)",
        {"apple-0": ("MTL0", "name")},
    ),
    Machine(
        "Apple silicon, an older build",
        (Device("apple-0", "apple", "Apple M1 Pro", "unified", 11 * GIB, 10 * GIB),),
        "  Metal: Apple M1 Pro (10922 MiB, 10922 MiB free)",
        {"apple-0": ("Metal", "name")},
    ),
    Machine(
        "a build without a GPU backend",
        (nvidia(0, "GeForce RTX 5090", 31.8),),
        "  (none)",
        {"nvidia-0": (None, "lists no GPU")},
    ),
    Machine(
        "a card in another machine, by RPC, and BLAS: none of them is ours",
        (nvidia(0, "GeForce RTX 5090", 31.8),),
        "  BLAS: OpenBLAS (0 MiB, 0 MiB free)\n  RPC0: 192.0.2.7:50052 (32109 MiB, 31592 MiB free)",
        {"nvidia-0": (None, "lists no GPU")},
    ),
    Machine(
        "an external card that the driver does not tell of: it is not taken for the graphics inside",
        (amd(0, "AMD Radeon 780M", 30, kind="unified"),),
        "  Vulkan0: AMD Radeon RX 7600 (RADV NAVI33) (8176 MiB, 8000 MiB free)",
        {"amd-0": (None, "Vulkan0")},
    ),
)


def main() -> None:
    """Print the table of matches."""
    for machine in MACHINES:
        sys.stdout.write(f"{machine.title}\n")
        for match in match_devices(machine.devices, machine.listed()):
            name = next(device.name for device in machine.devices if device.id == match.device_id)
            variables = " ".join(match.visible)
            sys.stdout.write(f"  {match.device_id:16}{name:42}{match.name or '-':9}{match.how}  {variables}\n")


if __name__ == "__main__":
    main()
