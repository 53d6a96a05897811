"""The environment of the programs that we start: what they need to run, and none of the secrets that ours may hold.

An engine parses files of strangers. Ours holds what downloads and clusters need (HF_TOKEN, RAY_AUTH_TOKEN ...) and what
its owner put there for others (OPENAI_API_KEY ...), so nothing is passed on that is not on this list, and nothing on
it that is named like a secret. docs/spec.md tells it; `pass_on` in machine.toml adds to it.
"""

from __future__ import annotations

import os
import re
from typing import Final

NAMES: Final = frozenset(
    {
        # Where programs, libraries, caches and temporary files are. Without HOME a driver keeps no cache of compiled
        # kernels, and some builds of llama.cpp crash.
        *("PATH", "HOME", "TMPDIR", "TMP", "TEMP"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "XDG_DATA_HOME"),
        # Language and time.
        *("LANG", "LANGUAGE", "TZ"),
        # Which Python and which packages: the embedded engine is one.
        *("PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONUTF8"),
        # GPUs, as their vendors have it.
        *("GPU_DEVICE_ORDINAL", "GPU_MAX_HW_QUEUES", "AMD_LOG_LEVEL", "AMD_SERIALIZE_KERNEL", "AMD_VULKAN_ICD"),
        *("NEOReadDebugKeys", "OCL_ICD_VENDORS", "DRI_PRIME"),
    }
)
PREFIXES: Final = (
    *("LC_", "QUANTSWEEP_"),
    # Backends of llama.cpp, and the drivers and libraries below them.
    *("GGML_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "ROCBLAS_", "HSA_", "VK_", "MESA_", "RADV_"),
    *("ANV_", "SYCL_", "ONEAPI_", "ZE_", "ZES_", "UR_", "IGC_", "MTL_", "METAL_", "MUSA_", "ASCEND_", "KOMPUTE_"),
    # Threads.
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "VECLIB_"),
)
_SECRET: Final = re.compile(r"KEY|TOKEN|SECRET|PASS(WORD|WD|PHRASE)|CREDENTIAL|AUTH", re.IGNORECASE)


def may_pass(name: str) -> bool:
    """Whether a program of ours may see the variable: NVIDIA_VISIBLE_DEVICES, and not NVIDIA_API_KEY."""
    return name in NAMES or (name.startswith(PREFIXES) and not _SECRET.search(name))


def engine_environment(**more: str) -> dict[str, str]:
    """The environment of an engine, to be asked or to serve: GPUs numbered as NVML and the PCI bus number them.

    Intel's driver tells how much of a card's memory is free only where ZES_ENABLE_SYSMAN is set.
    """
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "ZES_ENABLE_SYSMAN": "1", **child_environment(), **more}


def child_environment(**more: str) -> dict[str, str]:
    """The whole environment of a program that is started here, `more` of it included.

    Raises:
        OverrideError: machine.toml, which may name further variables, is not valid.
    """
    from profiles.override import load_override

    named = load_override().pass_on
    return {name: value for name, value in os.environ.items() if may_pass(name) or name in named} | more
