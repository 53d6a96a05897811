"""A small parent for one server: ends it, and all it started, as soon as whoever asked for it stops or dies.

Run as a program of its own, standard library only: `python -I -S supervisor.py OWNER_PID GRACE_S PROGRAM ARGUMENT...`
with three descriptors from its owner: 0 is a pipe the owner holds open as long as the server is wanted, 1 takes one
JSON line for each thing worth knowing (pid or error, then exit), 2 is the server's log.

Why not PR_SET_PDEATHSIG from the owner alone: it is bound to the *thread* that forked, and an actor's threads come
and go; and it does not exist on macOS. Here the chain has no gap:

- owner killed: the kernel closes its end of the pipe (and our parent changes, should a fork of the owner have kept
  the pipe open); the server is killed at once.
- we are killed: PDEATHSIG, bound to our only thread, kills the server.
- the server left children behind: they are in its process group, or are handed to us (child subreaper) and killed.
- the owner was killed while a sandbox of its was being set up: we end what still carries its mark
  (`runners.sandbox.stragglers` says how that comes).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

STATUS_FD_VARIABLE = "QUANTSWEEP_STATUS_FD"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_OWNER_CHECK_S = 0.5
_ORPHANS_S = 2.0
_OWNER_GONE_S = 2.0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _tell(status_fd: int, **message: Any) -> None:
    # The owner may be gone; then nobody has to be told.
    with contextlib.suppress(OSError):
        os.write(status_fd, b"\n" + json.dumps(message).encode() + b"\n")  # the server may have begun a line


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _has_exited(server: subprocess.Popen[bytes]) -> bool:
    """Whether the server has ended, without reaping it where that can be had: until then its group id stays its own."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return server.poll() is not None
    return os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _adopted() -> list[int]:
    """Our children now: besides the server, what it left behind. Empty where the kernel does not list them."""
    try:
        listing = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return []
    try:
        return [int(pid) for pid in os.read(listing, 65536).split()]
    finally:
        os.close(listing)


def _end_adopted() -> None:
    """Kill and reap until no child is left (each death may hand us more)."""
    deadline = time.monotonic() + _ORPHANS_S
    while time.monotonic() < deadline:
        for pid in _adopted():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if reaped == 0:
            time.sleep(0.005)


def _owner_mark(owner: int) -> bytes:
    """What `runners.sandbox.stragglers` marks the owner's sandboxes with; empty where there is no /proc."""
    try:
        with open(f"/proc/{owner}/stat", "rb") as file:  # noqa: PTH123 - pathlib would double our start
            began = file.read().rpartition(b")")[2].split()[19]
    except OSError:
        return b""
    return b"QUANTSWEEP_SANDBOX=%d:%s" % (owner, began)


def _end_sandboxes(mark: bytes) -> None:
    """Kill what carries the mark of an owner that is gone."""
    for name in os.listdir("/proc") if mark else ():  # noqa: PTH208 - names are wanted
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{int(name)}/environ", "rb") as file:  # noqa: PTH123 - as above
                marked = mark in file.read().split(b"\0")
            if marked:
                os.kill(int(name), signal.SIGKILL)


def _watch(server: subprocess.Popen[bytes], owner: int, grace_s: float, wake_fd: int, stop_requests: list[int]) -> bool:
    """Return when the server has exited; ask it to, then make it, once the owner wants that or is gone.

    Whether the owner has let go of its end of the pipe.
    """
    pipes = [0, wake_fd]
    kill_at: float | None = None
    pid = server.pid
    while not _has_exited(server):
        left = _OWNER_CHECK_S if kill_at is None else min(_OWNER_CHECK_S, max(0.0, kill_at - time.monotonic()))
        ready, _, _ = select.select(pipes, [], [], left)
        if wake_fd in ready:
            os.read(wake_fd, 4096)
        closed = 0 in ready and not os.read(0, 4096)
        if closed:
            pipes.remove(0)
        if os.getppid() != owner:
            _signal_group(pid, signal.SIGKILL)
        elif kill_at is None and (closed or stop_requests):
            kill_at = time.monotonic() + grace_s
            _signal_group(pid, signal.SIGTERM)
            _signal_group(pid, signal.SIGCONT)  # one that is stopped would only take it in when it goes on
        elif kill_at is not None and time.monotonic() >= kill_at:
            _signal_group(pid, signal.SIGKILL)
            kill_at = time.monotonic() + _OWNER_CHECK_S
    return 0 not in pipes


def supervise(owner: int, grace_s: float, command: list[str]) -> None:
    """Run `command` until it ends or its owner does. Reports `pid` and `spawned_s` or `error`, then `exit`."""
    status_fd = os.dup(1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    stop_requests: list[int] = []
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: an ignored signal would stay ignored in the server.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: stop_requests.append(number))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    mark = _owner_mark(owner)

    spawned_s = time.monotonic()
    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            start_new_session=True,
            pass_fds=(status_fd,),
            env={**os.environ, STATUS_FD_VARIABLE: str(status_fd)},
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - we have one thread
        )
    except OSError as error:
        _tell(status_fd, error=error.strerror or str(error), errno=error.errno)
        return
    _tell(status_fd, pid=server.pid, spawned_s=spawned_s)
    closed = _watch(server, owner, grace_s, wake_read, stop_requests)
    _signal_group(server.pid, signal.SIGKILL)
    code = server.wait()
    _end_adopted()
    _tell(status_fd, exit=code)
    # A process that is being killed lets go of its pipes first, of its children last.
    deadline = time.monotonic() + _OWNER_GONE_S
    while closed and not stop_requests and os.getppid() == owner and time.monotonic() < deadline:
        time.sleep(0.01)
    if os.getppid() != owner:
        _end_sandboxes(mark)
        time.sleep(_OWNER_CHECK_S)  # one that was just being started carries its mark by then
        _end_sandboxes(mark)


if __name__ == "__main__":
    supervise(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
