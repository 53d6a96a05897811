"""Builds the Go files of a reply inside the sandbox, one program or test a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.toolchains.base import ToolchainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runners.sandbox.base import Completed, Limits, Sandbox
    from runners.toolchains.base import Toolchain

MODULE = "module exam\n\ngo 1.23\n"
"""The go.mod of every program: whichever toolchain builds it, the language is that of the oldest that will do."""

_NOTE_CHARS = 300


@dataclass(frozen=True)
class Built:
    """What came of a build; `program` is on the host, None where there is none."""

    done: Completed
    program: Path | None

    @property
    def note(self) -> str:
        """The compiler's first complaint; empty where it had none."""
        if self.program is not None:
            return ""
        if self.done.status not in {"ok", "nonzero"}:
            return f"the build was ended: {self.done.status}"
        return complaint(self.done.stderr + self.done.stdout)


def build(
    toolchain: Toolchain,
    sandbox: Sandbox,
    folder: Path,
    files: Mapping[str, bytes],
    arguments: Sequence[str],
    *,
    limits: Limits | None = None,
) -> Built:
    """Writes `files` into the new folder `folder` and runs `go ARGUMENTS -o program .` there.

    Args:
        toolchain: Go.
        sandbox: Where it runs.
        folder: On the host; made here.
        files: What the program is made of by path, go.mod included where it is not `MODULE`.
        arguments: `["build"]` or `["test", "-c", "-race"]`.
        limits: Other than the toolchain's own.

    Raises:
        SandboxFailed: The sandbox could not be started.
        ToolchainError: Go could not use what it has compiled beforehand.
        OSError: There is no room.
    """
    folder.mkdir(parents=True)
    for path, data in {"go.mod": MODULE.encode(), **files}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    words = [*arguments, "-o", "program", "."]
    done = toolchain.run(sandbox, words, workdir=folder, limits=limits)
    if _cache_failed(toolchain, done):
        raise ToolchainError(f"{toolchain.version} cannot use its compiled library: {complaint(done.stderr)}")
    program = folder / "program"
    there = done.status == "ok" and program.is_file() and not program.is_symlink()
    return Built(done, program if there else None)


def _cache_failed(toolchain: Toolchain, done: Completed) -> bool:
    """Whether a build failed over the compiled library, which no program can reach or names."""
    cache = toolchain.environment.get("GOCACHE", "")
    return done.status != "ok" and cache != "" and complaint(done.stderr).startswith(f"open {cache}/")


def complaint(output: bytes) -> str:
    """The first line of a compiler's output that is about the program."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    said = [line for line in lines if line and not line.startswith("# ")]
    return said[0][:_NOTE_CHARS] if said else ""
