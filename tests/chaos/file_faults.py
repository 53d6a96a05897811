"""Files that are torn, changed or deleted: models, spooled rows, parts of the results, the tail of the journal."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.chaos.faults import Fault, Strike, World

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

Harm = Literal["torn", "changed", "deleted"]
TAIL_BYTES = 300
SPOOLED_S = 8.0


def harm(path: Path, how: Harm, random: Random, *, tail: int | None = None) -> str:
    """Tears, changes or deletes a file (within its last `tail` bytes, if given); says what was done."""
    if how == "deleted":
        path.unlink()
        return f"deleted {path.name}"
    size = path.stat().st_size
    at = random.randrange(max(0, size - tail) if tail else 0, size)
    with path.open("r+b") as file:
        if how == "torn":
            file.truncate(at)
            return f"cut {path.name} at {at} of {size}"
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ (1 << random.randrange(8))]))
    return f"changed byte {at} of {size} in {path.name}"


def kill_driver(world: World) -> None:
    """The driver is killed and waited for: files of a run are not touched while it writes them."""
    world.sweep.signal(signal.SIGCONT)
    world.sweep.signal(signal.SIGKILL)
    while world.sweep.running:
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class ModelFile(Fault):
    """A model file of one node is harmed, while it is served or before; it is put right after a while."""

    how: Harm

    @property
    def name(self) -> str:
        return f"model file {self.how}"

    def strike(self, world: World) -> Strike | None:
        node = world.any_node()
        path = world.random.choice(sorted(node.models.glob("*.gguf")))
        good = world.cluster.originals / path.name
        seconds = world.some_seconds(3, 15)

        def mend() -> None:
            fresh = path.with_suffix(".fresh")
            shutil.copyfile(good, fresh)
            os.replace(fresh, path)  # noqa: PTH105 - the name says that it is one step

        what = harm(path, self.how, world.random)
        return Strike(f"{what} on {node.name} for {seconds:.0f} s", node.name, mend, seconds)


@dataclass(frozen=True, slots=True)
class SpooledRow(Fault):
    """A row that waits on its node for the driver is harmed; the driver was stopped, and then killed."""

    how: Harm

    @property
    def name(self) -> str:
        return f"spooled row {self.how}"

    def strike(self, world: World) -> Strike | None:
        world.sweep.signal(signal.SIGSTOP)
        deadline = time.monotonic() + SPOOLED_S
        while not (found := self._rows(world)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not found:
            world.sweep.signal(signal.SIGCONT)
            return None
        kill_driver(world)
        world.host.left({"raylet", "gcs", "helper", "ray", "worker"}, 10)
        found = self._rows(world)
        if not found:
            return Strike("killed the driver; the row was gone")
        node, path = world.random.choice(found)
        return Strike(f"killed the driver, {harm(path, self.how, world.random)} on {node}", node)

    def _rows(self, world: World) -> list[tuple[str, Path]]:
        return [
            (node.name, path) for node in world.cluster.nodes for path in node.state_disk.folder.glob("spool/*/*.json")
        ]


@dataclass(frozen=True, slots=True)
class ResultsPart(Fault):
    """A file of committed results is harmed, after the driver was killed."""

    how: Harm

    @property
    def name(self) -> str:
        return f"results part {self.how}"

    def strike(self, world: World) -> Strike | None:
        if not list(world.sweep.run_folder.glob("attempts/**/*.parquet")):
            return None
        kill_driver(world)
        paths = sorted(world.sweep.run_folder.glob("attempts/**/*.parquet"))
        return Strike(f"killed the driver, {harm(world.random.choice(paths), self.how, world.random)}")


@dataclass(frozen=True, slots=True)
class JournalTail(Fault):
    """The end of the journal is harmed, or all of it is deleted, after the driver was killed."""

    how: Harm

    @property
    def name(self) -> str:
        return "journal deleted" if self.how == "deleted" else f"journal's tail {self.how}"

    def strike(self, world: World) -> Strike | None:
        path = world.sweep.journal
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size:
                kill_driver(world)
                return Strike(f"killed the driver, {harm(path, self.how, world.random, tail=TAIL_BYTES)}")
        return None


_HARMS: tuple[Harm, ...] = ("torn", "changed", "deleted")
FAULTS: list[Fault] = [
    *(ModelFile(how) for how in _HARMS),
    *(SpooledRow(how) for how in _HARMS),
    *(ResultsPart(how) for how in _HARMS),
    *(JournalTail(how) for how in _HARMS),
]
