"""Runs one launcher to its end: reads what comes out up to a cap, keeps the time, ends it at a limit."""

from __future__ import annotations

import os
import select
import selectors
import subprocess
import tempfile
import time
from dataclasses import dataclass
from signal import SIGKILL
from typing import TYPE_CHECKING

from runners.sandbox.base import Limits, SandboxFailed, SandboxStuck, Status
from runners.sandbox.cgroup import Group, entering, memory_group
from runners.sandbox.processes import end
from runners.sandbox.spawner import spawn
from runners.sandbox.stragglers import MARK, mark
from runners.sandbox.watch import Watch
from runners.sandbox.worked import worked_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Between two looks at memory and processes; a fork bomb makes some ten processes a millisecond.
_TICK_S = 0.01
_CHUNK_BYTES = 65536
_REPORT_BYTES = 65536
# We look a hundred times a second: a gap of this length is time that the program cannot be charged for, up to a sum.
_PAUSE_S, _LONGEST_PAUSES_S = 1.0, 300.0
# A program that had less than this part of its time as CPU time waited for something, or was stopped, or starved.
_IDLE = 0.5
# How long the kernel may take to end a sandbox with thousands of processes on a busy machine.
_END_S = 30.0


@dataclass(frozen=True)
class Ended:
    """What came of a launcher.

    `limit` is the limit it was ended for, or None; `report` what it wrote to its status descriptor; `idle` says that it
    had hardly any CPU time until its time limit.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    report: bytes
    limit: Status | None
    wall_s: float
    idle: bool = False


def supervise(
    command: Callable[[int], Sequence[str]],
    *,
    pass_fds: Sequence[int] = (),
    process_1: Callable[[bytes], int | None] | None = None,
    stdin: bytes | None,
    limits: Limits,
    workdir: Path,
) -> Ended:
    """Start `command(status_fd)`, in a memory cgroup where there can be one, and wait until all of it is gone.

    Args:
        command: The launcher's words, given the descriptor it reports to.
        pass_fds: Further descriptors that the launcher gets.
        process_1: For a launcher that ends before process 1 does: finds that process in the report.
        stdin: See `Sandbox.run`.
        limits: What the run may use; the kernel's own limits are the launcher's to set.
        workdir: The folder to watch.

    Raises:
        SandboxFailed: It could not be started, or the kernel did not let it end.
    """
    with memory_group(limits) as group:
        return _supervise(
            command, group, pass_fds=pass_fds, process_1=process_1, stdin=stdin, limits=limits, at=workdir
        )


def _supervise(
    command: Callable[[int], Sequence[str]],
    group: Group | None,
    *,
    pass_fds: Sequence[int],
    process_1: Callable[[bytes], int | None] | None,
    stdin: bytes | None,
    limits: Limits,
    at: Path,
) -> Ended:
    started = time.monotonic()
    report_fd, status_fd = os.pipe()
    stdin_fd = os.open(os.devnull, os.O_RDONLY) if stdin is None else holding(stdin)
    try:
        words = entering(group, command(status_fd))
        process = spawn(words, env={MARK: mark()}, stdin=stdin_fd, pass_fds=[status_fd, *pass_fds])
    except OSError as error:
        os.close(report_fd)
        raise SandboxFailed(f"the sandbox's launcher did not start: {error}") from error
    finally:
        os.close(status_fd)
        os.close(stdin_fd)
    try:
        reader = _Reader(process, report_fd, limits, process_1)
    except OSError as error:  # a kernel before 5.3 has no pidfd
        end(process.pid)
        process.kill()
        process.communicate()
        os.close(report_fd)
        raise SandboxFailed(f"the sandbox cannot be watched: {error}") from error
    watch = Watch(process.pid, limits, at, group)
    limit: Status | None = None
    idle = False
    try:
        limit, idle = _wait(process.pid, reader, started, limits, watch)
        returncode = process.wait(_END_S)
        reader.wait_for_process_1(_END_S)
    except subprocess.TimeoutExpired as error:
        if limit is None:
            raise SandboxStuck(f"process {process.pid} of the sandbox did not end when it was told to") from error
        returncode = -SIGKILL  # it has had its limit, and its end is the kernel's doing
    finally:
        watch.close()
        if process.poll() is None:
            end(process.pid)
            process.kill()
        reader.close()
    outputs = bytes(reader.stdout), bytes(reader.stderr), bytes(reader.report)
    return Ended(returncode, *outputs, limit, time.monotonic() - started, idle)


class _Reader:
    """The three streams of a run, each kept up to a cap, and a note of its end."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        report_fd: int,
        limits: Limits,
        process_1: Callable[[bytes], int | None] | None,
    ) -> None:
        if process.stdout is None or process.stderr is None:
            raise SandboxFailed("the sandbox's launcher has no output")
        self.stdout, self.stderr, self.report = bytearray(), bytearray(), bytearray()
        self.over = False
        self.ended = False
        self._process = process
        self._fds = {
            process.stdout.fileno(): (self.stdout, limits.output_bytes),
            process.stderr.fileno(): (self.stderr, limits.output_bytes),
            report_fd: (self.report, _REPORT_BYTES),
        }
        self._report_fd = report_fd
        self._pidfd = os.pidfd_open(process.pid)
        self._process_1 = process_1
        self._process_1_fd: int | None = None
        self._selector = selectors.DefaultSelector()
        for fd in self._fds:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)
        self._selector.register(self._pidfd, selectors.EVENT_READ)

    def poll(self, timeout_s: float) -> None:
        """Take in what there is, waiting at most `timeout_s` for something."""
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._pidfd:
                self.ended = True
                self._selector.unregister(self._pidfd)
            elif not self._take(key.fd):
                self._selector.unregister(key.fd)

    def drain(self) -> None:
        """Take in what is left once everything inside has ended."""
        for fd in self._fds:
            while self._take(fd):
                pass

    def wait_for_process_1(self, timeout_s: float) -> None:
        """Wait until process 1 is gone, and everything in the sandbox with it."""
        if self._process_1_fd is None:
            return
        poll = select.poll()  # a descriptor beyond 1023 is one like any other to it
        poll.register(self._process_1_fd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise subprocess.TimeoutExpired("process 1 of the sandbox", timeout_s)

    def close(self) -> None:
        """Give back every descriptor."""
        self._selector.close()
        os.close(self._pidfd)
        if self._process_1_fd is not None:
            os.close(self._process_1_fd)
        os.close(self._report_fd)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _take(self, fd: int) -> bool:
        kept, cap = self._fds[fd]
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return not self.ended
        room = cap - len(kept)
        self.over = self.over or len(data) > room
        kept += data[:room]
        if kept is self.report and self._process_1 is not None and self._process_1_fd is None:
            self._look_for_process_1(self._process_1)
        return bool(data)

    def _look_for_process_1(self, find: Callable[[bytes], int | None]) -> None:
        pid = find(bytes(self.report))
        if pid is not None:
            try:
                self._process_1_fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._process_1 = None  # gone already


def _wait(pid: int, reader: _Reader, started: float, limits: Limits, watch: Watch) -> tuple[Status | None, bool]:
    """Wait until the launcher ends, ending it at a limit; returns that limit, and whether it was idle until then."""
    limit: Status | None = None
    idle = False
    deadline = started + limits.wall_s
    next_check = started + 2 * _TICK_S
    looked, paused_s = started, 0.0
    while not reader.ended:
        now = time.monotonic()
        if now - looked > _PAUSE_S and paused_s < _LONGEST_PAUSES_S:
            # It was we who stood still (stopped, or the machine asleep): what came meanwhile is looked at first.
            paused_s += now - looked
            deadline += now - looked
        looked = now
        if limit is None and now >= deadline:
            limit = "time_limit"
            idle = worked_s(pid) < _IDLE * limits.wall_s
        elif limit is None and now >= next_check:
            limit = watch.check()
            looked = time.monotonic()  # a program that gives much to look at gains no time by it
            next_check = looked + _TICK_S
        if limit is None and reader.over:
            limit = "output_limit"
        if limit is not None:
            if now > deadline + _END_S:
                break
            end(pid)
        reader.poll(max(0.0, min(next_check, deadline) - time.monotonic()) if limit is None else _TICK_S)
    reader.drain()
    if limit is None:
        limit = "output_limit" if reader.over else watch.check_what_is_left()
    return limit, idle


def holding(data: bytes) -> int:
    """A new descriptor from which `data` can be read; it has no name, and lies in memory where that can be had."""
    try:
        fd = os.memfd_create("sandbox")
    except OSError:
        with tempfile.TemporaryFile() as unnamed:
            fd = os.dup(unnamed.fileno())
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
