"""What the processes of a sandbox take of the machine's memory, counted from outside where no cgroup does it."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import TYPE_CHECKING

from runners.sandbox.processes import Process, read
from runners.sandbox.seccomp import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KIB = 1024
# Of proc(5) `status`. Page tables are among them because one page of memory can cost a page of tables.
_PRIVATE = (b"RssAnon", b"VmPTE", b"VmSwap", b"HugetlbPages")
_ONCE = (b"VmPTE", b"HugetlbPages")
# Of `smaps_rollup`: each page divided by the number of processes that have it.
_SHARES = (b"Pss_Anon", b"SwapPss")
_KCMP_VM = 1


def memory_bytes(processes: Sequence[Process], shared_bytes: int, limit_bytes: int) -> int:
    """Memory of `processes`.

    First what is quickly read and never too little: what processes share counts once for each. Only where that is more
    than `limit_bytes` is it counted as it is, which takes a millisecond or more a process.

    Args:
        processes: The command's and those that it started.
        shared_bytes: What is known of their shared memory from elsewhere: files in memory, shared mappings. A page
            that no process has touched, or has let go of, is in nobody's resident memory and still there.
        limit_bytes: Beyond it, look closely.
    """
    private = shared = 0
    for process in processes:
        status = _status(process)[1]
        private += _sum(status, _PRIVATE)
        shared += _sum(status, (b"RssShmem",))
    quick = private + max(shared, shared_bytes)
    return quick if quick <= limit_bytes else min(quick, _shared_once(processes, shared_bytes))


def _shared_once(processes: Sequence[Process], shared_bytes: int) -> int:
    private = shared = 0
    counted: list[int] = []
    for process in processes:
        task, status = _status(process)
        if task is None or any(_same_memory(task, other) for other in counted):
            continue
        counted.append(task)
        try:
            rollup = _fields(read(f"/proc/{process.pid}/task/{task}/smaps_rollup"))
        except OSError:  # ended, or not ours to read
            rollup = {}
        if b"Pss_Anon" in rollup:
            private += _sum(status, _ONCE) + _sum(rollup, _SHARES)
            shared += _sum(rollup, (b"Pss_Shmem",))
        else:
            private += _sum(status, _PRIVATE)
            shared += _sum(status, (b"RssShmem",))
    return private + max(shared, shared_bytes)


def _same_memory(task: int, other: int) -> bool:
    """kcmp(2): whether one runs in the other's memory, as after vfork; no where the kernel does not say."""
    number = number_of("kcmp", platform.machine())
    if number is None:
        return False
    return bool(ctypes.CDLL(None).syscall(number, task, other, _KCMP_VM, 0, 0) == 0)


def _status(process: Process) -> tuple[int | None, dict[bytes, int]]:
    """A thread that lives and what it says: the leading one may have ended, and then shows no memory at all."""
    for task in process.tasks:
        try:
            fields = _fields(read(f"/proc/{process.pid}/task/{task}/status"))
        except OSError:
            continue
        if b"VmRSS" in fields:
            return task, fields
    return None, {}


def _fields(text: bytes) -> dict[bytes, int]:
    """The lines `Name:   12 kB`, in bytes."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == b"kB":
            found[words[0].rstrip(b":")] = int(words[1]) * _KIB
    return found


def _sum(fields: dict[bytes, int], names: Iterable[bytes]) -> int:
    return sum(fields.get(name, 0) for name in names)


def machine_s_shared_bytes() -> int:
    """All shared memory of this machine, files in memory included (proc(5) `meminfo`)."""
    return _fields(read("/proc/meminfo")).get(b"Shmem", 0)


def used(folder_fd: int) -> tuple[int, int]:
    """Bytes and inodes of the file system in memory that `folder_fd` lies on; two it has when it is empty."""
    stat = os.fstatvfs(folder_fd)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_files - stat.f_ffree
