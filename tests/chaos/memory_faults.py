"""Memory that is short for a while: a program beside the sweep takes up to 2 GiB of this host, never more."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import psutil

from tests.chaos.faults import Fault, Strike, World

MOST_BYTES = 2 << 30
SHARE = 0.25
"""Of what is free: this host is others' too."""
_PROGRAM = """\
import sys, time
block = bytearray(int(sys.argv[1]))
for at in range(0, len(block), 4096):
    block[at] = 1
time.sleep(float(sys.argv[2]))
"""


@dataclass(frozen=True, slots=True)
class Pressure(Fault):
    """A program takes memory for a few seconds."""

    @property
    def name(self) -> str:
        return "memory taken"

    def strike(self, world: World) -> Strike | None:
        seconds = world.some_seconds(3, 8)
        size = min(MOST_BYTES, int(psutil.virtual_memory().available * SHARE))
        hog = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(size), str(seconds)])
        world.host.owned.add(hog.pid)

        def mend() -> None:
            hog.kill()
            hog.wait()
            world.host.owned.discard(hog.pid)

        return Strike(f"took {size >> 20} MiB for {seconds:.0f} s", "", mend, seconds)


FAULTS: list[Fault] = [Pressure()]
