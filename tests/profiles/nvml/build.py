"""Build the C library that plays NVML, and write the file that says what cards it shows.

By hand, to see what quantsweep makes of a machine with an RTX 5090 and a 16 GB card:

    eval "$(python tests/profiles/nvml/build.py /tmp/nvml rtx-5090 rtx-5060-ti)"
    quantsweep nodes
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30
MIB = 1 << 20

CARDS: dict[str, dict[str, Any]] = {
    "rtx-5090": {
        "name": "NVIDIA GeForce RTX 5090",
        "uuid": "GPU-5090aaaa-0000-4000-8000-000000000001",
        "pci": "00000000:01:00.0",
        "total": 32607 * MIB,
        "used": 512 * MIB,
        "capability": "12.0",
        "bus_bits": 512,
        "mem_mhz_max": 14001,
        "mem_mhz": 14001,
        "sm_mhz": 2407,
        "power_mw": 71500,
        "limit_mw": 575000,
        "energy_mj": 1_000_000,
        "celsius": 41,
        "throttle": "0x1",
    },
    "rtx-5060-ti": {
        "name": "NVIDIA GeForce RTX 5060 Ti",
        "uuid": "GPU-5060aaaa-0000-4000-8000-000000000002",
        "pci": "00000000:05:00.0",
        "total": 16311 * MIB,
        "used": 250 * MIB,
        "capability": "12.0",
        "bus_bits": 128,
        "mem_mhz_max": 14001,
        "mem_mhz": 14001,
        "sm_mhz": 2572,
        "power_mw": 12000,
        "limit_mw": 180000,
        "energy_mj": 500_000,
        "celsius": 36,
        "throttle": "0x1",
    },
    # DGX Spark: the GPU shares the machine's RAM, and NVML refuses to tell how much there is.
    "gb10": {
        "name": "NVIDIA GB10",
        "uuid": "GPU-6b10aaaa-0000-4000-8000-000000000003",
        "pci": "0000000F:01:00.0",
        "capability": "12.1",
        "sm_mhz": 2418,
        "power_mw": 11000,
        "celsius": 40,
    },
}


def compiler() -> str | None:
    """A C compiler, None where there is none."""
    return next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)


def build(folder: Path) -> Path:
    """Compile the library into ``folder`` under the name that the dynamic loader looks for, and return the folder.

    Raises:
        subprocess.CalledProcessError: the compiler refused it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "libnvidia-ml.so.1"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    command = [compiler() or "cc", *flags, f"-Wl,-soname,{name}", "-o", str(folder / name), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


def describe(cards: list[dict[str, Any]], **system: Any) -> str:
    """The text of the library's file for these cards, in this order."""
    lines = {"driver": "575.57.08", "cuda": 12090, "count": len(cards), **system}
    text = [f"{key}={value}" for key, value in lines.items()]
    text += [f"{index}.{key}={value}" for index, card in enumerate(cards) for key, value in card.items()]
    return "\n".join(text) + "\n"


def write(path: Path, cards: list[dict[str, Any]], **system: Any) -> Path:
    """Write the file in one step, so that a reader never meets half of it."""
    partial = path.with_suffix(".new")
    partial.write_text(describe(cards, **system))
    partial.replace(path)
    return path


def environment(library: Path, config: Path) -> dict[str, str]:
    """What to start a process with, so that its NVML is this one."""
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "QUANTSWEEP_FAKE_NVML": str(config)}


def main() -> None:
    """Build, describe the cards named on the command line, and print the environment in shell form."""
    folder, names = Path(sys.argv[1]), sys.argv[2:] or ["rtx-5090", "rtx-5060-ti"]
    config = write(build(folder) / "cards.conf", [CARDS[name] for name in names])
    print(f"export LD_LIBRARY_PATH={shlex.quote(str(folder))} QUANTSWEEP_FAKE_NVML={shlex.quote(str(config))}")


if __name__ == "__main__":
    main()
