"""Whose failure it is when a run does not start: a program's, by what it left or asks for, or the machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.sandbox.base import Completed, SandboxFailed, SandboxStuck, View
from runners.sandbox.scratch import Scratch
from runners.sandbox.workfolder import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Start = Callable[[Sequence[str], Path], Completed]

# As a shell says that a command is there and cannot be run.
_CANNOT_RUN = 126
# What Linux takes: 32 pages for one argument, and never less than this for all of them.
_ARGUMENT_BYTES, _ARGUMENTS_BYTES = 32 * 4096 - 1, 1 << 20


def run_fairly(
    start: Start, argv: Sequence[str], *, workdir: Path, env: Mapping[str, str] | None, view: View
) -> Completed:
    """Run `argv` by `start`, which raises where it could not set up a sandbox, in `workdir`.

    Exams pass on what a program printed, as arguments, and let several runs share a folder. Neither may look like a
    trouble of the machine, which is tried again and scored by nobody: what cannot be passed on ends as in a shell, and
    so does a run that cannot be set up twice where one in an empty folder can.

    Raises:
        SandboxFailed: The machine cannot set up a sandbox.
    """
    refusal = _why_not_passed(argv, env or {})
    if refusal:
        return _not_run(refusal)
    placed = [inside for _, inside in view.placed]
    prepare(workdir, placed)
    try:
        return start(argv, workdir)
    except SandboxStuck:
        raise
    except SandboxFailed:
        if not any(workdir.iterdir()):
            raise
    prepare(workdir, placed)
    try:
        return start(argv, workdir)
    except SandboxStuck:
        raise
    except SandboxFailed as failure:
        _try_in_an_empty_folder(start, placed, failure)
        return _not_run(f"the work folder cannot be used any more: {failure.message}")


def _try_in_an_empty_folder(start: Start, placed: Sequence[Path], failure: SandboxFailed) -> None:
    with Scratch() as folder:
        try:
            prepare(folder.path, placed)
            start(["/bin/sh", "-c", ":"], folder.path)
        except SandboxFailed:
            raise failure from None


def _why_not_passed(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Why no process can be started with these words; empty if one can."""
    try:
        words = [word.encode("utf-8", "surrogateescape") for word in (*argv, *(f"{k}={v}" for k, v in env.items()))]
    except UnicodeEncodeError:
        return "an argument is no text"
    if any(b"\0" in word for word in words):
        return "an argument holds a zero byte"
    if any(len(word) > _ARGUMENT_BYTES for word in words) or sum(map(len, words)) > _ARGUMENTS_BYTES:
        return "the arguments are too long"
    return ""


def _not_run(why: str) -> Completed:
    return Completed(_CANNOT_RUN, None, b"", f"cannot run: {why}\n".encode("utf-8", "replace"), "nonzero", 0.0)
