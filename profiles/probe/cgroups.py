"""The limits that a container or a service manager puts on this process: memory and CPU, cgroup versions 1 and 2.

A limit may sit on any level between the process's own group and the root, so every level is read and the tightest wins.
What may still be taken is ``limit - (usage - inactive file cache)``: the kernel drops that cache before it refuses
memory (Documentation/admin-guide/cgroup-v2.rst, "Memory").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiles.probe.system import System

V1_UNLIMITED_BYTES = 1 << 62
"""Version 1 writes "no limit" as the largest page-aligned 64-bit number; anything this large is no limit."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest memory limit above this process; ``source`` names the file that holds it."""

    limit_bytes: int
    free_bytes: int | None
    source: str


@dataclass(frozen=True, slots=True)
class _Group:
    version: int
    path: Path
    mount: Path

    def levels(self) -> Iterator[Path]:
        """The group's own folder, then each one above it, up to the mount point."""
        path = self.path
        while True:
            yield path
            if path == self.mount or self.mount not in path.parents:
                return
            path = path.parent


def memory_limit(system: System) -> MemoryLimit | None:
    """The tightest memory limit on this process, None where there is none."""
    tightest: MemoryLimit | None = None
    free: int | None = None
    for group in _groups(system, "memory"):
        limit_name, usage_name, cache_key = (
            ("memory.max", "memory.current", "inactive_file")
            if group.version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        for level in group.levels():
            limit = system.integer(level / limit_name)
            if limit is None or limit <= 0 or limit >= V1_UNLIMITED_BYTES:
                continue
            usage = system.integer(level / usage_name)
            if usage is not None:
                held = max(0, usage - _stat(system, level / "memory.stat").get(cache_key, 0))
                room = max(0, limit - held)
                free = room if free is None else min(free, room)
            if tightest is None or limit < tightest.limit_bytes:
                shown = "/" + str((level / limit_name).relative_to(system.root))
                tightest = MemoryLimit(limit, None, f"cgroup v{group.version} {shown}")
    if tightest is None:
        return None
    return MemoryLimit(tightest.limit_bytes, free, tightest.source)


def cpu_quota(system: System) -> float | None:
    """How many cores' worth of time this process may use (quota / period), None where it is not limited."""
    tightest: float | None = None
    for group in _groups(system, "cpu"):
        for level in group.levels():
            quota = _quota(system, group.version, level)
            if quota is not None:
                tightest = quota if tightest is None else min(tightest, quota)
    return tightest


def _quota(system: System, version: int, level: Path) -> float | None:
    if version == 2:
        words = (system.text(level / "cpu.max") or "").split()
        if len(words) != 2 or not words[0].isdecimal() or not words[1].isdecimal():
            return None
        quota, period = int(words[0]), int(words[1])
    else:
        quota = system.integer(level / "cpu.cfs_quota_us") or 0
        period = system.integer(level / "cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None


def _groups(system: System, controller: str) -> list[_Group]:
    """Where this process's group of that controller lies: at most one of version 1 and one of version 2."""
    groups = []
    mounts = list(_mounts(system))
    for line in (system.text("/proc/self/cgroup") or "").splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        number, controllers, path = fields
        version = 2 if number == "0" and not controllers else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        for mount in mounts:
            if mount.version == version and (version == 2 or controller in mount.controllers):
                groups.append(_Group(version, _inside(mount, path), mount.point))
                break
    return groups


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    root: str
    point: Path
    controllers: tuple[str, ...]


def _mounts(system: System) -> Iterator[_Mount]:
    """The cgroup file systems of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""
    for line in (system.text("/proc/self/mountinfo") or "").splitlines():
        before, dash, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if not dash or len(fields) < 5 or len(tail) < 3 or tail[0] not in {"cgroup", "cgroup2"}:
            continue
        version = 2 if tail[0] == "cgroup2" else 1
        yield _Mount(version, _unescape(fields[3]), system.path(_unescape(fields[4])), tuple(tail[2].split(",")))


def _inside(mount: _Mount, path: str) -> Path:
    """A group's folder. A container may see the host's path in ``/proc/self/cgroup`` but only its own part mounted."""
    inner = path
    if mount.root != "/":
        inner = path.removeprefix(mount.root) if path.startswith(mount.root) else "/"
    if ".." in inner.split("/"):
        inner = "/"  # A group outside our namespace: what is mounted is all that we may see.
    folder = mount.point / inner.strip("/")
    return folder if folder.is_dir() else mount.point


def _stat(system: System, path: Path) -> dict[str, int]:
    pairs = (line.split() for line in (system.text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
