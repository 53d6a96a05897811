"""A memory cgroup for a node, where this process may make one: a node can run out of memory then, and the host not."""

from __future__ import annotations

import contextlib
import os
import time
from functools import cache
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_GONE_S = 10.0


@cache
def _base() -> tuple[Path, str] | None:
    """Where groups with a memory limit can be made, and what the limit's file is called; None if nowhere."""
    if (_ROOT / "memory" / "memory.limit_in_bytes").exists():
        folder, name = _ROOT / "memory", "memory.limit_in_bytes"
    elif (_ROOT / "cgroup.controllers").exists():
        folder, name = _ROOT, "memory.max"
    else:
        return None
    trial = folder / f"chaos-trial-{os.getpid()}"
    try:
        trial.mkdir()
        (trial / name).write_text("104857600")
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()
    return folder, name


class MemoryGroup:
    """What a node's processes may take together. `folder` is None where no group can be made, and nothing is bounded.

    `limit_bytes` is the bound.
    """

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.folder: Path | None = None
        if (base := _base()) is not None:
            self.folder = base[0] / name
            self.folder.mkdir()
            (self.folder / base[1]).write_text(str(limit_bytes))

    @property
    def entrance(self) -> str:
        """The file that a process writes 0 to in order to be in; "/dev/null" where there is no group."""
        return "/dev/null" if self.folder is None else str(self.folder / "cgroup.procs")

    def left(self) -> list[str]:
        """The names of groups inside it."""
        return [] if self.folder is None else sorted(path.name for path in self.folder.iterdir() if path.is_dir())

    def remove(self) -> None:
        """Takes it away once nobody is in it."""
        if self.folder is None:
            return
        deadline = time.monotonic() + _GONE_S
        for folder in [*(self.folder / name for name in self.left()), self.folder]:
            while True:
                try:
                    folder.rmdir()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
