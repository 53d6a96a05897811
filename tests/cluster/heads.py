"""A Ray head of one's own on loopback, as `ray start` makes it, with or without a token, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

RAY = Path(sys.executable).with_name("ray")
START_S = 90.0
TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class RealNode:
    """A running node, and its processes."""

    starter: subprocess.Popen[str]

    def process(self, name: str) -> psutil.Process:
        """`gcs_server` or `raylet`."""
        children = psutil.Process(self.starter.pid).children(recursive=True)
        return next(child for child in children if child.name() == name)

    @property
    def node_id(self) -> str:
        """Ray's name for the node, in hexadecimal."""
        words = self.process("raylet").cmdline()
        return next(word for word in words if word.startswith("--node_id=")).partition("=")[2]


@dataclass(frozen=True, slots=True)
class RealHead(RealNode):
    """A running head. `address` is `host:port`, as `--address` takes it."""

    address: str


def ray_environment(**more: str) -> dict[str, str]:
    """The environment without what would say which cluster and which token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "RAY_ADDRESS"))}
    return kept | more


@contextlib.contextmanager
def real_head(*, takes_nodes: bool = False, **environment: str) -> Iterator[RealHead]:
    """A head whose settings are `environment`: `RAY_AUTH_MODE="disabled"` makes it an open one.

    It listens on loopback only, unless it `takes_nodes`: Ray lets no node join over loopback.
    """
    home = Path(tempfile.mkdtemp(prefix="qst-"))
    port = free_port()
    arguments = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={home}/r"]
    if not takes_nodes:
        arguments.append("--node-ip-address=127.0.0.1")
        environment = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **environment}
    try:
        with _started(arguments, environment) as process:
            yield RealHead(process, f"127.0.0.1:{port}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def real_node(address: str, **environment: str) -> Iterator[RealNode]:
    """One more node on this host for the cluster whose head is at `address`."""
    with _started([f"--address={address}"], environment) as process:
        yield RealNode(process)


@contextlib.contextmanager
def _started(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`ray start` with what is the same for every node, from when the node is up."""
    # A process of its own: Ray reads its token once a process, and the process of the tests may have done so before.
    process = subprocess.Popen(
        [
            *(str(RAY), "start", "--block", "--num-cpus=1", "--disable-usage-stats"),
            *(f"--object-store-memory={80 * 2**20}", *arguments),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=ray_environment(**environment),
    )
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if "Ray runtime started" in line:
                break
        else:
            raise AssertionError(said)
        timer.cancel()
        yield process
    finally:
        timer.cancel()
        end_tree(process)


def end_tree(process: subprocess.Popen[str]) -> None:
    """Ends a process and all that it started."""
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(tree, timeout=10)
    process.communicate()
