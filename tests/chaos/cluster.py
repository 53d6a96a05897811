"""A Ray cluster of several nodes on this host, each as much a machine of its own as one host allows.

Every node has a state folder, a temporary folder, device locks and a cache of its own. Where this process is root it
also has a host name of its own, its own copy of the models (a bind mount in a mount namespace of its own) and small
disks that can be full.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.disks import Disk, can_mount
from tests.chaos.groups import MemoryGroup

if TYPE_CHECKING:
    from tests.chaos.host import Host, Process

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
STARTS = 4
REVIVE_AFTER_S = 2.0
STATE_BYTES, STATE_INODES = 8 << 20, 400
MEMORY_BYTES = 1 << 30
# More than programs may use: where there is less, nothing is graded.
TEMPORARY_BYTES, TEMPORARY_INODES = 128 << 20, 16_000


# What makes a process and all below it a machine of its own: name, models, shared memory, bound of its memory.
_MACHINE = """\
hostname "$1" && mount --bind "$2" "$3" && mount -t tmpfs none /dev/shm && echo 0 > "$4" && shift 4 && exec "$@"
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Node:
    """One raylet with what belongs to its machine. `starting` is the `ray start` that is under way."""

    name: str
    folder: Path
    state_disk: Disk
    temporary_disk: Disk
    models: Path
    memory: MemoryGroup
    environment: dict[str, str]
    is_head: bool = False
    starting: subprocess.Popen[str] | None = None
    began_s: float = 0.0
    due_s: float = 0.0

    @property
    def state(self) -> str:
        """What QUANTSWEEP_STATE is on this node: also the mark of its processes."""
        return str(self.state_disk.folder)


class Cluster:
    """Starts nodes, starts them again when they died, and ends exactly those processes."""

    def __init__(self, folder: Path, host: Host, *, nodes: int, models: Path, environment: dict[str, str]) -> None:
        self.folder, self.host, self.models = folder, host, models
        self.originals = folder / "originals"
        shutil.copytree(models, self.originals)
        self.has_names = can_mount()
        self.environment = environment
        self._port = free_port()
        self.nodes = [self._prepare(number) for number in range(nodes)]

    @property
    def address(self) -> str:
        """Of the head, for `quantsweep run --address`."""
        return f"127.0.0.1:{self._port}"

    @property
    def session_folder(self) -> Path:
        """Where Ray keeps its sockets and logs."""
        return self.folder / "ray"

    def node_of(self, process: Process) -> Node | None:
        """The node that a process runs on."""
        return next((node for node in self.nodes if node.state == process.state), None)

    def _prepare(self, number: int) -> Node:
        name = f"chaos-{'abcdefgh'[number]}"
        folder = self.folder / name
        folder.mkdir(parents=True)
        state = Disk(folder / "state", size_bytes=STATE_BYTES, inodes=STATE_INODES)
        temporary = Disk(folder / "tmp", size_bytes=TEMPORARY_BYTES, inodes=TEMPORARY_INODES)
        models = self.models
        if self.has_names:
            models = folder / "models"
            shutil.copytree(self.models, models)
        environment = {
            **self.environment,
            "QUANTSWEEP_STATE": str(state.folder),
            "QUANTSWEEP_LOCKS": str(folder / "locks"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(temporary.folder),
        }
        memory = MemoryGroup(f"{self.folder.name}-{name}", MEMORY_BYTES)
        return Node(name, folder, state, temporary, models, memory, environment, is_head=number == 0)

    # --- up and down ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts every node, one after the other: each takes some CPU seconds. Returns when all are up.

        Raises:
            RuntimeError: one did not start, also when tried again.
        """
        for node in self.nodes:
            for _ in range(STARTS):
                if node.starting is None:
                    self._launch(node)
                while node.starting is not None:
                    self._reap_starts()
                    time.sleep(0.1)
                if self.host.find("raylet", node.state):
                    break
                self.cut_power(node)
            else:
                raise RuntimeError(f"{node.name} did not start:\n{(node.folder / 'start.log').read_text()}")

    def begin(self) -> None:
        """Begins to start the head; `start` finishes that."""
        self._launch(self.nodes[0])

    def _launch(self, node: Node) -> None:
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats", "--num-cpus=1"]
        words += ["--num-gpus=0", f"--object-store-memory={80 << 20}", "--include-log-monitor=false"]
        if node.is_head:
            words += ["--head", f"--port={self._port}", f"--temp-dir={self.session_folder}"]
            words += ["--include-dashboard=false", f"--dashboard-port={free_port()}"]
        else:
            words += [f"--address={self.address}"]
        if self.has_names:
            own = ["sh", "-c", _MACHINE, "sh", node.name, str(node.models), str(self.models), node.memory.entrance]
            words = ["unshare", "--uts", "--mount", *own, *words]
        log = (node.folder / "start.log").open("w")
        with log:
            # A session of its own: a raylet that loses its head sends SIGTERM to its whole process group.
            node.starting = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
                env=node.environment,
                start_new_session=True,
            )
        node.began_s = time.monotonic()
        self.host.owned.add(node.starting.pid)

    def _reap_starts(self) -> None:
        for node in self.nodes:
            if node.starting is None or (node.starting.poll() is None and time.monotonic() - node.began_s < START_S):
                continue
            node.starting.kill()
            node.starting.wait()
            self.host.owned.discard(node.starting.pid)
            node.starting = None

    def tend(self, processes: list[Process], *, may_restart: bool) -> list[Node]:
        """Takes note of starts that ended, and starts nodes whose raylet died again, a moment later.

        A cluster whose GCS died is started anew as a whole, once `may_restart` says that no driver uses it.
        Returns the nodes that are being started.
        """
        self._reap_starts()
        now = time.monotonic()
        if any(node.starting is not None and node.is_head for node in self.nodes):
            return []
        has_gcs = any(process.kind == "gcs" for process in processes)
        if not has_gcs:
            if not may_restart:
                return []
            for node in self.nodes:
                self.cut_power(node)
                node.is_head = node is self.nodes[0]
            self._launch(self.nodes[0])
            return self.nodes[:1]
        started = []
        alive = {process.state for process in processes if process.kind == "raylet"}
        for node in self.nodes:
            if node.starting is not None or node.state in alive:
                node.due_s = 0.0
            elif not node.due_s:
                node.due_s = now + REVIVE_AFTER_S
            elif now >= node.due_s:
                node.due_s = 0.0
                self._clear(node)
                node.is_head = False
                self._launch(node)
                started.append(node)
        return started

    def is_up(self, processes: list[Process]) -> bool:
        """Whether the head lives, and a node that is not being started."""
        alive = {process.state for process in processes if process.kind == "raylet"}
        has_gcs = any(process.kind == "gcs" for process in processes)
        return has_gcs and any(node.state in alive and node.starting is None for node in self.nodes)

    def shared_memory(self, node: Node) -> list[str]:
        """What lies in the /dev/shm of a node, where it has one of its own."""
        raylets = self.host.find("raylet", node.state)
        if not self.has_names or not raylets:
            return []
        return os.listdir(f"/proc/{raylets[0].pid}/root/dev/shm")  # noqa: PTH208 - names only

    def clear_spools(self) -> int:
        """Removes what lies in the nodes' spools: rows that were damaged, or too late for a sweep that had ended."""
        found = [path for node in self.nodes for path in node.state_disk.folder.glob("spool/*/*")]
        for path in found:
            path.unlink()
        return len(found)

    def _clear(self, node: Node) -> None:
        """Ends what a dead raylet left on its node; the cluster's GCS may live on the same one."""
        self.host.kill(lambda process: process.state == node.state and process.kind not in {"gcs", "ray"})

    def cut_power(self, node: Node) -> None:
        """All that runs on a node is gone at once."""
        self.host.kill(lambda process: process.state == node.state)

    def stop(self) -> None:
        """Ends every process of every node, and unmounts what was mounted."""
        for node in self.nodes:
            self.cut_power(node)
            if node.starting is not None:
                node.starting.wait()
                self.host.owned.discard(node.starting.pid)
            node.state_disk.remove()
            node.temporary_disk.remove()
            node.memory.remove()


def base_environment(folder: Path) -> dict[str, str]:
    """What every process of a chaos run sees; the driver's own folders."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "QUANTSWEEP_"))}
    (folder / "driver" / "tmp").mkdir(parents=True)
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "QUANTSWEEP_STATE": str(folder / "driver" / "state"),
        "QUANTSWEEP_LOCKS": str(folder / "driver" / "locks"),
        "XDG_CACHE_HOME": str(folder / "driver" / "cache"),
        "TMPDIR": str(folder / "driver" / "tmp"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(32).hex(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        # A node that does not answer for 10 s or so is dead; with Ray's defaults that takes a minute.
        "RAY_health_check_initial_delay_ms": "0",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "3",
    }
