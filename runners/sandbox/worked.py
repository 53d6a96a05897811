"""How much CPU time a running sandbox has had: little of it at a time limit means that it waited, or was made to."""

from __future__ import annotations

import os
from pathlib import Path

from runners.sandbox.processes import children

_TICKS_S = os.sysconf("SC_CLK_TCK")
_MOST = 1000


def worked_s(pid: int) -> float:
    """CPU seconds of the process and of all below it, those that ended and were waited for included.

    Of more than a thousand processes only the first are added up.
    """
    waiting, ticks = [pid], 0
    for process in waiting:  # grows while it is walked
        ticks += _ticks(process)
        if len(waiting) < _MOST:
            waiting += children(process)
    return ticks / _TICKS_S


def _ticks(pid: int) -> int:
    """utime, stime, cutime and cstime of proc_pid_stat(5); 0 for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))
