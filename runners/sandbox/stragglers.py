"""Ends sandboxes that outlived the process they were made for.

Each dies with that process (PR_SET_PDEATHSIG), but for a moment in bubblewrap's own start: its process 1 waits for its
parent to set it up, and waits for ever if the parent is killed then. So every launcher carries a mark in its
environment that names its owner, and whoever finds the owner gone ends it: the supervisor of the owner's engine
(`runners.supervisor`) at once, or the node's next agent.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

MARK = "QUANTSWEEP_SANDBOX"


def mark() -> str:
    """What names this process and no later one with its pid."""
    return f"{os.getpid()}:{_began(os.getpid())}"


def end_stragglers() -> list[int]:
    """Kills the sandboxes of this user whose owners are gone; their pids."""
    ended = []
    with contextlib.suppress(OSError):  # no /proc: no sandbox either
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            owner = _owner(entry.name)
            if owner and _began(int(owner.partition(":")[0])) != owner.partition(":")[2]:
                with contextlib.suppress(OSError):
                    os.kill(int(entry.name), signal.SIGKILL)
                    ended.append(int(entry.name))
    return ended


def _owner(pid: str) -> str:
    """The owner that a process is marked with, "" if it is not."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    name = f"{MARK}=".encode()
    found = next((variable[len(name) :] for variable in variables if variable.startswith(name)), b"")
    owner = found.decode(errors="replace")
    return owner if owner.partition(":")[0].isdecimal() else ""


def _began(pid: int) -> str:
    """When a process was started, in the kernel's ticks; "" if it is gone (proc_pid_stat(5), field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {b"Z", b"X"} else fields[19].decode()
