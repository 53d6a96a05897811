"""Watches a running sandbox from outside: processes, memory and what it writes, where the kernel sets no limit."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.sandbox.memory import machine_s_shared_bytes, memory_bytes, used
from runners.sandbox.opened import hidden_sockets, opened
from runners.sandbox.processes import Process, descendants
from runners.sandbox.workfolder import FolderWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runners.sandbox.base import Limits, Status
    from runners.sandbox.cgroup import Group

# Process 1, the launcher and the like, beside the command's own.
_SPARE_PROCESSES = 4
# Folders in memory that a program may write to, as seen inside.
_MEMORY_FOLDERS = ("tmp", "dev/shm")
# A look takes at most a twentieth of the time, however much there is to see.
_REST = 19
# Descriptors that a program may have sent and not received for longer than one look.
_IN_FLIGHT = 64
# How long a socket may lie in another, and a process run what its owner may not read: what they hold is not to be seen.
_HIDDEN_S, _UNREADABLE_S = 1.0, 0.5
# Shared mappings without a file, from which on the machine's shared memory is looked at.
_MANY_SHARED = 4
# A removed file that is only mapped counts for at least this part of what one file may have.
_LEAST_MAPPED = 16


@dataclass
class _Look:
    every_s: float
    take: Callable[[], Status | None]
    due: float = 0.0


class Watch:
    """The limits of one run that have to be looked at from outside; to be closed after it.

    Args:
        pid: The launcher; below it is process 1 of the sandbox, and below that the command.
        limits: What the run may use.
        workdir: The folder it writes to.
        group: Where the kernel counts its memory, or None.
    """

    def __init__(self, pid: int, limits: Limits, workdir: Path, group: Group | None) -> None:
        self._pid, self._limits, self._group = pid, limits, group
        self._folder = FolderWatch(workdir, limits)
        self._processes: list[Process] = []
        self._memory_folders: dict[int, int] = {}  # descriptor -> device
        self._removed_bytes = self._socket_bytes = self._in_flight = 0
        self._shared: dict[int, int] = {}
        self._machine_shared_bytes = machine_s_shared_bytes()
        self._hidden: dict[int, float] = {}  # inode -> since when
        self._unreadable: dict[int, float] = {}  # process -> since when
        self._looks = (
            _Look(0.01, self._look_at_processes),
            _Look(0.03, self._look_at_descriptors),
            _Look(0.1, self._look_at_folder),
        )

    def check(self) -> Status | None:
        """The limit that is exceeded now, or None."""
        for look in self._looks:
            began = time.monotonic()
            if began < look.due:
                continue
            limit = look.take()
            ended = time.monotonic()
            look.due = ended + max(look.every_s, _REST * (ended - began))
            if limit is not None:
                return limit
        return None

    def check_what_is_left(self) -> Status | None:
        """The same once everything has ended: what the kernel ended it for, and what it left in its folder."""
        if self._group is not None and self._group.exceeded():
            return "memory_limit"
        return "output_limit" if self._folder.exceeded(running=False) else None

    def close(self) -> None:
        """Let go of the run's folders in memory."""
        for fd in self._memory_folders:
            os.close(fd)
        self._memory_folders.clear()

    def _look_at_processes(self) -> Status | None:
        most = self._limits.processes + _SPARE_PROCESSES
        found = descendants(self._pid, most + 1)
        if sum(len(process.tasks) for process in found) > most:
            return "process_limit"
        self._processes = found[2:]  # without the launcher and process 1
        if not self._memory_folders:
            self._open_memory_folders()
        tmpfs_bytes = 0
        for fd in self._memory_folders:
            size_bytes, inodes = used(fd)
            if size_bytes > self._limits.file_bytes or inodes > self._limits.files + 1:
                return "output_limit"
            tmpfs_bytes += size_bytes
        return "memory_limit" if self._is_over_memory(tmpfs_bytes) else None

    def _is_over_memory(self, tmpfs_bytes: int) -> bool:
        most_bytes = self._limits.memory_bytes - self._socket_bytes
        if self._group is not None:
            # Where sockets are short of memory they stall, and nothing is ended for it.
            return self._group.exceeded() or most_bytes < 0
        shared_bytes = tmpfs_bytes + sum(self._shared.values())
        counted = memory_bytes(self._processes, shared_bytes, most_bytes)
        return counted > most_bytes or self._hides_shared_memory(shared_bytes)

    def _hides_shared_memory(self, seen_bytes: int) -> bool:
        """Whether it cut many mappings before they were seen: nothing shows them but the machine's own sum.

        Other programs' shared memory is in that sum as well, but next to no program has this many shared mappings.
        """
        if len(self._shared) < _MANY_SHARED:
            return False
        return machine_s_shared_bytes() - self._machine_shared_bytes - seen_bytes > self._limits.memory_bytes

    def _look_at_descriptors(self) -> Status | None:
        if not self._memory_folders:
            return None  # the command is not there yet
        least = self._limits.file_bytes // _LEAST_MAPPED
        found = opened(self._processes, set(self._memory_folders.values()), least)
        now = time.monotonic()
        self._hidden = {inode: self._hidden.get(inode, now) for inode in hidden_sockets(self._processes, found)}
        self._unreadable = {pid: self._unreadable.get(pid, now) for pid in found.unreadable}
        out_of_sight = (
            min(found.in_flight, self._in_flight) > _IN_FLIGHT
            or any(now - since > _HIDDEN_S for since in self._hidden.values())
            or any(now - since > _UNREADABLE_S for since in self._unreadable.values())
        )
        # A mapping counts as it was at its largest: cutting it does not give its memory back.
        self._shared = {inode: max(size, self._shared.get(inode, 0)) for inode, size in found.shared.items()}
        self._in_flight, self._socket_bytes = found.in_flight, found.socket_bytes
        self._removed_bytes = sum(found.removed.values())
        if out_of_sight or self._removed_bytes > self._limits.file_bytes:
            return "output_limit"
        return None

    def _look_at_folder(self) -> Status | None:
        return "output_limit" if self._folder.exceeded(self._removed_bytes) else None

    def _open_memory_folders(self) -> None:
        """Once the command runs, its root is complete; the descriptors keep what they show, even if it hides."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                for name in _MEMORY_FOLDERS:
                    fd = os.open(f"/proc/{process.pid}/root/{name}", os.O_PATH | os.O_DIRECTORY)
                    self._memory_folders[fd] = os.fstat(fd).st_dev
                return
