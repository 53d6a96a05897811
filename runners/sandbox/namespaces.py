"""The sandbox made of what the kernel gives an ordinary user: namespaces, Landlock, resource limits."""

from __future__ import annotations

import marshal
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runners.sandbox.base import BOX, DEFAULT_LIMITS, SYSTEM_ONLY, Completed, Limits, SandboxFailed, View, called
from runners.sandbox.cgroup import place
from runners.sandbox.fairly import run_fairly
from runners.sandbox.layout import HOSTNAME, UID, mounts, proc_hidden, proc_read_only
from runners.sandbox.rlimits import rlimits
from runners.sandbox.seccomp import seccomp_filter
from runners.sandbox.supervise import Ended, holding, supervise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LAUNCHER = Path(__file__).with_name("launcher.py")
# The launcher and process 1 count as the user's processes inside.
_OWN_PROCESSES = 2


class NamespaceSandbox:
    """Each run in new user, mount, PID, network, IPC, UTS and cgroup namespaces (launcher.py)."""

    def __init__(self) -> None:
        self._filter = seccomp_filter()
        self.isolation = self._called(landlock=False)

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
        config = {
            "parent": os.getpid(),
            "uid": UID,
            "hostname": HOSTNAME,
            "mounts": [asdict(mount) for mount in mounts(workdir, view, limits)],
            "proc_read_only": list(proc_read_only()),
            "proc_hidden": list(proc_hidden()),
            "seccomp": self._filter or b"",
            "rlimits": rlimits(limits, own_processes=_OWN_PROCESSES),
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(BOX),
        }

        config_fd = holding(marshal.dumps(config))
        # -X utf8: paths arrive as they are, whatever the locale.
        words = [_python(), "-I", "-S", "-B", "-X", "utf8", str(_LAUNCHER), str(config_fd)]
        try:
            ended = supervise(
                lambda status_fd: [*words, str(status_fd)],
                pass_fds=[config_fd],
                stdin=stdin,
                limits=limits,
                workdir=workdir,
            )
        finally:
            os.close(config_fd)
        if _has_landlock(ended.report):
            self.isolation = self._called(landlock=True)
        return _completed(ended)

    def _called(self, *, landlock: bool) -> str:
        return called("namespaces", landlock=landlock, seccomp=self._filter is not None, cgroup=place() is not None)


def _python() -> str:
    """The interpreter below the virtual environment; it starts faster without one."""
    base: str = getattr(sys, "_base_executable", "") or sys.executable
    return base


def _has_landlock(report: bytes) -> bool:
    return any(line.startswith(b"landlock ") and line != b"landlock 0" for line in report.splitlines())


def _completed(ended: Ended) -> Completed:
    """Read the launcher's report."""
    exit_code = signal = None
    started = False
    for line in ended.report.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "started":
            started = True
        elif word == "exit":
            exit_code = int(rest)
        elif word == "signal":
            signal = int(rest)
        elif word == "error":
            raise SandboxFailed(f"the sandbox could not be set up: {rest}")
    if not started and ended.limit == "time_limit":
        raise SandboxFailed("the sandbox was not ready at the time limit: the machine is too busy")
    if not started and ended.limit is None:
        raise SandboxFailed("the sandbox ended before the command was started", ended.stderr.decode("utf-8", "replace"))
    return Completed.of(
        ended.stdout,
        ended.stderr,
        exit_code=exit_code,
        signal=signal,
        limit=ended.limit,
        wall_s=ended.wall_s,
        idle=ended.idle,
    )
