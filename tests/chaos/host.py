"""The processes below this one: what each of them is, on which node it runs, and what is left when nothing should be.

This process makes itself the reaper of its orphans (PR_SET_CHILD_SUBREAPER), so whatever a sweep or a cluster starts,
and however its parents die, it stays a descendant of this process and is found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PR_SET_CHILD_SUBREAPER = 36
STATE_VARIABLE = "QUANTSWEEP_STATE"

CLUSTER_KINDS = frozenset({"raylet", "gcs", "helper", "ray", "worker"})
"""Processes that belong to the cluster itself and stay between two sweeps."""

# The first that a command line holds says what the process is; what else an agent started belongs to its grader.
_WORDS: tuple[tuple[str, str], ...] = (
    ("src/ray/gcs/gcs_server", "gcs"),
    ("src/ray/raylet/raylet", "raylet"),
    ("ray::NodeAgent", "agent"),
    ("ray::IDLE", "worker"),
    ("default_worker.py", "worker"),
    ("ray::DashboardAgent", "helper"),
    ("ray::RuntimeEnvAgent", "helper"),
    ("dashboard/agent.py", "helper"),
    ("runtime_env/agent/main.py", "helper"),
    ("log_monitor.py", "ray"),
    ("_private/monitor.py", "ray"),
    ("dashboard/dashboard.py", "ray"),
    ("runners/supervisor.py", "supervisor"),
    ("-m orchestrator run", "driver"),
    ("embedded_child", "engine"),
    ("import importlib.metadata, json, xllamacpp", "probe"),
    ("llama-server", "engine"),
)


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was when it was looked at. `identity` tells it from a later one with its pid."""

    pid: int
    parent: int
    identity: str
    kind: str
    state: str
    """The folder that QUANTSWEEP_STATE named for it or the nearest of its ancestors, "" if none had it."""
    words: str

    def send(self, number: int) -> bool:
        """Sends a signal; whether the process was still the same one."""
        if _stat(self.pid)[2] != self.identity:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def alive(self) -> bool:
        """Whether it still runs."""
        return _stat(self.pid)[2] == self.identity


def become_reaper() -> None:
    """Orphans below this process are handed to it from now on."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _stat(pid: int) -> tuple[int, str, str]:
    """Parent, state letter and identity of a process; (0, "", "") where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0, "", ""
    letter = fields[0].decode()
    return int(fields[1]), letter, "" if letter in "ZX" else f"{pid}:{fields[19].decode()}"


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace").replace("\0", "\n")
    except OSError:
        return ""


class Host:
    """Looks at the processes below this one. `owned` are pids of children that somebody else here waits for."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self._states: dict[str, str] = {}

    def processes(self) -> list[Process]:
        """Every living descendant of this process, parents before children."""
        me = os.getpid()
        children: dict[int, list[tuple[int, str]]] = {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            pid = int(entry.name)
            parent, letter, identity = _stat(pid)
            if identity:
                children.setdefault(parent, []).append((pid, identity))
            elif letter == "Z" and parent == me and pid not in self.owned:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        found: list[Process] = []
        waiting: list[tuple[int, str, str]] = [(me, "", "")]
        while waiting:
            above, kind_above, state_above = waiting.pop()
            for pid, identity in children.get(above, ()):
                words = _text(pid, "cmdline").strip().replace("\n", " ")
                kind = _kind(words, kind_above)
                state = self._state(pid, identity) or state_above
                found.append(Process(pid, above, identity, kind, state, words))
                waiting.append((pid, kind, state))
        return found

    def _state(self, pid: int, identity: str) -> str:
        if not self._states.get(identity):
            lines = _text(pid, "environ").split("\n")
            named = [line.partition("=")[2] for line in lines if line.startswith(STATE_VARIABLE + "=")]
            self._states[identity] = named[0] if named else ""
        return self._states[identity]

    def find(self, kind: str, state: str | None = None) -> list[Process]:
        """The processes of one kind, those of one node only if its state folder is given."""
        return [
            process
            for process in self.processes()
            if process.kind == kind and (state is None or process.state == state)
        ]

    def kill(self, which: Callable[[Process], bool]) -> None:
        """Kills what `which` chooses, and what that started meanwhile, until none is left."""
        deadline = time.monotonic() + 30
        while chosen := [process for process in self.processes() if which(process)]:
            for process in chosen:
                process.send(signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"cannot be killed: {[process.words for process in chosen]}")
            time.sleep(0.05)

    def left(self, allowed: Iterable[str], within_s: float) -> list[Process]:
        """The processes of other kinds than `allowed` that are still there after `within_s` seconds."""
        kinds = frozenset(allowed)
        deadline = time.monotonic() + within_s
        while left := [process for process in self.processes() if process.kind not in kinds]:
            if time.monotonic() > deadline:
                return left
            time.sleep(0.2)
        return []


def _kind(words: str, above: str) -> str:
    for part, kind in _WORDS:
        if part in words:
            return kind
    return "grader" if above in {"agent", "grader"} else "other"
