"""Processes that are killed, or stopped for a while: of the sweep, of its nodes, of the cluster; and whole machines."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.faults import Fault, Strike, World

if TYPE_CHECKING:
    from tests.chaos.host import Process

FLEETING_S = 8.0
"""How long to look out for a process that comes and goes, such as a grader."""


def _target(world: World, kind: str) -> Process | None:
    deadline = time.monotonic() + FLEETING_S
    while True:
        found = [process for process in world.host.find(kind) if kind == "driver" or world.cluster.node_of(process)]
        if found:
            return world.random.choice(found)
        if time.monotonic() > deadline or not world.sweep.running:
            return None
        time.sleep(0.02)


def _node_name(world: World, process: Process) -> str:
    node = world.cluster.node_of(process)
    return node.name if node else ""


@dataclass(frozen=True, slots=True)
class Killed(Fault):
    """One process of a kind is killed."""

    kind: str

    @property
    def name(self) -> str:
        return f"{self.kind} killed"

    def strike(self, world: World) -> Strike | None:
        process = _target(world, self.kind)
        if process is None:
            return None
        if self.kind == "driver":
            world.sweep.last.killed = True
        if not process.send(signal.SIGKILL):
            return None
        return Strike(f"killed {process.pid}: {process.words[:80]}", _node_name(world, process))


@dataclass(frozen=True, slots=True)
class Stopped(Fault):
    """One process of a kind is stopped for up to 30 seconds, and goes on then."""

    kind: str

    @property
    def name(self) -> str:
        return f"{self.kind} stopped"

    def strike(self, world: World) -> Strike | None:
        process = _target(world, self.kind)
        seconds = world.some_seconds()
        if process is None or not process.send(signal.SIGSTOP):
            return None
        what = f"stopped {process.pid} for {seconds:.0f} s: {process.words[:80]}"
        return Strike(what, _node_name(world, process), lambda: _go_on(process), seconds)


def _go_on(process: Process) -> None:
    process.send(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Asked(Fault):
    """The driver is asked to end by a signal."""

    number: signal.Signals

    @property
    def name(self) -> str:
        return f"driver gets {self.number.name}"

    def strike(self, world: World) -> Strike | None:
        if not world.sweep.running:
            return None
        world.sweep.signal(self.number)
        return Strike(f"sent {self.number.name} to {world.sweep.last.process.pid}")


@dataclass(frozen=True, slots=True)
class PowerCut(Fault):
    """Everything on a node is gone at once."""

    @property
    def name(self) -> str:
        return "machine lost"

    def strike(self, world: World) -> Strike | None:
        node = world.any_node()
        world.cluster.cut_power(node)
        return Strike(f"cut the power of {node.name}", node.name)


FAULTS: list[Fault] = [
    *(
        Killed(kind)
        for kind in ("agent", "engine", "supervisor", "grader", "probe", "worker", "raylet", "helper", "gcs", "driver")
    ),
    *(Stopped(kind) for kind in ("agent", "engine", "supervisor", "grader", "worker", "raylet", "gcs", "driver")),
    *(Asked(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
    PowerCut(),
]
