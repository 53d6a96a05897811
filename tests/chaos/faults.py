"""What a fault is, what it may touch, and the table of all of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.chaos.cluster import Cluster, Node
    from tests.chaos.host import Host
    from tests.chaos.sweep import Sweep

LONGEST_S = 30.0
"""How long a process is stopped, or a disk full, at most."""


@dataclass(slots=True)
class World:
    """What faults can touch: the processes of this host that are ours, a cluster, and the sweep that runs on it."""

    host: Host
    cluster: Cluster
    sweep: Sweep
    random: Random
    longest_s: float = LONGEST_S

    def any_node(self) -> Node:
        """A node by chance."""
        return self.random.choice(self.cluster.nodes)

    def some_seconds(self, least: float = 2.0, most: float = LONGEST_S) -> float:
        """A time by chance, not above the longest of this run."""
        return min(self.longest_s, self.random.uniform(least, most))


@dataclass(slots=True)
class Strike:
    """A fault that was done. `mend` is to be called `mend_after_s` seconds later, or before a stopped sweep goes on."""

    what: str
    node: str = ""
    mend: Callable[[], None] | None = None
    mend_after_s: float = 0.0
    name: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    at_s: float = field(default_factory=time.monotonic)


class Fault(ABC):
    """One kind of fault."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its row in the report."""

    def impossible(self, _world: World) -> str:
        """Why it cannot be done on this machine at all; empty if it can."""
        return ""

    @abstractmethod
    def strike(self, world: World) -> Strike | None:
        """Does it; None where nothing was there to be struck in this moment."""


def all_faults() -> list[Fault]:
    """Every fault there is, in the order of the report."""
    from tests.chaos import disk_faults, file_faults, memory_faults, process_faults

    return [*process_faults.FAULTS, *disk_faults.FAULTS, *file_faults.FAULTS, *memory_faults.FAULTS]
