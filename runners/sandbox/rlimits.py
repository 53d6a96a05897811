"""The resource limits of a run, as setrlimit(2) names them."""

from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.sandbox.base import Limits

_OPEN_FILES = 512
_SIGNALS = 1024


def rlimits(limits: Limits, *, own_processes: int) -> dict[str, tuple[int, int]]:
    """Name -> (soft, hard).

    Args:
        limits: What the run may use.
        own_processes: Processes of the sandbox itself that count as the same user's.
    """
    cpu_s = max(1, math.ceil(limits.cpu_s))
    found = {
        "RLIMIT_CPU": (cpu_s, cpu_s + 1),  # SIGXCPU, a second later SIGKILL
        "RLIMIT_FSIZE": (limits.file_bytes, limits.file_bytes),
        # One byte, and not none: a host that pipes core dumps to a program of its own does so even with none.
        "RLIMIT_CORE": (1, 1),
        "RLIMIT_NOFILE": (_OPEN_FILES, _OPEN_FILES),
        "RLIMIT_SIGPENDING": (_SIGNALS, _SIGNALS),  # counted for all of the host's user
    }
    if limits.address_space_bytes is not None:
        found["RLIMIT_AS"] = (limits.address_space_bytes, limits.address_space_bytes)
    if _counts_processes_by_namespace():
        count = limits.processes + own_processes
        found["RLIMIT_NPROC"] = (count, count)
    return found


def _counts_processes_by_namespace() -> bool:
    """Whether RLIMIT_NPROC counts inside a user namespace only (Linux 5.14, commit 21d1c5e386bc).

    Before, it counted all processes of the user on the host, and a desktop has more than any useful limit; there
    only the watcher counts (watch.py). The host's root is exempt from this limit in any case.
    """
    major, minor = (int(part) for part in platform.release().split(".")[:2])
    return (major, minor) >= (5, 14)
