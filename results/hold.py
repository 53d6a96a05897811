"""Holds a run's attempts for one writer, and notices when their folder is not there any more."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path
from typing import Final

from results.figures import count
from results.plainfile import open_plain
from results.reading import StoreError

LOCK_FILE: Final = "attempts.lock"
"""Beside the folder. It stays; what counts is who holds a lock on it, which the kernel lets go with its holder."""

_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Hold:
    """The right to write to `attempts` in `run_folder`, until `release`.

    On file systems without locks it is given to everybody: two writers never write to one file there, and readers of
    ours count an attempt once, but other readers see what both wrote.

    Raises:
        StoreError: Another process writes there, or another store of this one.
        OSError: The lock cannot be made.
    """

    def __init__(self, run_folder: Path, attempts: Path) -> None:
        self._run_folder, self._attempts = run_folder, attempts
        lock = open_plain(run_folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        self._release = weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            if error.errno not in _NO_LOCKS:
                self._release()
            if isinstance(error, BlockingIOError):
                raise StoreError(
                    f"{run_folder}: its results are being written by {holder}",
                    "Wait for it, or stop it; `quantsweep show` reads them meanwhile.",
                ) from None
            if error.errno not in _NO_LOCKS:
                raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        # Kept open: the inode of a folder that is gone cannot become another folder's.
        self._folder = os.open(attempts, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._folder)

    @property
    def released(self) -> bool:
        """Whether it was let go."""
        return not self._release.alive

    def release(self) -> None:
        """Let the next writer in."""
        self._close()
        self._release()

    def check(self, attempts: int) -> None:
        """Make sure that what is written now comes to lie beside what was written before.

        Args:
            attempts: How many were committed, for the message.

        Raises:
            StoreError: The folder was deleted or moved; what that means for the attempts in it.
        """
        if self.released:
            raise StoreError(f"{self._run_folder}: the store is closed", "Open it again to commit to it.")
        ours = os.fstat(self._folder)
        try:
            there = self._attempts.stat()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise
        else:
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        kept = count(attempts, "attempt")
        # A folder that was deleted has no name left.
        where = _name_of(self._folder) if ours.st_nlink else None
        if where is not None:
            raise StoreError(
                f"{self._attempts}: this folder was moved to {where} while the sweep ran; {kept} committed before "
                f"{'is' if attempts == 1 else 'are'} there",
                "Move it back and start the same sweep again: it goes on.",
            )
        raise StoreError(
            f"{self._attempts}: this folder was deleted while the sweep ran, and {kept} committed before "
            f"{'is' if attempts == 1 else 'are'} lost with it",
            "Start the same sweep again: without its run folder it begins anew.",
        )


def _name_of(folder: int) -> Path | None:
    """What an open folder is called now, where the system says it."""
    try:
        name = Path(f"/proc/self/fd/{folder}").readlink()
    except OSError:
        return None
    return None if str(name).endswith(" (deleted)") else name
