"""Opens files of a run folder: plain files, of a size that we write; whatever else stands there is named, and not read.

A run folder is handed around, and anything may lie in it by the name of a file of ours. A pipe would keep its reader
for ever, a device would fill the memory, and a link would have us write to somebody's file elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


class NotPlainError(OSError):
    """What stands there is no plain file, or larger than anything that we write; `strerror` says which."""


def open_plain(path: Path, flags: int, *, most_bytes: int | None = None) -> int:
    """A descriptor of the plain file at `path`, itself and not what it links to; `os.O_CREAT` makes it, mode 0644.

    Returns at once, whatever stands there. The descriptor is not inherited.

    Raises:
        NotPlainError: It is a link, a pipe, a device, a socket or a folder, or has more than `most_bytes`.
        OSError: As `os.open`.
    """
    guard = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | guard, 0o644)
    except OSError as error:
        # A link gives ELOOP; a pipe without a reader or a socket ENXIO; a folder EISDIR: each has a word of its own.
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV} and (kind := _kind_at(path)):
            raise _refusal(path, f"it is {kind}, not a file of quantsweep") from None
        raise
    try:
        _refuse_odd(path, os.fstat(descriptor), most_bytes)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_plain(path: Path, *, most_bytes: int) -> bytes:
    """What the plain file at `path` holds.

    Raises:
        NotPlainError, OSError: As `open_plain`.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY, most_bytes=most_bytes), "rb") as file:
        return file.read(most_bytes)  # it may grow meanwhile


def plain_folder(path: Path) -> None:
    """Make the folder at `path` if it is not there. It may be a link to one, as where a disk is too small.

    Raises:
        NotPlainError: Something else stands there.
        OSError: It cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError:
        raise _refusal(path, f"it is {_kind_at(path) or 'a file'}, and has to be a folder") from None


def names_in(path: Path) -> list[str]:
    """What is in the folder at `path`, which may be a link to one.

    Raises:
        NotPlainError: Something else stands there.
        OSError: It is not there, or cannot be read.
    """
    try:
        return [entry.name for entry in path.iterdir()]
    except NotADirectoryError:
        raise _refusal(path, f"it is {_kind_at(path) or 'a file'}, and has to be a folder") from None


def _refuse_odd(path: Path, found: os.stat_result, most_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _refusal(path, f"it is {_kind_of(found.st_mode)}, not a file of quantsweep")
    if most_bytes is not None and found.st_size > most_bytes:
        raise _refusal(path, f"it has {found.st_size:,} bytes, and nothing that quantsweep writes there so many")


def _kind_at(path: Path) -> str | None:
    """What stands at `path`, if it is no plain file."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _kind_of(mode)


def _kind_of(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "no plain file")


def _refusal(path: Path, reason: str) -> NotPlainError:
    return NotPlainError(errno.EINVAL, reason, str(path))
