"""Files that are there whole or not at all, whatever kills the writer: temporary file, fsync, link or rename.

A temporary file begins with a dot and does not end in `.parquet`, so no reader's glob finds it. Its writer holds a
lock on it, so that `clean_leftovers` can tell a dead writer's file from one being written now.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
from typing import TYPE_CHECKING, BinaryIO, Final

from results.plainfile import open_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no room: disk, quota, largest file."""

Piece = bytes | memoryview | int
"""Of a file's content: bytes, or so many zeros, for which no disk space is taken. Bytes come last."""

_TEMPORARY = ".tmp"
_KEEP_SIZE = 0x01  # linux/falloc.h
_PUNCH_HOLE = 0x02
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
_LINK_TRIES = 3


def create_exclusive(target: Path, *content: Piece) -> bool:
    """Make `target` hold `content`, durably, unless it exists: the first writer wins, in any number of processes.

    Returns:
        True where this call made the file; False where it was there already, which is then durable as well.

    Raises:
        OSError: Nothing was written (see DISK_FULL); what was there before is untouched.
    """
    made = False
    if not target.exists():
        for tries_left in reversed(range(_LINK_TRIES)):
            try:
                with _temporary(target, content) as temporary:
                    made = _publish(temporary, target)
                break
            except FileNotFoundError:
                # Another process's clean_leftovers came between our open and our lock; or the folder is gone.
                if not tries_left:
                    raise
    sync_folder(target.parent)
    return made


def replace(target: Path, *content: Piece) -> None:
    """Make `target` hold `content`, durably; a reader sees the old file or the new one, never a part.

    Raises:
        OSError: The old file is still there (see DISK_FULL), or, if what failed was to make the new one's name durable,
            the new one is, whole.
    """
    write(target, *content)
    sync_folder(target.parent)


def write(target: Path, *content: Piece) -> None:
    """As `replace`, but for the name, which `sync_folder` makes durable for many at once.

    Raises:
        OSError: The old file is still there (see DISK_FULL).
    """
    with _temporary(target, content) as temporary:
        temporary.rename(target)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `target`, durably, when the block ends without an error."""
    with _temporary(target, ()) as temporary:
        with temporary.open("r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    sync_folder(target.parent)


def punch_hole(path: Path, begin: int, end: int) -> bool:
    """Give the disk space of bytes `begin` to `end` of `path` back, which read as zeros from then on.

    Returns:
        False where this system or file system cannot: nothing is changed then.
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return False
    try:
        return bool(fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, begin, end - begin) == 0)
    finally:
        os.close(descriptor)


def clean_leftovers(folder: Path) -> int:
    """Remove the temporary files of writers that are dead; how many there were."""
    removed = 0
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        try:
            descriptor = open_plain(leftover, os.O_RDONLY)
        except OSError:
            continue  # its writer was faster, or it is none of ours
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()
            removed += 1
        except OSError:
            continue  # being written now, or no locks here: harmless where it lies
        finally:
            os.close(descriptor)
    return removed


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where its file system knows how."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(target: Path, content: Iterable[Piece]) -> Iterator[Path]:
    """A file beside `target` that durably holds `content`, gone at the end unless it was renamed."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with contextlib.suppress(OSError):  # without locks, leftovers are kept rather than cleaned
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for piece in content:
            if isinstance(piece, int):
                os.lseek(descriptor, piece, os.SEEK_CUR)
                continue
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def _publish(temporary: Path, target: Path) -> bool:
    """Give `temporary` its final name; False where another file has it."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _rename_alone(temporary, target)
    return True


def _rename_alone(temporary: Path, target: Path) -> bool:
    """As a link, on file systems without hard links (FAT, some network and FUSE mounts).

    `rename` replaces what is there, so writers take turns: the lock goes with its holder's death, unlike a marker
    file made with O_EXCL, which a killed writer would leave behind for ever.
    """
    descriptor = open_plain(target.parent / ".commit.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if target.exists():
            return False
        temporary.rename(target)
    finally:
        os.close(descriptor)
    return True
