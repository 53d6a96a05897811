"""A folder for one piece of work, among the temporary files: removed when it is done, and after a kill by who is next.

Each is locked by its process (`flock` on the folder itself, which the kernel releases however the process ends), so
`collect` can tell what a killed agent left from what another one is using, also across containers that share a /tmp.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runners.sandbox.cleanup import remove_tree

if TYPE_CHECKING:
    from types import TracebackType

PREFIX = "quantsweep-scratch-"
_TRIES = 5


class Scratch:
    """A new, empty folder at `path`, of this user alone. `remove` takes it away with all that is in it.

    Raises:
        OSError: there is no room, or no folder for temporary files.
    """

    def __init__(self) -> None:
        for _ in range(_TRIES):  # one that is made and not yet locked may be taken for a dead one's
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _lock(self.path)
            if lock is not None:
                self._lock = lock
                return
        raise OSError(f"{self.path.parent}: a new folder there cannot be locked")

    def remove(self) -> bool:
        """Removes the folder; whether it is gone. May be called again."""
        try:
            return remove_tree(self.path)
        finally:
            lock, self._lock = self._lock, -1
            if lock >= 0:
                os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.remove()


def collect() -> list[Path]:
    """Removes the scratch folders of this user whose processes are gone; which those were."""
    removed: list[Path] = []
    with contextlib.suppress(OSError):
        for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
            lock = _lock(path)
            if lock is None:
                continue
            with contextlib.suppress(Exception):  # what cannot be removed stays, and keeps nobody from working
                remove_tree(path)
                removed.append(path)
            os.close(lock)
    return removed


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a folder of ours; None if it is in use, somebody else's, or gone."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(found).st_uid == os.getuid() and os.path.samestat(os.fstat(found), path.lstat()):
            return found
    except OSError:
        pass
    os.close(found)
    return None
