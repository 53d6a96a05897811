"""Starts processes from one thread that lives as long as this process.

A sandbox dies with its parent by PR_SET_PDEATHSIG, and for the kernel the parent is the *thread* that started it. A
worker thread that ends would take its sandbox along; this one does not end. It is a thread of our own because those of
an executor end when the main thread does, with work still to do on others.

Keyrings are a thread's as well: this one takes a new, empty session keyring before each start, so that no sandbox has
the keys of this login, or those that an earlier one left.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import queue
import subprocess
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from runners.sandbox.seccomp import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Process = subprocess.Popen[bytes]

_KEYCTL_JOIN_SESSION_KEYRING = 1


def spawn(argv: Sequence[str], *, env: Mapping[str, str], stdin: int, pass_fds: Sequence[int]) -> Process:
    """Start `argv` in a session of its own, with pipes on its standard output and error.

    Raises:
        OSError: The command does not exist or there is no room for a process.
    """
    start = functools.partial[Process](
        subprocess.Popen,
        list(argv),
        env=dict(env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        cwd="/",
        start_new_session=True,
    )
    # A process forked from this one has the queue but not its thread: each process gets its own.
    return _spawner(os.getpid()).do(start)


class _Spawner:
    """The thread, and what it is asked to start."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="sandbox-spawner", daemon=True).start()

    def do(self, start: Callable[[], Process]) -> Process:
        """The process that `start` starts; its error, if it has one."""
        answer: Future[Process] = Future()
        self._asked.put((start, answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            start, answer = self._asked.get()
            _take_new_session_keyring()
            try:
                answer.set_result(start())
            except BaseException as error:  # the thread must go on; the one who asked gets it
                answer.set_exception(error)


def _take_new_session_keyring() -> None:
    """For this thread. A kernel without keys, or a container that forbids them, has none to protect."""
    number = number_of("keyctl", platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)


@functools.lru_cache(maxsize=1)
def _spawner(pid: int) -> _Spawner:
    del pid  # the key alone
    return _Spawner()
