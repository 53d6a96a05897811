"""Starts processes from one thread that lives as long as this process.

A sandbox dies with its parent by PR_SET_PDEATHSIG, and for the kernel the parent is the *thread* that started it. A
worker thread that ends would take its sandbox along; this one does not end.
"""

from __future__ import annotations

import functools
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def spawn(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: int, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, with pipes on its standard output and error.

    Raises:
        OSError: The command does not exist or there is no room for a process.
    """
    # A process forked from this one has the executor but not its thread: each process gets its own.
    start = functools.partial[subprocess.Popen[bytes]](
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
    return _executor(os.getpid()).submit(start).result()


@functools.cache
def _executor(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sandbox-spawner-{pid}")
