"""Machines made of namespaces on one host: each has an address, a host name, a process table and a home of its own.

They share the file system and the kernel; their network is a bridge that leads nowhere else. An ordinary user may make
them too, where user namespaces are allowed. When the process that made them ends, however it ends, the kernel ends
everything in them: process 1 of each reads a pipe until it closes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
_USER = [] if os.getuid() == 0 else ["--user"]


class Machine:
    """One machine; `run` runs a script in its shell, with its own home and nothing of our Ray settings."""

    def __init__(self, lab: Lab, address: str) -> None:
        self.lab, self.address = lab, address
        self.name = f"m{address.rpartition('.')[2]}"
        self.home = lab.folder / self.name
        self.home.mkdir(mode=0o700)
        command = ["unshare", "--net", "--uts", "--ipc", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]
        script = (
            f"hostname {self.name} && mount -t tmpfs shm /dev/shm && ip link set lo up && echo up; read nothing; true"
        )
        self._unshare = lab.start([*command, "bash", "-c", script])
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == b"up\n"
        self.init = psutil.Process(self._unshare.pid).children()[0]
        lab.do(f"ip link add {self.name} type veth peer name eth0 netns {self.init.pid}")
        lab.do(f"ip link set {self.name} master bridge up")
        # Ray looks for its own address by a route to the world; this one leads nowhere.
        self.run(f"ip address add {address}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0")

    def popen(self, script: str, **environment: str) -> subprocess.Popen[str]:
        """Starts `script` in the machine."""
        entry = ["nsenter", "--target", str(self.init.pid), "--net", "--uts", "--ipc", "--pid", "--mount"]
        preserve = [*_USER, "--preserve-credentials"] if _USER else []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "QUANTSWEEP_"))}
        kept |= {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "QUANTSWEEP_STATE": str(self.home / "state"),
        }
        return subprocess.Popen(
            [*entry, *preserve, "bash", "-ec", f"cd; {script}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kept | environment,
        )

    def run(
        self, script: str, *, told: str = "", codes: Sequence[int] = (0,), seconds: float = 180, **environment: str
    ) -> str:
        """What `script` writes to its standard output (and to its error output, unless it ends with 0)."""
        process = self.popen(script, **environment)
        try:
            out, err = process.communicate(told, timeout=seconds)
        finally:
            process.kill()
        assert process.returncode in codes, f"{self.name}: {script}\n{out}\n{err}"
        return out if process.returncode == 0 else out + err

    def processes(self, name: str = "") -> list[psutil.Process]:
        """What runs in the machine besides its process 1."""
        inside = Path(f"/proc/{self.init.pid}/ns/pid").stat().st_ino
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                here = Path(f"/proc/{process.pid}/ns/pid").stat().st_ino == inside
                if here and process.pid != self.init.pid and name in process.name():
                    found.append(process)
        return found

    def listening(self) -> set[tuple[str, int]]:
        """Where its processes accept connections: address and port."""
        found = set()
        for line in self.run("ss --tcp --listening --numeric --no-header").splitlines():
            host, _, port = line.split()[3].rpartition(":")
            found.add((host.removeprefix("[::ffff:").strip("[]"), int(port)))
        return found

    def end(self) -> None:
        """As if its power were cut."""
        self._unshare.kill()
        self._unshare.wait()


class Lab:
    """A network without an outside, and the machines in it. Use `lab`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qsm-"))
        self._started: list[subprocess.Popen[bytes]] = []
        self._holder: int | None = None
        user = ["--user", "--map-root-user"] if _USER else []
        holder = self.start(["unshare", *user, "--net", "--mount", "sh", "-c", "echo up && exec cat"])
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        self._holder = holder.pid
        self.do("ip link add bridge type bridge && ip link set bridge up")

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A process in the lab, outside its machines, that ends when its standard input does."""
        process = subprocess.Popen([*self._entry(), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._started.append(process)
        return process

    def do(self, script: str) -> None:
        """Runs a script in the lab, outside its machines."""
        subprocess.run([*self._entry(), "sh", "-ec", script], check=True, capture_output=True, text=True)

    def machine(self, address: str) -> Machine:
        """A new machine with this address, in 10.0.0.0/24."""
        return Machine(self, address)

    def _entry(self) -> list[str]:
        if self._holder is None:
            return []
        user = [*_USER, "--preserve-credentials"] if _USER else []
        return ["nsenter", "--target", str(self._holder), *user, "--net", "--mount"]

    def end(self) -> None:
        """Ends everything that was started in it."""
        for process in reversed(self._started):
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        for _ in range(20):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A lab, ended with all that is in it."""
    found = Lab()
    try:
        yield found
    finally:
        found.end()
