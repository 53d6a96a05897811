"""Watches a running sandbox from outside: memory, processes and what it writes, where the kernel sets no limit."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.sandbox.base import Limits, Status

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# A walk of the work folder costs more than a look at the processes: every so many checks.
_FOLDER_EVERY = 10
# Process 1, the launcher and the like, beside the command's own.
_SPARE_PROCESSES = 4


class Watch:
    """The limits of one run that have to be looked at from outside.

    Memory is what no other process shares a file with (resident minus shared, proc(5) `statm`); pages that forks
    still share count once for each. A check costs about 0.1 ms a process.
    """

    def __init__(self, pid: int, limits: Limits, workdir: Path) -> None:
        self._pid = pid
        self._limits = limits
        self._workdir = workdir
        self._checks = 0

    def check(self) -> Status | None:
        """The limit that is exceeded now, or None."""
        most = self._limits.processes + _SPARE_PROCESSES
        tree = descendants(self._pid, most + 1)
        if len(tree) > most:
            return "process_limit"
        if sum(_private_bytes(pid) for pid in tree) > self._limits.memory_bytes:
            return "memory_limit"
        self._checks += 1
        return self.check_folder() if self._checks % _FOLDER_EVERY == 0 else None

    def check_folder(self) -> Status | None:
        """Whether the work folder has outgrown its size or its number of files."""
        size_bytes = files = 0
        folders = [str(self._workdir)]
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except OSError:  # it went away, or the program locked it
                continue
            for entry in entries:
                files += 1
                try:
                    size_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                except OSError:
                    continue
            if size_bytes > self._limits.file_bytes or files > self._limits.files:
                return "output_limit"
        return None


def descendants(pid: int, most: int = 1_000_000) -> list[int]:
    """`pid` and everything below it that is alive; a daemon counts, since process 1 of the sandbox adopts it.

    Stops soon after `most` are found: while a fork bomb goes off, a longer look is a later end.
    """
    found = [pid]
    for parent in found:  # grows while it is walked
        if len(found) > most:
            break
        found += children(parent)
    return found


def children(pid: int) -> list[int]:
    """The processes that any thread of `pid` started and that are alive (proc(5), `children`)."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names are wanted, hundreds of times a second
    except OSError:
        return found
    for task in tasks:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii").split())
        except OSError:
            continue
    return found


def end(pid: int) -> None:
    """End a sandbox by its process 1, with which the kernel ends all others; the launcher then ends by itself.

    Process 1 has to get its turn to die, and amid a fork bomb that takes seconds in which the bomb grows; root, whom no
    process limit holds, may put it before all others.
    """
    for target in children(pid) or [pid]:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(target, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)


def _private_bytes(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return max(0, int(fields[1]) - int(fields[2])) * _PAGE_BYTES
