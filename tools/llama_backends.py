"""Backends of llama.cpp that can be built here: what each asks CMake for, and what it needs of this machine.

Looked for before anything is fetched: a build that lacks a compiler is told in a second, with the package to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a backend cannot be built without.

    Attributes:
        name: as a person knows it.
        programs: any of these programs will do.
        headers: any of these files below a folder of headers will do.
        install: what to do about it.
    """

    name: str
    install: str
    programs: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """`flags` for CMake; `system` is the only one that it is for (as `sys.platform`), "" for any."""

    flags: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    system: str = ""


_NVCC: Final = Need(
    "nvcc, the compiler of the CUDA toolkit",
    "NVIDIA's package cuda-toolkit (https://developer.nvidia.com/cuda-downloads), or apt-get install "
    "nvidia-cuda-toolkit; a card of 2025 or later needs CUDA 12.8 or newer",
    programs=("nvcc", "/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc"),
)
_CUBLAS: Final = Need(
    "cuBLAS with its headers",
    "NVIDIA's package libcublas-dev-<version of CUDA>, or apt-get install nvidia-cuda-toolkit",
    headers=("cublas_v2.h",),
)
_GLSLC: Final = Need(
    "glslc, the compiler of shaders",
    "apt-get install glslc (Debian 12, Ubuntu 24.04), dnf install glslc, brew install shaderc, or LunarG's SDK",
    programs=("glslc",),
)
_VULKAN: Final = Need(
    "Vulkan headers",
    "apt-get install libvulkan-dev, dnf install vulkan-headers vulkan-loader-devel, or LunarG's SDK",
    headers=("vulkan/vulkan.h",),
)
_SPIRV: Final = Need(
    "SPIR-V headers",
    "apt-get install spirv-headers, dnf install spirv-headers-devel, or LunarG's SDK",
    headers=("spirv/unified1/spirv.hpp", "spirv-headers/spirv.hpp"),
)
_HIPCC: Final = Need(
    "hipcc, the compiler of ROCm",
    "AMD's rocm-hip-sdk (https://rocm.docs.amd.com), or apt-get install hipcc (Debian 13, Ubuntu 24.04)",
    programs=("hipcc", "/opt/rocm/bin/hipcc"),
)
_HIPBLAS: Final = Need(
    "hipBLAS and rocBLAS with their headers",
    "AMD's packages hipblas-dev rocblas-dev, or apt-get install libhipblas-dev librocblas-dev",
    headers=("hipblas/hipblas.h",),
)
_XCODE: Final = Need("Apple's command line tools", "xcode-select --install", programs=("xcrun",))

BACKENDS: Final[dict[str, Backend]] = {
    "cpu": Backend(("-DGGML_METAL=OFF",)),
    "cuda": Backend(("-DGGML_CUDA=ON",), (_NVCC, _CUBLAS)),
    "vulkan": Backend(("-DGGML_VULKAN=ON",), (_GLSLC, _VULKAN, _SPIRV)),
    "rocm": Backend(("-DGGML_HIP=ON",), (_HIPCC, _HIPBLAS), system="linux"),
    "metal": Backend(("-DGGML_METAL=ON", "-DGGML_METAL_EMBED_LIBRARY=ON"), (_XCODE,), system="darwin"),
}
_HEADERS: Final = ("/usr/include", "/usr/local/include", "/usr/local/cuda/include", "/opt/cuda/include")
_MORE_HEADERS: Final = ("/opt/rocm/include", "/opt/homebrew/include", "/usr/include/x86_64-linux-gnu")
_ROOTS: Final = ("CUDA_PATH", "CUDA_HOME", "ROCM_PATH", "VULKAN_SDK")


def lacking(backend: str, *, system: str = sys.platform) -> list[str]:
    """What this machine lacks for `backend`, a sentence each with the way out; none where it can be built."""
    wanted = BACKENDS[backend]
    if wanted.system and not system.startswith(wanted.system):
        return [f"{backend} is for {'macOS' if wanted.system == 'darwin' else 'Linux'} alone"]
    return [f"no {need.name}: {need.install}" for need in wanted.needs if not _is_here(need)]


def compilers(backend: str) -> dict[str, str]:
    """Variables that tell CMake of a compiler that it does not find by itself."""
    if backend == "rocm":
        hipconfig = shutil.which("hipconfig") or "/opt/rocm/bin/hipconfig"
        clang, root = (_said([hipconfig, flag]) for flag in ("-l", "-R"))
        return {"HIPCXX": f"{clang}/clang", "HIP_PATH": root} if clang and root else {}
    if backend == "cuda" and "CUDACXX" not in os.environ and shutil.which("nvcc") is None:
        found = next((path for path in _NVCC.programs if Path(path).is_file()), None)
        return {} if found is None else {"CUDACXX": found}
    return {}


def _said(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _is_here(need: Need) -> bool:
    roots = [os.environ[name] for name in _ROOTS if os.environ.get(name)]
    for program in need.programs:
        if shutil.which(program) or any(shutil.which(program, path=str(Path(root, "bin"))) for root in roots):
            return True
    folders = [*_HEADERS, *_MORE_HEADERS, *(str(Path(root, "include")) for root in roots)]
    return any(Path(folder, header).is_file() for folder in folders for header in need.headers)
