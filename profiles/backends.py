"""The backends of llama.cpp: which one is behind a device's name (`CUDA0`), whose GPUs it drives, how it hides them."""

from __future__ import annotations

import re
from typing import Final

BACKEND_OF_PREFIX: Final = {
    "cuda": "cuda",
    "rocm": "rocm",
    "hip": "rocm",
    "vulkan": "vulkan",
    "metal": "metal",
    "mtl": "metal",
    "sycl": "sycl",
    "musa": "musa",
    "cann": "cann",
    "gpuopencl": "opencl",
    "opencl": "opencl",
    "cpu": "cpu",
}
"""The letters of a device's name in lower case to its backend. What is not here (BLAS, RPC, an NPU) is no GPU of ours:
BLAS computes on the CPU, RPC on another machine."""

PREFERENCE: Final = {
    "nvidia": ("cuda", "vulkan", "sycl", "opencl"),
    "amd": ("rocm", "vulkan", "sycl", "opencl"),
    "intel": ("sycl", "vulkan", "opencl"),
    "apple": ("metal", "vulkan"),
    "unknown": ("musa", "cann", "vulkan", "sycl", "opencl"),
}
"""The backends that can drive a vendor's GPUs. A build with two of them lists a card twice; the first is taken."""

ONLY_VENDOR: Final = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}
"""Backends whose every device is of one vendor, whatever its description says."""

HIDES: Final = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}
"""The variable that hides all devices of a backend where it is -1. These backends take memory on every GPU they see."""

BY_UUID: Final = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES"}
"""The variable that takes the UUID of a device (of an instance, with MIG) and leaves that one alone."""

_NAME = re.compile(r"([A-Za-z]+)\d*$")


def backend_of_name(name: str) -> str | None:
    """The backend behind an engine's name of a device: `CUDA0`, `MTL0`, `CPU`; None for what is no GPU of ours."""
    found = _NAME.match(name)
    return None if found is None else BACKEND_OF_PREFIX.get(found[1].lower())
