"""The folder of a Ray session that we start: short, of this user alone, locked while its driver lives, then removed.

Ray makes its folders writable for everybody, `/tmp/ray` by default, and its raylet writes there: another user of the
machine could have it overwrite any file of ours. Inside a folder of mode 0700 that is harmless. The lock is `flock` on
the folder itself: the kernel releases it however its holders end, and systemd-tmpfiles leaves locked folders alone. A
driver that is killed leaves the folder to its janitor (`janitor.py`), and if that is killed too, to the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "qs-ray-"
_SOCKET_PATH_BYTES = 107
"""Linux: the longest path of a Unix socket."""
_ROOM = len("/qs-ray-12345678/r/session_2026-11-21_12-24-30_132940_4194304/sockets/plasma_store.1")
_JANITOR_S = 15.0
_REMOVE_S = 5.0
"""Ray's last processes may still write their logs while the folder is being removed."""


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """A new folder to be Ray's `_temp_dir`; it, and those that dead drivers left behind, are removed.

    Raises:
        ClusterError: no folder for temporary files is safe, short and writable.
    """
    bases = _bases()
    for base in bases:
        _collect(base)
    outer, lock = _make(bases)
    try:
        # Ray gives its folder to everybody (mode 0777), so it gets one inside ours.
        inner = outer / "r"
        inner.mkdir(mode=0o700)
        with _janitor(outer, lock):
            try:
                yield inner
            finally:
                _remove(outer)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _janitor(folder: Path, lock: int) -> Iterator[None]:
    """A process that cleans up if this one is killed. It holds the lock too, so that nobody does so meanwhile."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("janitor.py")), str(folder)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,
            env={},
        )
    except OSError as error:
        _remove(folder)
        raise ClusterError(
            f"the process that cleans up after Ray could not be started: {sys.executable}: {error.strerror}",
            hint="Look at the machine: memory, limits on processes, and who may run that Python.",
        ) from None
    try:
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_JANITOR_S)


def _bases() -> list[Path]:
    """Folders for temporary files, best first. The last goes when its user logs out, which a long sweep may outlive."""
    named = [os.environ.get("TMPDIR"), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR")]  # noqa: S108 - each is checked by `_is_safe`, and what is made in it is new and 0700
    found: list[Path] = []
    for name in named:
        with contextlib.suppress(OSError):
            path = Path(name or "/nowhere").resolve(strict=True)
            short = len(os.fsencode(path)) + _ROOM <= _SOCKET_PATH_BYTES
            if path not in found and short and _is_safe(path):
                found.append(path)
    return found


def _is_safe(base: Path) -> bool:
    """Whether nobody but root and this user may rename what is in `base`, up to the root of the file system."""
    # Who owns the root folder can do everything; inside a user namespace that is not 0.
    trusted = {0, os.getuid(), Path("/").stat().st_uid}
    for folder in (base, *base.parents):
        found = folder.stat()
        if found.st_uid not in trusted:
            return False
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
            return False
    return True


def _make(bases: list[Path]) -> tuple[Path, int]:
    trouble = ""
    for base in bases:
        for _ in range(3):  # a driver that starts at the same moment may take the new folder for a dead one's
            try:
                folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            except OSError as error:
                trouble = f": {base}: {error.strerror}"
                break
            lock = _locked(folder)
            if lock is not None:
                return folder, lock
            with contextlib.suppress(OSError):  # it may be that driver's by now, or gone
                folder.rmdir()
    raise ClusterError(
        f"no folder for Ray's session could be made{trouble}",
        hint="Set TMPDIR to a folder of yours with a path of at most "
        f"{_SOCKET_PATH_BYTES - _ROOM} bytes, with room on it, that no other user may write to.",
    )


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder of ours; None if it is not ours, locked by another, or gone."""
    try:
        found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here, there = os.fstat(found), folder.lstat()
        ours = here.st_uid == os.getuid() and stat.S_IMODE(here.st_mode) == 0o700
        if ours and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return found
    except OSError:
        pass
    os.close(found)
    return None


def _collect(base: Path) -> None:
    """Removes the folders in `base` whose drivers are dead."""
    with contextlib.suppress(OSError):
        for path in sorted(base.glob(f"{PREFIX}*")):
            lock = _locked(path)
            if lock is None:
                continue
            with contextlib.suppress(OSError):
                if {entry.name for entry in path.iterdir()} <= {"r"}:  # nothing but what we put there
                    shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _REMOVE_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return  # the next start collects it
        if folder.exists():
            time.sleep(0.1)
