"""The sandbox made by bubblewrap, where `bwrap` is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache, partial
from typing import TYPE_CHECKING

from runners.sandbox.base import (
    BOX,
    DEFAULT_LIMITS,
    SYSTEM_ONLY,
    Completed,
    Limits,
    SandboxFailed,
    SandboxUnavailable,
    View,
    called,
)
from runners.sandbox.cgroup import place
from runners.sandbox.fairly import run_fairly
from runners.sandbox.layout import HOSTNAME, UID, Mount, mounts, proc_hidden, proc_read_only
from runners.sandbox.rlimits import rlimits
from runners.sandbox.seccomp import seccomp_filter
from runners.sandbox.stragglers import MARK
from runners.sandbox.supervise import Ended, holding, supervise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_ALONE = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
)
# bubblewrap's process 1 counts as the user's inside; its parent stays outside.
_OWN_PROCESSES = 1
# What bubblewrap adds to a signal's number in an exit code, as a shell does.
_SIGNAL_BASE = 128
_SIGNAL_MAX = 64


class BubblewrapSandbox:
    """Each run in a bubblewrap of its own; prlimit(1) sets the limits inside, setsid(1) starts the command.

    Raises:
        SandboxUnavailable: `bwrap`, `prlimit` or `setsid` is not installed.
    """

    def __init__(self) -> None:
        self._bwrap = _tool("bwrap", "bubblewrap")
        self._prlimit = _tool("prlimit", "util-linux")
        self._setsid = _tool("setsid", "util-linux")
        self._options = _options(self._bwrap)
        self._filter = seccomp_filter()
        self.isolation = called("bubblewrap", seccomp=self._filter is not None, cgroup=place() is not None)

    def run(
        self,
        argv: Sequence[str],
        *,
        workdir: Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        view: View = SYSTEM_ONLY,
    ) -> Completed:
        """See `Sandbox.run`."""
        start = partial(self._run, stdin=stdin, env=env or {}, limits=limits, view=view)
        return run_fairly(start, argv, workdir=workdir, env=env, view=view)

    def _run(
        self,
        argv: Sequence[str],
        workdir: Path,
        *,
        stdin: bytes | None,
        env: Mapping[str, str],
        limits: Limits,
        view: View,
    ) -> Completed:
        plan = mounts(workdir, view, limits)
        # Through a descriptor: on the command line, what runs inside would read the host's paths from /proc/1/cmdline.
        args = [*self._set_up(plan), *_environment(env), ""]
        args_fd = holding("\0".join(args).encode("utf-8", "surrogateescape"))
        fds = [args_fd]
        words = [self._bwrap, "--args", str(args_fd)]
        if self._filter is not None:
            fds.append(holding(self._filter))
            words += ["--seccomp", str(fds[-1])]
        # A session of its own is a scheduling group of its own (autogroup): what runs in it cannot crowd out process 1.
        inside = ["--", self._prlimit, *_prlimit_words(limits), "--", self._setsid, "--", *argv]
        try:
            ended = supervise(
                lambda status_fd: [*words, "--json-status-fd", str(status_fd), *inside],
                pass_fds=fds,
                process_1=_process_1,
                stdin=stdin,
                limits=limits,
                workdir=workdir,
            )
        finally:
            for fd in fds:
                os.close(fd)
        return _completed(ended)

    def _set_up(self, plan: Sequence[Mount]) -> Iterator[str]:
        """The whole set-up in bubblewrap's words."""
        yield from _ALONE
        yield from ("--unsetenv", MARK, "--uid", str(UID), "--gid", str(UID), "--hostname", HOSTNAME)
        if "--disable-userns" in self._options:
            yield "--disable-userns"
        yield from ("--proc", "/proc")
        for path in proc_read_only():
            # bubblewrap itself leaves /proc/sys writable, and to the host's root that is the host's /proc/sys.
            yield from ("--ro-bind", path, path)
        for path in proc_hidden():
            yield from ("--ro-bind", "/dev/null", path)
        # Process 1 is bubblewrap, which anything inside could read and write to: its memory, its environment, the
        # descriptor that its report goes to.
        yield from ("--tmpfs", "/proc/1", "--remount-ro", "/proc/1", "--dev", "/dev")
        for mount in plan:
            yield from self._words(mount)
        for mount in plan:
            if mount.kind == "hidden":
                yield from ("--remount-ro", mount.target)
        # What bubblewrap puts at /dev is a folder in memory without a limit; /dev/shm in it is ours.
        yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(BOX))

    def _words(self, mount: Mount) -> Iterator[str]:
        """One line of the layout in bubblewrap's words."""
        if mount.kind == "link":
            yield from ("--symlink", mount.source, mount.target)
        elif mount.kind in ("read_only", "writable"):
            yield from ("--bind" if mount.kind == "writable" else "--ro-bind", mount.source, mount.target)
        else:
            if mount.kind == "tmpfs":
                if "--perms" in self._options:
                    yield from ("--perms", "1777")
                if "--size" in self._options:
                    yield from ("--size", str(mount.size_bytes))
            yield from ("--tmpfs", mount.target)


def _environment(env: Mapping[str, str]) -> Iterator[str]:
    """The command's environment and none of what a shell on the way may have set."""
    for name in ("OLDPWD", "SHLVL", "_"):
        yield from ("--unsetenv", name)
    for name, value in env.items():
        yield from ("--setenv", name, value)


def _prlimit_words(limits: Limits) -> list[str]:
    values = rlimits(limits, own_processes=_OWN_PROCESSES)
    return [f"--{name.removeprefix('RLIMIT_').lower()}={soft}:{hard}" for name, (soft, hard) in values.items()]


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        from runners.sandbox.advice import install_command

        raise SandboxUnavailable(f"{name} is not installed", install_command(package))
    return found


@cache
def _options(bwrap: str) -> frozenset[str]:
    """The options that this version knows; Debian 11 and Ubuntu 22.04 lack some."""
    text = subprocess.run(
        [bwrap, "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
        env={},
    ).stdout
    return frozenset(word for word in text.split() if word.startswith("--"))


def _process_1(report: bytes) -> int | None:
    """The process whose end is the end of all others inside; bubblewrap's outer process does not wait for it."""
    line, newline, _ = report.partition(b"\n")
    return json.loads(line).get("child-pid") if newline else None


def _completed(ended: Ended) -> Completed:
    """Read bubblewrap's JSON status: `exit-code` is there once the command was started and ended."""
    exit_code: int | None = None
    signal: int | None = None
    for line in ended.report.decode("utf-8", "replace").splitlines():
        status = json.loads(line)
        if "exit-code" in status:
            exit_code = int(status["exit-code"])
    if exit_code is None and ended.limit == "time_limit" and not ended.report:
        raise SandboxFailed("bubblewrap had not begun at the time limit: the machine is too busy")
    if exit_code is None and ended.limit is None and ended.returncode == 1:
        raise SandboxFailed("bubblewrap could not set up the sandbox", ended.stderr.decode("utf-8", "replace").strip())
    if exit_code is not None and _SIGNAL_BASE < exit_code <= _SIGNAL_BASE + _SIGNAL_MAX:
        signal = exit_code - _SIGNAL_BASE
        exit_code = None
    return Completed.of(
        ended.stdout,
        ended.stderr,
        exit_code=exit_code,
        signal=signal,
        limit=ended.limit,
        wall_s=ended.wall_s,
        idle=ended.idle,
    )
