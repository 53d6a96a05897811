"""How quantsweep has to be typed where it was started: lines that it prints can be pasted as they stand."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

NAME: Final = "quantsweep"


def program() -> list[str]:
    """The words that start this program from here: its name if the PATH leads to it, else its path.

    `.venv/bin/quantsweep` after `make quickstart`; `python -m orchestrator` where it was started as a module.
    """
    started = Path(sys.argv[0])
    if started.name != NAME or not started.is_file():
        return [_short(Path(sys.executable)), "-m", "orchestrator"]
    found = shutil.which(NAME)
    if found is not None and Path(found).resolve() == started.resolve():
        return [NAME]
    return [_short(started)]


def command(*words: str | Path) -> str:
    """A line for the shell that calls this program with `words`."""
    return shlex.join([*program(), *map(str, words)])


def _short(path: Path) -> str:
    """`path` from here where it lies below; links stay, since they tell one environment from another."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a venv's link to the system's Python
    if whole.is_relative_to(Path.cwd()):
        return str(whole.relative_to(Path.cwd()))
    return str(whole)
