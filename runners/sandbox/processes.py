"""The processes of a running sandbox, as the host's /proc shows them."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """One process and its threads, the leading one first; that one may have ended while others go on."""

    pid: int
    tasks: tuple[int, ...]


def descendants(pid: int, most: int = 1_000_000) -> list[Process]:
    """`pid` and everything below it that is alive; a daemon counts, since process 1 of the sandbox adopts it.

    Stops soon after `most` threads are found: while a fork bomb goes off, a longer look is a later end.
    """
    waiting, found, count = [pid], [], 0
    for parent in waiting:  # grows while it is walked
        tasks = _tasks(parent)
        if not tasks:
            continue
        found.append(Process(parent, tasks))
        count += len(tasks)
        if count > most:
            break
        waiting += _started_by(parent, tasks)
    return found


def children(pid: int) -> list[int]:
    """The processes that any thread of `pid` started and that are alive."""
    return _started_by(pid, _tasks(pid))


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


def read(path: str) -> bytes:
    """What a file of /proc says; the kernel gives it out a page at a time.

    Raises:
        OSError: It is gone, or not ours to read.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        pages = []
        while page := os.read(fd, 1 << 16):
            pages.append(page)
        return b"".join(pages)
    finally:
        os.close(fd)


def _tasks(pid: int) -> tuple[int, ...]:
    try:
        names = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names are wanted, hundreds of times a second
    except OSError:
        return ()
    return tuple(sorted(map(int, names), key=lambda task: task != pid))


def _started_by(pid: int, tasks: tuple[int, ...]) -> list[int]:
    """See proc(5), `children`: each thread has its own."""
    found: list[int] = []
    for task in tasks:
        with contextlib.suppress(OSError):
            found += map(int, read(f"/proc/{pid}/task/{task}/children").split())
    return found
