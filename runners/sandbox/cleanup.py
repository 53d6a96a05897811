"""Removes what a program left behind, however it locked or nested it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 60.0


def remove_tree(path: Path) -> bool:
    """Remove the folder `path`, never following a link; returns whether it is gone.

    rm(1) and chmod(1) come in where Python's recursion fails: folders a thousand deep, or without permissions.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return not path.exists()
    except (OSError, RecursionError):
        remove = ["rm", "-rf", "--one-file-system", "--"]
        for command in (remove, ["chmod", "-R", "u+rwx", "--"], remove):
            if path.exists():
                subprocess.run(
                    [*command, str(path)],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_TIMEOUT_S,
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                )
    return not path.exists()
