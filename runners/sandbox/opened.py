"""What the open descriptors of a sandbox's processes hold that no folder shows: removed files, sockets' buffers."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from runners.sandbox.processes import Process, read

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# What a local socket holds when it is full, where the machine does not say; seccomp.py lets nobody ask for more.
_LOCAL_SOCKET_BYTES = 212_992
# The kernel tells nobody how full they are: a few count for nothing, as every runtime has some.
_FREE_LOCAL_SOCKETS = 64
_TABLES = ("tcp", "tcp6", "udp", "udp6")
# What proc(5) `maps` calls a shared mapping without a file.
_SHARED = b"/dev/zero"


@dataclass
class Opened:
    """What was found in one look.

    Attributes:
        removed: Inode -> bytes of files on a disk that have no name any more but are open or mapped.
        shared: Inode -> bytes of shared mappings without a file, as far as they are still mapped.
        socket_bytes: An estimate, from above, of what lies in sockets.
        in_flight: Descriptors that lie in a socket, sent and not yet received.
        sockets: Inodes of the sockets that some process has open.
        unreadable: Processes whose descriptors are not ours to see.
    """

    removed: dict[int, int] = field(default_factory=dict)
    shared: dict[int, int] = field(default_factory=dict)
    socket_bytes: int = 0
    in_flight: int = 0
    sockets: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)


def opened(processes: Sequence[Process], memory_devices: Collection[int], least_mapped_bytes: int) -> Opened:
    """Look at all descriptors of `processes` and at what they have mapped.

    Args:
        processes: The command's and those that it started.
        memory_devices: `st_dev` of the folders in memory, which have a size of their own.
        least_mapped_bytes: What a removed file counts for that is only mapped: it may be larger than its mapping.
    """
    found = Opened()
    for process in processes:
        _look_at_descriptors(process, memory_devices, found)
        _look_at_maps(process, memory_devices, least_mapped_bytes, found)
    return found


def hidden_sockets(processes: Sequence[Process], seen: Opened) -> set[int]:
    """Local sockets that exist but that no process has: they lie in another socket, with all that lies in them.

    Also adds up what the sockets of this network namespace hold, into `seen`.
    """
    for process in processes:
        base = f"/proc/{process.pid}/net"
        try:
            local = _inodes_of_local_sockets(read(f"{base}/unix"))
        except OSError:  # it has ended
            continue
        counts = _read_if_there(f"{base}/sockstat") + _read_if_there(f"{base}/sockstat6")
        tables = [_read_if_there(f"{base}/{name}") for name in _TABLES] if _has_network_sockets(counts) else []
        seen.socket_bytes = max(0, len(local) - _FREE_LOCAL_SOCKETS) * _local_socket_bytes()
        seen.socket_bytes += 2 * sum(map(_queued_bytes, tables))  # and what the kernel needs to keep them
        return {inode for inode in local if inode} - seen.sockets
    return set()


def _read_if_there(path: str) -> bytes:
    """Empty on a machine without that version of the protocol."""
    try:
        return read(path)
    except OSError:
        return b""


@cache
def _local_socket_bytes() -> int:
    try:
        return int(read("/proc/sys/net/core/wmem_default"))
    except (OSError, ValueError):
        return _LOCAL_SOCKET_BYTES


def _look_at_descriptors(process: Process, memory_devices: Collection[int], found: Opened) -> None:
    for task in process.tasks:  # all have the same; one that has ended has none
        folder = f"/proc/{process.pid}/task/{task}/fd"
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names are wanted, thousands a second
        except PermissionError:
            if _has_ended(f"/proc/{process.pid}/task/{task}/stat"):
                continue
            found.unreadable.add(process.pid)
            return
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError):
                _look_at(os.stat(f"{folder}/{name}"), f"{folder}info/{name}", memory_devices, found)  # noqa: PTH116 - thousands a second, too
        if names:
            return


def _has_ended(path: str) -> bool:
    """Whether only the task's entry is left (proc(5) `stat`); the name before its state may hold anything."""
    try:
        return read(path).rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return True


def _look_at(status: os.stat_result, info: str, memory_devices: Collection[int], found: Opened) -> None:
    if stat.S_ISSOCK(status.st_mode):
        found.sockets.add(status.st_ino)
        for line in read(info).splitlines():
            if line.startswith(b"scm_fds:"):
                found.in_flight += int(line.split()[1])
    elif stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev not in memory_devices:
        found.removed[status.st_ino] = status.st_blocks * 512


def _look_at_maps(process: Process, memory_devices: Collection[int], least_bytes: int, found: Opened) -> None:
    """Lines `start-end mode offset major:minor inode path (deleted)`."""
    extents: dict[int, int] = {}
    for task in process.tasks:
        try:
            text = read(f"/proc/{process.pid}/task/{task}/maps")
        except OSError:
            continue
        for line in text.splitlines():
            if not line.endswith(b" (deleted)"):
                continue
            span, _, offset, device, number, path = line.split(None, 5)
            major, minor = (int(part, 16) for part in device.split(b":"))
            if os.makedev(major, minor) in memory_devices:
                continue
            start, end = (int(part, 16) for part in span.split(b"-"))
            inode, extent = int(number), int(offset, 16) + end - start
            kind = found.shared if path.startswith(_SHARED) else extents
            kind[inode] = max(kind.get(inode, 0), extent)
        if text:
            break
    for inode, extent in extents.items():
        found.removed[inode] = max(found.removed.get(inode, 0), extent, least_bytes)


def _inodes_of_local_sockets(table: bytes) -> list[int]:
    """Of /proc/net/unix; 0 for a connection that nobody has accepted yet."""
    return [int(line.split()[6]) for line in table.splitlines()[1:] if len(line.split()) > 6]


def _has_network_sockets(counts: bytes) -> bool:
    """Of /proc/net/sockstat: the tables themselves take the kernel milliseconds, empty or not."""
    lines = [line.split() for line in counts.splitlines()]
    return any(words[0] in (b"TCP:", b"TCP6:", b"UDP:", b"UDP6:") and words[2] != b"0" for words in lines)


def _queued_bytes(table: bytes) -> int:
    """The column `tx_queue rx_queue` of /proc/net/tcp and its like."""
    total = 0
    for line in table.splitlines()[1:]:
        sent, _, received = line.split()[4].partition(b":")
        total += int(sent, 16) + int(received, 16)
    return total
