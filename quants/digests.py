"""Sizes and sha256 of local files, remembered so that a 20 GB file is hashed once and not at every start."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quants.errors import FetchCancelledError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES: Final = 4 * 1024 * 1024
# A file written to within this time may change again without its time stamp showing it (FAT counts in two seconds).
_SETTLED_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a file's content is taken to be unchanged by. Anybody may set `mtime_ns`, only the kernel `ctime_ns`."""

    path: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def cache_folder() -> Path:
    """Where quantsweep keeps what it can make anew: `$XDG_CACHE_HOME/quantsweep` or `~/.cache/quantsweep`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "quantsweep"


def file_sha256(
    path: Path,
    *,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    trust_memory: bool = True,
) -> str:
    """The sha256 of a file, from memory if path, size, times and inode are those of the last time.

    Args:
        path: the file.
        progress: called with the number of bytes hashed since the last call.
        cancelled: asked between chunks.
        trust_memory: False hashes in any case.

    Raises:
        SourceError: it cannot be read, or changed while it was read.
        FetchCancelledError: `cancelled` returned True.
    """
    real = path.resolve()
    try:
        before = _identity(real)
        if trust_memory:
            remembered = _recall(before)
            if remembered is not None:
                if progress is not None:
                    progress(before.size_bytes)
                return remembered
        digest = hashlib.sha256()
        with real.open("rb", buffering=0) as file:
            buffer = bytearray(CHUNK_BYTES)
            view = memoryview(buffer)
            while count := file.readinto(buffer):
                digest.update(view[:count])
                if progress is not None:
                    progress(count)
                if cancelled is not None and cancelled():
                    raise FetchCancelledError(f"hashing {path} was cancelled")
        after = _identity(real)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    if before != after:
        raise SourceError(f"{path} changed while it was read", "Wait until it is written, then try again")
    if time.time() - after.mtime_ns / 1e9 > _SETTLED_S:
        _remember(after, digest.hexdigest())
    return digest.hexdigest()


def remember_verified(path: Path, sha256: str) -> None:
    """Note the digest of a file that was just written and verified, so that it need not be read again at once.

    Only for files that nobody writes to any more (a finished download under its final name).
    """
    try:
        _remember(_identity(path.resolve()), sha256)
    except OSError:
        return


def forget(path: Path) -> None:
    """Drop what is remembered about a file."""
    _entry(str(path.resolve())).unlink(missing_ok=True)


def _identity(path: Path) -> _Identity:
    status = path.stat()
    return _Identity(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _entry(path: str) -> Path:
    return cache_folder() / "sha256" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.json"


def _recall(identity: _Identity) -> str | None:
    try:
        entry = json.loads(_entry(identity.path).read_bytes())
        known = _Identity(entry["path"], entry["size_bytes"], entry["mtime_ns"], entry["ctime_ns"], entry["inode"])
        sha256 = str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # nothing remembered, or an entry that a crash or another version left
    return sha256 if known == identity and len(sha256) == 64 else None


def _remember(identity: _Identity, sha256: str) -> None:
    entry = {
        "path": identity.path,
        "size_bytes": identity.size_bytes,
        "mtime_ns": identity.mtime_ns,
        "ctime_ns": identity.ctime_ns,
        "inode": identity.inode,
        "sha256": sha256,
    }
    write_atomically(_entry(identity.path), json.dumps(entry))


def write_atomically(target: Path, text: str) -> None:
    """Write a cache entry so that no reader ever sees half of it; a read-only home is no error, only slower."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return
