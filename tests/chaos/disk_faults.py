"""Disks that are full for a while: of the run folder, of a node's state, of its temporary files; bytes or inodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.chaos.faults import Fault, Strike, World

if TYPE_CHECKING:
    from tests.chaos.disks import Disk

Place = Literal["run folder", "state folder", "temporary folder"]


@dataclass(frozen=True, slots=True)
class Full(Fault):
    """No bytes, or no inodes, are left on a disk for a while."""

    place: Place
    inodes: bool

    @property
    def name(self) -> str:
        return f"{self.place}: no {'inodes' if self.inodes else 'bytes'}"

    def impossible(self, world: World) -> str:
        return "" if world.sweep.disk.can_be_full else "needs to mount a tmpfs: run as root"

    def strike(self, world: World) -> Strike | None:
        node = None if self.place == "run folder" else world.any_node()
        disk: Disk = world.sweep.disk
        if node is not None:
            disk = node.state_disk if self.place == "state folder" else node.temporary_disk
        seconds = world.some_seconds(3, 15)
        if disk.is_full:
            return None
        if self.inodes:
            disk.fill_inodes()
            left = ""
        else:
            pages = world.random.choice((0, 1, 3))
            disk.fill(pages_left=pages)
            left = f", {pages} pages left"
        where = node.name if node else ""
        return Strike(f"filled {self.place} {where} for {seconds:.0f} s{left}", where, disk.clear, seconds)


FAULTS: list[Fault] = [
    Full("run folder", inodes=False),
    Full("run folder", inodes=True),
    Full("state folder", inodes=False),
    Full("state folder", inodes=True),
    Full("temporary folder", inodes=False),
    Full("temporary folder", inodes=True),
]
