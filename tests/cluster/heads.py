"""A Ray head of one's own on loopback, as `ray start` makes it, with or without a token, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

RAY = Path(sys.executable).with_name("ray")
TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class RealHead:
    """A running head, and its processes."""

    address: str
    starter: psutil.Process

    def process(self, name: str) -> psutil.Process:
        """`gcs_server` or `raylet`."""
        return next(child for child in self.starter.children(recursive=True) if child.name() == name)


def ray_environment(**more: str) -> dict[str, str]:
    """The environment without what would say which cluster and which token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "RAY_ADDRESS"))}
    return kept | more


@contextlib.contextmanager
def real_head(**environment: str) -> Iterator[RealHead]:
    """A head whose settings are `environment`: `RAY_AUTH_MODE="disabled"` makes it an open one."""
    home = Path(tempfile.mkdtemp(prefix="qst-"))
    port = free_port()
    command = [
        *(str(RAY), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1"),
        *("--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={home}/r"),
        f"--object-store-memory={80 * 2**20}",
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Without this Ray listens on every interface, an open head too.
        env=ray_environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", **environment),
    )
    try:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if "Ray runtime started" in line:
                break
        else:
            raise AssertionError(said)
        yield RealHead(f"127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        end_tree(process)
        shutil.rmtree(home, ignore_errors=True)


def end_tree(process: subprocess.Popen[str]) -> None:
    """Ends a process and all that it started."""
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(tree, timeout=10)
    process.communicate()
