"""The box that a task is solved and graded in: a folder, and the programs that run in it, the same everywhere."""

from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runners.sandbox.base import DEFAULT_LIMITS, MIB, SYSTEM_ONLY
from runners.sandbox.scratch import Scratch
from runners.sandbox.workfolder import make_file, open_below

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runners.sandbox.base import Completed, Limits, Sandbox, View
    from runners.toolchains.base import Toolchain

READ_BYTES = 16 * MIB
_DEPTH = 16


class Box:
    """A folder of one piece of work, at `sandbox.base.BOX` for the programs that run in it; nothing else is writable.

    `folder` is for what needs several work folders side by side (a grader may give each program its own); `run`,
    `write` and `read` use one of them. It is given by the caller, or made when it is first used, and removed by
    `close`. What programs left in it is theirs: names, links and permissions mean nothing good.

    `limits` are those of a run that is given no others: where an exam grades, those of its `exam.toml`.
    """

    def __init__(self, sandbox: Sandbox, folder: Path | None = None) -> None:
        self.sandbox = sandbox
        self.limits = DEFAULT_LIMITS
        self._folder = folder
        self._scratch: Scratch | None = None

    @property
    def isolation(self) -> str:
        """What holds the programs (`Sandbox.isolation`)."""
        return self.sandbox.isolation

    @property
    def folder(self) -> Path:
        """The folder, empty at first.

        Raises:
            OSError: there is no room for it.
        """
        if self._folder is None:
            self._scratch = Scratch()
            self._folder = self._scratch.path
        return self._folder

    @property
    def _work(self) -> Path:
        folder = self.folder / "work"
        folder.mkdir(exist_ok=True)
        return folder

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        view: View = SYSTEM_ONLY,
    ) -> Completed:
        """Runs a program in the box and waits until nothing of it is left; see `Sandbox.run`."""
        return self.sandbox.run(argv, workdir=self._work, stdin=stdin, env=env, limits=limits or self.limits, view=view)

    def run_tool(self, toolchain: Toolchain, arguments: Sequence[str], *, limits: Limits | None = None) -> Completed:
        """The same of a toolchain, with all that it needs."""
        return toolchain.run(self.sandbox, arguments, workdir=self._work, limits=limits)

    def write(self, path: str, data: bytes) -> None:
        """Writes a file of the box, whatever a program put in its place.

        Raises:
            ValueError: `path` is not a plain relative path.
            OSError: no room, or a folder on the way that cannot be used.
        """
        inside = _inside(path)
        make_file(self._work, inside)
        target = self._work / inside
        target.unlink()  # it may be read-only, or have other names
        target.write_bytes(data)

    def read(self, path: str, most_bytes: int = READ_BYTES) -> bytes | None:
        """What a file of the box holds; None where there is no regular file of at most `most_bytes` that may be read.

        Raises:
            ValueError: `path` is not a plain relative path.
        """
        inside = _inside(path)
        try:
            root = os.open(self._work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                descriptor = open_below(root, str(inside), os.O_RDONLY | os.O_NONBLOCK)
            finally:
                os.close(root)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
                return None
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(status.st_size)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Removes the folder if the box made it; may be called again."""
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = self._folder = None


def _inside(path: str) -> PurePosixPath:
    inside = PurePosixPath(path)
    plain = path and not inside.is_absolute() and "\0" not in path and ".." not in inside.parts
    if not plain or not inside.parts or len(inside.parts) > _DEPTH:
        raise ValueError(f"not a relative path inside the box: {path[:100]!r}")
    return inside
