"""What the kernel says of a process tree: stopped or not, processor time used, disk waited for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_ENDED_STATES = frozenset({"Z", "X"})


class Vitals(NamedTuple):
    """Of a whole tree: `stopped` of its root, the others summed up. None where this system does not tell."""

    stopped: bool
    cpu_s: float | None
    read: int | None


def read_vitals(pid: int) -> Vitals | None:
    """The vitals of `pid` and all it started; None if it is gone."""
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
        stopped = root.status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    except psutil.Error:
        return None
    cpu_s = 0.0
    read: int | None = 0
    for process in tree:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        cpu_s += times.user + times.system
        waited = _waited_for_disk(process.pid)
        read = None if read is None or waited is None else read + waited
    return Vitals(stopped, cpu_s, read)


def _waited_for_disk(pid: int) -> int | None:
    """Major page faults and bytes read from storage so far; None off Linux. A mapped model is read by faults."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - procfs, read many times
            after_name = file.read().rpartition(b")")[2].split()
        if after_name[0].decode() in _ENDED_STATES:
            return 0
        faults = int(after_name[9])
        with open(f"/proc/{pid}/io", "rb") as file:  # noqa: PTH123 - the same
            for line in file:
                if line.startswith(b"read_bytes:"):
                    return faults + int(line.split()[1])
    except FileNotFoundError:
        return None if not os.path.isdir("/proc/self") else 0  # noqa: PTH112 - the same
    except (OSError, ValueError, IndexError):
        return None
    return faults


def memory_kills(path: Path = Path("/proc/vmstat")) -> int | None:
    """How many processes the kernel has ended for want of memory since the machine started; None: it does not say.

    Those that hit the limit of a control group are among them (`oom_kill` of proc_vmstat(5)).
    """
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    except (OSError, ValueError):
        return None
    return None
