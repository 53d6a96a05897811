"""A sandbox that notes when the machine may have ended a program, so that nobody's score depends on that.

SIGKILL comes from the machine (its memory ran out, somebody cleaned up) or from the program itself, and nothing tells
the two apart; nor a program that waits until its time is up from one that was stopped, or that a busy machine gave no
time to. So such a grade is made once more, from the start: the machine does not do it twice, a program does.

A disk that is full is told apart at once. Before a program runs for the first time there has to be room for all that it
may write; so when there is none left later, somebody else has taken it, and what the program makes of that is not its.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from signal import SIGKILL
from typing import TYPE_CHECKING

from runners.sandbox.base import DEFAULT_LIMITS, SYSTEM_ONLY, Completed, Limits, View
from runners.sandbox.workfolder import FolderWatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runners.sandbox.base import Sandbox


LEAST_BYTES = 1 << 20
LEAST_FILES = 64
"""Room below this counts as none: a program that asked for more failed."""


class Witness:
    """Runs everything in `sandbox`. `doubt` says why a grade that came of it is in doubt; empty if it is not."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.isolation = sandbox.isolation
        self.doubt = ""
        self._sandbox = sandbox
        self._had_room = False

    def run(
        self,
        argv: Sequence[str],
        *,
        workdir: Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        view: View = SYSTEM_ONLY,
    ) -> Completed:
        """See `Sandbox.run`.

        Raises:
            OSError: the disk of `workdir` has no room for what a program may write, or has none left.
        """
        if not self._had_room:
            _require_room(workdir, limits.file_bytes + 2 * LEAST_BYTES, limits.files + 2 * LEAST_FILES)
            self._had_room = True
        elif not _is_full_of_its_own(workdir, limits):
            _require_room(workdir, LEAST_BYTES, LEAST_FILES)
        done = self._sandbox.run(argv, workdir=workdir, stdin=stdin, env=env, limits=limits, view=view)
        if done.status == "signal" and done.signal == SIGKILL:
            self.doubt = "a program was killed, and the machine may have done that"
        elif done.idle:
            self.doubt = "a program's time ran out while it hardly had any, and the machine may have done that"
        if done.status != "output_limit" and not _is_full_of_its_own(workdir, limits):
            _require_room(workdir, LEAST_BYTES, LEAST_FILES)
        return done


def _has_room(folder: Path, free_bytes: int, free_files: int) -> bool:
    found = os.statvfs(folder)
    # Some file systems (btrfs, overlays of containers) count no files.
    return found.f_bavail * found.f_frsize >= free_bytes and (not found.f_files or found.f_favail >= free_files)


def _is_full_of_its_own(folder: Path, limits: Limits) -> bool:
    """Whether the disk is full and the program itself holds half of what it may have: then that is its own doing."""
    if _has_room(folder, LEAST_BYTES, LEAST_FILES):
        return False
    half = replace(limits, file_bytes=limits.file_bytes // 2, files=limits.files // 2)
    return FolderWatch(folder, half).exceeded(running=False)


def _require_room(folder: Path, free_bytes: int, free_files: int) -> None:
    """Raise `OSError` if the disk of `folder` has less room than that."""
    if not _has_room(folder, free_bytes, free_files):
        what = f"programs need {free_bytes / 2**20:.0f} MiB and {free_files:,} files free there"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {what}", str(folder.parent))
