"""The folder that a program works in: fit for the next run whatever the last did to it, and how much is in it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from runners.sandbox.base import BOX, SandboxFailed
from runners.sandbox.cleanup import remove_tree

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path, PurePath

    from runners.sandbox.base import Limits

_OWNER = 0o700
# Who locks more folders than this does it to hide what is in them.
_MOST_UNLOCKED = 64
# openat2(2), the same number on every architecture.
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08

_LIBC = ctypes.CDLL(None, use_errno=True)


def prepare(workdir: Path, placed: Iterable[Path]) -> None:
    """Give `workdir` back to its owner and put an empty file wherever something is to be placed in it.

    A program owns its folder: it may lock it, or put a link, a pipe or a folder where the next run needs a file.
    Nothing runs in it now, so what is looked at here stays as it is.

    Args:
        workdir: The folder.
        placed: Where things will appear, as seen inside (`View.placed`).

    Raises:
        SandboxFailed: The folder does not exist or is not ours, or the disk is full.
    """
    if not workdir.is_dir():
        raise SandboxFailed(f"the work folder {workdir} does not exist")
    try:
        _unlock(workdir)
        for path in placed:
            if path.is_relative_to(BOX):
                make_file(workdir, path.relative_to(BOX))
    except OSError as error:
        raise SandboxFailed(f"the work folder {workdir} cannot be prepared: {error}") from error


def make_file(workdir: Path, inside: PurePath) -> None:
    """An empty file at `inside`, whatever a program put there or on the way; nothing may run in `workdir` now.

    Raises:
        OSError: There is no room, or a folder on the way is not ours.
    """
    path = workdir
    for name in inside.parts[:-1]:
        path /= name
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir()
        _unlock(path)
    path /= inside.name
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    if path.is_symlink() or not path.is_file():
        path.unlink(missing_ok=True)
        path.touch()


def _unlock(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OWNER != _OWNER:
        folder.chmod(mode | _OWNER)


class FolderWatch:
    """Whether a work folder has outgrown its size or its number of files, look after look."""

    def __init__(self, workdir: Path, limits: Limits) -> None:
        self._workdir, self._limits = workdir, limits
        self._locked: frozenset[str] = frozenset()

    def exceeded(self, removed_bytes: int = 0, *, running: bool = True) -> bool:
        """Walk through the folder.

        A folder that its owner may not read is unlocked for as long as the walk takes, but while a program runs only
        if it was locked at the last look too: one that locks a folder to see whether it is locked does not wait so
        long.

        Args:
            removed_bytes: What files hold that were removed and are still open.
            running: Whether a program may be at work in it now.
        """
        try:
            root = os.open(self._workdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False  # it is not there any more
        walk = _Walk(root, self._limits.file_bytes - removed_bytes, self._limits.files)
        try:
            walk.go(self._locked if running else None)
        finally:
            walk.restore()
            os.close(root)
        self._locked = frozenset(walk.locked)
        return walk.over


class _Walk:
    """One walk, below a descriptor and through no link: the program may put one anywhere while it goes on."""

    def __init__(self, root: int, most_bytes: int, most_files: int) -> None:
        self._root, self._most_bytes, self._most_files = root, most_bytes, most_files
        self._bytes = self._files = 0
        self._counted: set[tuple[int, int]] = set()  # what has several names counts once
        self._unlocked: list[tuple[int, int]] = []  # descriptor, mode before
        self.locked: set[str] = set()
        self.over = False

    def go(self, may_unlock: Container[str] | None) -> None:
        """Count until all is counted or the limit is exceeded; `may_unlock` None: any folder."""
        waiting = ["."]
        while waiting and not self.over:
            name = waiting.pop()
            try:
                waiting += self._through(name)
            except PermissionError:
                self.locked.add(name)
                if may_unlock is None or name in may_unlock:
                    with contextlib.suppress(OSError):
                        self._unlock(name)
                        waiting += self._through(name)
            except OSError as error:
                # Nested so deep that it has no name any more: nothing but a program that hides something needs that.
                self.over = self.over or error.errno == errno.ENAMETOOLONG

    def restore(self) -> None:
        """Lock again what was unlocked, unless the program has changed it meanwhile."""
        for fd, mode in reversed(self._unlocked):
            with contextlib.suppress(OSError):
                if stat.S_IMODE(os.fstat(fd).st_mode) == mode | _OWNER:
                    os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101 - the descriptor, whatever its name is now
            os.close(fd)

    def _through(self, name: str) -> list[str]:
        """Count what the folder holds; returns the folders in it."""
        folders = []
        fd = open_below(self._root, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    self._count(status)
                    if self.over:
                        break
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(f"{name}/{entry.name}")
        finally:
            os.close(fd)
        return folders

    def _count(self, status: os.stat_result) -> None:
        self._files += 1
        key = (status.st_dev, status.st_ino)
        if status.st_nlink == 1 or key not in self._counted:
            self._bytes += status.st_blocks * 512
            self._counted.add(key)
        self.over = self._bytes > self._most_bytes or self._files > self._most_files

    def _unlock(self, name: str) -> None:
        if len(self._unlocked) >= _MOST_UNLOCKED:
            self.over = True
            return
        # The work folder itself: a name in it can no longer be looked up, not even `.`.
        fd = os.dup(self._root) if name == "." else open_below(self._root, name, os.O_PATH | os.O_DIRECTORY)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        self._unlocked.append((fd, mode))
        os.chmod(f"/proc/self/fd/{fd}", mode | _OWNER)  # noqa: PTH101 - see above


def open_below(root: int, name: str, flags: int) -> int:
    """openat2(2): a descriptor of what lies below `root` without a link on the way.

    Raises:
        OSError: It is not there, is no folder, is locked, or is reached by a link.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    how = struct.pack("=QQQ", flags, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)
    fd = int(_LIBC.syscall(_SYS_OPENAT2, root, os.fsencode(name), how, ctypes.c_size_t(len(how))))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EPERM):  # a kernel before 5.6; a container that does not know the call
        return os.open(name, flags, dir_fd=root)
    raise OSError(number, os.strerror(number), name)
