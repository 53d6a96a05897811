"""Memory that is short for a while: of one node, whose kernel then ends something; of this host, by 2 GiB at most."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

from tests.chaos.faults import Fault, Strike, World

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 2 << 30
SHARE = 0.25
"""Of what is free: this host is others' too."""
_PROGRAM = """\
import os, sys, time
with open(sys.argv[3], "w") as group:
    group.write("0")
block = bytearray(int(sys.argv[1]))
for at in range(0, len(block), 4096):
    block[at] = 1
time.sleep(float(sys.argv[2]))
"""


def _take(world: World, size: int, seconds: float, entrance: str) -> Callable[[], None]:
    """Starts the program; what is to be called to end it."""
    hog = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(size), str(seconds), entrance], stderr=subprocess.DEVNULL
    )
    world.host.owned.add(hog.pid)

    def mend() -> None:
        hog.kill()
        hog.wait()
        world.host.owned.discard(hog.pid)

    return mend


class Pressure(Fault):
    """A program takes memory for a few seconds."""

    @property
    def name(self) -> str:
        return "memory taken"

    def strike(self, world: World) -> Strike | None:
        seconds = world.some_seconds(3, 8)
        size = min(MOST_BYTES, int(psutil.virtual_memory().available * SHARE))
        mend = _take(world, size, seconds, "/dev/null")
        return Strike(f"took {size >> 20} MiB for {seconds:.0f} s", "", mend, seconds)


class OutOfMemory(Fault):
    """A program takes all the memory that a node has, until the kernel ends it or something else there."""

    @property
    def name(self) -> str:
        return "node out of memory"

    def impossible(self, world: World) -> str:
        return "" if world.cluster.nodes[0].memory.folder else "needs to make a memory cgroup: run as root"

    def strike(self, world: World) -> Strike | None:
        node, seconds = world.any_node(), world.some_seconds(3, 8)
        mend = _take(world, node.memory.limit_bytes, seconds, node.memory.entrance)
        return Strike(f"took the {node.memory.limit_bytes >> 20} MiB of {node.name}", node.name, mend, seconds)


FAULTS: list[Fault] = [Pressure(), OutOfMemory()]
