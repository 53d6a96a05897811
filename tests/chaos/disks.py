"""Small disks of a sweep: a tmpfs each where this process may mount one, so that they can really be full."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
_FULL = {errno.ENOSPC, errno.EDQUOT}


@cache
def can_mount() -> bool:
    """Whether this process may mount file systems: root outside of most containers."""
    if os.geteuid() != 0:
        return False
    with TemporaryDirectory(prefix="chaos-probe-") as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
        )
        if done.returncode == 0:
            subprocess.run(["umount", folder], capture_output=True, check=False)
    return done.returncode == 0


class Disk:
    """A folder on a file system of its own. `folder` lies one level below its root, beside what fills it."""

    def __init__(self, root: Path, *, size_bytes: int, inodes: int) -> None:
        self.root, self.folder = root, root / "data"
        self.can_be_full = can_mount()
        self._ballast = root / "ballast"
        root.mkdir(parents=True)
        if self.can_be_full:
            options = f"size={size_bytes},nr_inodes={inodes},mode=755"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(root)], check=True)
        self.folder.mkdir()

    def fill(self, *, pages_left: int = 0) -> None:
        """Leaves room for so many pages of 4 KiB."""
        free = os.statvfs(self.root)
        size = max(0, free.f_bavail * free.f_frsize - pages_left * PAGE)
        with self._ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, size))

    def fill_inodes(self) -> None:
        """Leaves room for no new file, but for bytes in those that are there."""
        self._ballast.mkdir(exist_ok=True)
        for number in range(1_000_000):
            try:
                (self._ballast / str(number)).touch()
            except OSError as error:
                if error.errno in _FULL:
                    return
                raise

    @property
    def is_full(self) -> bool:
        """Whether something of ours fills it now."""
        return self._ballast.exists()

    def clear(self) -> None:
        """Gives the room back."""
        if self._ballast.is_dir():
            for path in self._ballast.iterdir():
                path.unlink()
            self._ballast.rmdir()
        else:
            self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmounts it. What lies on it is gone, where it is a file system of its own."""
        if self.can_be_full:
            # Lazily: a process that is being killed may still have a file open.
            subprocess.run(["umount", "--lazy", str(self.root)], check=False)
