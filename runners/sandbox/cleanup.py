"""Removes what a program left behind, however it locked or nested it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 60.0


def remove_tree(path: Path) -> bool:
    """Remove the folder `path`, never following a link; returns whether it is gone.

    By rm(1), which keeps few folders open however deep they lie (shutil keeps one open for each level, of a process
    that has other things to open), after chmod(1) where some are locked. Whatever a program left, this is no error: who
    calls it has a result to hand over.
    """
    remove = ["rm", "-rf", "--"]
    for command in (remove, ["chmod", "-R", "u+rwx", "--"], remove):
        if not os.path.lexists(path):
            return True
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*command, str(path)],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
    return not os.path.lexists(path)
