"""What a sandbox shows of the host, as a list of mounts that both kinds of sandbox carry out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runners.sandbox.base import BOX, Limits, View

UID = 1000
HOSTNAME = "sandbox"

# The top-level folders that a program's loader and shell need; on merged-usr systems they are links into /usr.
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store")
# Nothing of /etc but what programs need to start; passwd and hosts are ours, the host's users stay unknown.
_HOST_ETC = ("ld.so.cache", "alternatives", "fonts")
_OWN_ETC = ("passwd", "group", "hosts", "nsswitch.conf")
# Parts of /proc with settings of the whole machine. What runs inside has no capabilities, but where quantsweep runs as
# root it still is the owner of these files, and their owner may write to them (runc keeps them read-only as well).
_PROC_SETTINGS = ("acpi", "asound", "bus", "driver", "fs", "irq", "scsi", "sys", "sysrq-trigger")
# Parts of /proc that tell of the host's keys and memory and that no capability guards, or that root may open.
_PROC_SECRETS = ("kcore", "key-users", "keys", "latency_stats", "sched_debug", "slabinfo", "timer_list")
_SHM_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Mount:
    """One thing to put into the new root.

    `read_only` and `writable` bind `source`; `link` makes a symbolic link to `source`; `tmpfs` makes a folder of at
    most `size_bytes` and `inodes` in memory; `hidden` covers what is there with an empty read-only folder.
    """

    kind: Literal["read_only", "writable", "link", "tmpfs", "hidden"]
    target: str
    source: str = ""
    size_bytes: int = 0
    inodes: int = 0


def mounts(workdir: Path, view: View, limits: Limits) -> tuple[Mount, ...]:
    """Everything inside but /proc and /dev, parents before children."""
    own = Path(__file__).parent / "etc"
    inodes = limits.files + 1  # and the folder itself
    plan = [
        *_system(),
        *_etc(own),
        Mount("tmpfs", "/dev/shm", size_bytes=min(limits.file_bytes, _SHM_BYTES), inodes=inodes),  # noqa: S108 - a path inside
        Mount("tmpfs", "/tmp", size_bytes=limits.file_bytes, inodes=inodes),  # noqa: S108 - a path inside
        Mount("writable", str(BOX), os.path.realpath(workdir)),
    ]
    # After /tmp, because an installation may lie there.
    shown = [Path("/", name) for name in _SYSTEM]
    for path in (Path(os.path.realpath(p)) for p in view.read_only):
        if path.exists() and not any(path.is_relative_to(parent) for parent in shown):
            plan.append(Mount("read_only", str(path), str(path)))
            shown.append(path)
    plan += [
        Mount("hidden", str(path))
        for path in (Path(os.path.realpath(p)) for p in view.hidden)
        if path.is_dir() and any(path.is_relative_to(parent) for parent in shown)
    ]
    plan += [Mount("read_only", str(inside), os.path.realpath(host)) for host, inside in view.placed]
    return tuple(plan)


def proc_read_only() -> tuple[str, ...]:
    """The paths in /proc that must be read-only inside."""
    return tuple(path for name in _PROC_SETTINGS if os.path.lexists(path := f"/proc/{name}"))


def proc_hidden() -> tuple[str, ...]:
    """The files in /proc that must not be readable inside."""
    return tuple(path for name in _PROC_SECRETS if Path(path := f"/proc/{name}").is_file())


def _system() -> list[Mount]:
    found = []
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            found.append(Mount("link", str(path), str(path.readlink())))
        elif path.is_dir():
            found.append(Mount("read_only", str(path), str(path)))
    return found


def _etc(own: Path) -> list[Mount]:
    host = [Path("/etc", name) for name in _HOST_ETC]
    found = [Mount("read_only", str(path), os.path.realpath(path)) for path in host if path.exists()]
    found += [Mount("read_only", f"/etc/{name}", str(own / name)) for name in _OWN_ETC]
    return found
