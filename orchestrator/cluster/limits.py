"""What this process may do, as far as Ray needs it: asked before Ray is started, which says after 30 s, and not why.

Figures are measured with Ray 2.56 on 2 cores: it starts with 64 open files, and with 48 it does not.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Final

from orchestrator.errors import ClusterError

LEAST_OPEN_FILES: Final = 64
_ROOM_BYTES: Final = 16 << 20
"""What the file of Ray's object store has beside the objects, generously."""
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only asked whether it can be written to
_OWNERS_RIGHTS: Final = 0o700
_UMASK: Final = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)


def check_limits(object_store_bytes: int, *, shared_memory: Path = _SHARED_MEMORY) -> None:
    """Refuses, at once, to start Ray where it cannot start.

    Args:
        object_store_bytes: the size of its object store, which is one file in `shared_memory`.
        shared_memory: where Linux has it.

    Raises:
        ClusterError: with the limit that is in the way, and what to set.
    """
    what = "a local Ray cluster cannot be started"
    # The hard limit: Ray raises the soft one to it, for itself and its processes.
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_less(files, LEAST_OPEN_FILES):
        raise ClusterError(
            f"{what}: this process may have {files} open files, and Ray needs {LEAST_OPEN_FILES} at least",
            hint="Raise the limit where this is started: ulimit -n 1024 (or LimitNOFILE= of its service).",
        )
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if _is_less(largest, least := object_store_bytes + _ROOM_BYTES):
        raise ClusterError(
            f"{what}: files may have {largest:,} bytes here at most, and Ray needs one of {least:,}",
            hint="Raise the limit where this is started: ulimit -f unlimited.",
        )
    if not os.access(shared_memory, os.W_OK | os.X_OK):
        there = "cannot be written to" if shared_memory.is_dir() else "is not there"
        raise ClusterError(
            f"{what}: {shared_memory} {there}, and Ray keeps its objects in it",
            hint=f"Mount it writable: mount -t tmpfs tmpfs {shared_memory} (a container: --shm-size=1g).",
        )
    if (umask := _umask()) & _OWNERS_RIGHTS:
        raise ClusterError(
            f"{what}: the umask {umask:03o} takes this user's own rights to whatever is made",
            hint="Set another one where this is started: umask 022.",
        )


def _is_less(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed


def _umask() -> int:
    """The umask of this process; 0 where the system does not tell it without changing it."""
    try:
        found = _UMASK.search(Path("/proc/self/status").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return 0
    return int(found[1], 8) if found else 0
