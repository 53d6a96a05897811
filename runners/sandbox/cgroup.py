"""A memory cgroup for each run, where this process may make one; where not, memory.py counts from outside.

Found once a process and tried: version 2 where an ancestor of ours hands the memory controller to its children and is
ours to write (a delegated systemd user session, or root), else version 1 below our own group (root).
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import time
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runners.sandbox.base import Limits, SandboxFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PREFIX = "quantsweep-"
# What the sandbox's own processes take, beside the command's.
_OWN_BYTES = 16 * 1024 * 1024
# The first to be ended where the whole machine runs out of memory, before any engine; then into the group, if any.
_ENTER = '{ echo 1000 > /proc/self/oom_score_adj; } 2>/dev/null; [ -z "$0" ] || echo 0 > "$0" || exit 1; exec "$@"'
_TRIAL_TIMEOUT_S = 10.0
# An ended process leaves its group when the kernel has taken it apart.
_EMPTY_S = 2.0
_serial = itertools.count()


class Place:
    """A group of ours below which each run gets a group of its own, used again by later runs.

    Used again, because the kernel keeps what is left of a removed group for as long as some page was counted for it,
    and has room for 65,535.

    Attributes:
        version: Of cgroups; they differ in every name.
        folder: The group that ours are made in.
    """

    def __init__(self, version: Literal[1, 2], folder: Path) -> None:
        self.version, self.folder = version, folder
        self._free: deque[Group] = deque()
        self._all: list[Group] = []
        self._pid = os.getpid()

    def take(self, limits: Limits) -> Group:
        """A group that nobody is in.

        Raises:
            OSError: It cannot be made any more.
        """
        with contextlib.suppress(IndexError):
            while True:
                group = self._free.pop()
                with contextlib.suppress(OSError):  # busy: the kernel has not let go of what it held
                    group.limit(limits)
                    return group
        group = Group(self.version, self.folder / f"{_PREFIX}{self._pid}-{next(_serial)}")
        group.folder.mkdir()
        self._all.append(group)
        group.limit(limits)
        return group

    def give_back(self, group: Group) -> None:
        """For the next run; a group that somebody is still in is left alone."""
        if group.is_empty():
            self._free.append(group)

    def remove(self) -> None:
        """Take away what this process made and nobody is in; a later process sweeps the rest."""
        if os.getpid() == self._pid:  # not in a process that was forked from this one
            for group in self._all:
                with contextlib.suppress(OSError):
                    group.folder.rmdir()


class Group:
    """The memory of one run, which the kernel counts and bounds: shared, in files and in the kernel alike."""

    def __init__(self, version: Literal[1, 2], folder: Path) -> None:
        self.version, self.folder = version, folder
        self._before = 0

    def limit(self, limits: Limits) -> None:
        """Set what the group may use from now on; swap is no way around it."""
        most = str(limits.memory_bytes + _OWN_BYTES)
        if self.version == 2:
            self._set("memory.max", most)
            self._may_set("memory.swap.max", "0")
            self._may_set("memory.oom.group", "1")  # Linux 4.19
        else:
            # Memory and swap together may not be less than memory.
            self._may_set("memory.memsw.limit_in_bytes", "-1")
            self._set("memory.limit_in_bytes", most)
            self._may_set("memory.memsw.limit_in_bytes", most)
        self._before = self._ended_for_memory()

    def exceeded(self) -> bool:
        """Whether the kernel has ended a process for want of memory in this run."""
        return self._ended_for_memory() > self._before

    def is_empty(self) -> bool:
        """Whether all have left; an ended process does so when the kernel has taken it apart."""
        deadline = time.monotonic() + _EMPTY_S
        while time.monotonic() < deadline:
            try:
                if not (self.folder / "cgroup.procs").read_bytes():
                    return True
            except OSError:
                return False
            time.sleep(0.002)
        return False

    def _ended_for_memory(self) -> int:
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in (self.folder / name).read_text(encoding="ascii").splitlines():
                word, _, count = line.partition(" ")
                if word == "oom_kill":
                    return int(count)
        return 0

    def _set(self, name: str, value: str) -> None:
        (self.folder / name).write_text(value, encoding="ascii")

    def _may_set(self, name: str, value: str) -> None:
        """What this kernel may have been built or started without."""
        with contextlib.suppress(OSError):
            self._set(name, value)


@contextlib.contextmanager
def memory_group(limits: Limits) -> Iterator[Group | None]:
    """A group for one run; None where none can be made.

    Raises:
        SandboxFailed: They could be made when this process began, and rows say so, but no more.
    """
    where = place()
    if where is None:
        yield None
        return
    try:
        group = where.take(limits)
    except OSError as error:
        raise SandboxFailed(f"no memory cgroup can be made in {where.folder} any more: {error}") from error
    try:
        yield group
    finally:
        where.give_back(group)


def entering(group: Group | None, words: Sequence[str]) -> list[str]:
    """The command that becomes `words` inside the group: it goes in itself, so nothing is started outside."""
    procs = str(group.folder / "cgroup.procs") if group else ""
    return ["/bin/sh", "-c", _ENTER, procs, *words]


def place() -> Place | None:
    """Where this process may make groups; None where it may not. Sweeps what ended processes left there."""
    return _place(os.getpid())


def leave() -> None:
    """Take away the groups of this process, as its end does: for an actor of Ray, which is killed instead."""
    if _place.cache_info().currsize and (where := place()) is not None:
        where.remove()


@lru_cache(maxsize=1)
def _place(pid: int) -> Place | None:
    del pid  # the key alone: a process forked from this one finds a place of its own
    for candidate in _candidates(Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")):
        if _works(candidate):
            _sweep(candidate.folder)
            atexit.register(candidate.remove)
            return candidate
        candidate.remove()
    return None


def _candidates(mounts: Path, own: Path) -> Iterator[Place]:
    """Places that look right, the nearest first."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        groups = dict(_own_groups(own.read_text(encoding="utf-8", errors="surrogateescape")))
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        root, point = before.split()[3:5]
        path = groups.get("memory" if kind == "cgroup" else "")
        if path is None or not (path + "/").startswith(root.rstrip("/") + "/"):
            continue
        folder = Path(point, path.removeprefix(root.rstrip("/")).strip("/"))
        if kind == "cgroup2":
            for ancestor in (folder, *folder.parents):
                if not ancestor.is_relative_to(point):
                    break
                if "memory" in _words(ancestor / "cgroup.subtree_control") and _is_ours(ancestor):
                    yield Place(2, ancestor)
        elif kind == "cgroup" and "memory" in options.replace(",", " ").split() and _is_ours(folder):
            yield Place(1, folder)


def _own_groups(text: str) -> Iterator[tuple[str, str]]:
    """Of /proc/self/cgroup: each controller's group; that of version 2 is called by the empty word."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _is_ours(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _works(candidate: Place) -> bool:
    """Whether a process of ours gets in: the kernel asks for more than the permissions of one folder."""
    try:
        group = candidate.take(Limits())
    except OSError:
        return False
    try:
        trial = subprocess.run(
            entering(group, ["/bin/sh", "-c", ":"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={},
            check=False,
            timeout=_TRIAL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        candidate.give_back(group)
    return trial.returncode == 0


def _sweep(folder: Path) -> None:
    """Remove the empty groups of processes that were killed."""
    for group in folder.glob(f"{_PREFIX}*-*"):
        pid = group.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                group.rmdir()
