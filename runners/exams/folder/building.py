"""Makes what a model wrote ready to run: its file in a box with the exam's files, checked or built by its toolchain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from runners.exams.box import Box
from runners.exams.folder.languages import BINARY
from runners.exams.programs import ENVIRONMENT
from runners.sandbox.base import BOX, MIB, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runners.exams.folder.languages import Language
    from runners.sandbox.base import Completed, Limits, Sandbox

_MOST_BINARY: Final = 64 * MIB


@dataclass(frozen=True)
class Program:
    """A program that can be started any number of times, each in a box of its own.

    Attributes:
        argv: What it is started with, before its arguments.
        view: What its box shows: its toolchain, and in the work folder itself and the exam's files, which nothing that
            runs there can change.
        toolchain: In a line, for the log.
    """

    argv: tuple[str, ...]
    view: View
    toolchain: str
    sandbox: Sandbox

    def run(self, argv: Sequence[str], folder: Path, limits: Limits, stdin: bytes = b"") -> Completed:
        """Runs a command in an empty `folder`, where the program and the exam's files appear."""
        folder.mkdir()
        return self.sandbox.run(argv, workdir=folder, stdin=stdin, env=ENVIRONMENT, limits=limits, view=self.view)


@dataclass(frozen=True)
class NotBuilt:
    """A program that does not parse or build, with what its toolchain said."""

    done: Completed
    toolchain: str


def build(
    code: str,
    language: Language,
    box: Box,
    *,
    filename: str,
    files: Mapping[str, bytes],
    build_s: float,
    also: View | None = None,
) -> Program | NotBuilt:
    """The program of a reply, ready to run; once for each box.

    Args:
        code: What the model wrote.
        language: What it is written in.
        box: The grading's.
        filename: What it is called.
        files: What lies beside it, by path in the box.
        build_s: What its building may take.
        also: What else a run has to see.

    Raises:
        ToolchainError, SandboxFailed, SandboxUnavailable: this machine cannot build.
        OSError: there is no room.
    """
    toolchain = language.open(box.sandbox)
    source = code.encode("utf-8", "surrogatepass")  # half a pair is an error of the program's
    kept = box.folder / "kept"
    kept.mkdir()
    placed = [*_placed(kept / "files", files)]
    place = box.folder / "build"
    place.mkdir()
    builder = Box(box.sandbox, place)
    beside = {name: text.encode() for name, text in language.beside.items()}
    for path, data in {**beside, **files, filename: source}.items():
        builder.write(path, data)
    words = [filename if word == "{source}" else word for word in language.build]
    limits = replace(toolchain.limits, wall_s=build_s, cpu_s=build_s)
    done = builder.run_tool(toolchain, words, limits=limits)
    binary = builder.read(BINARY, _MOST_BINARY) if language.compiled and done.status == "ok" else b""
    if done.status != "ok" or not (binary or not language.compiled):
        return NotBuilt(done, toolchain.version)
    name = BINARY if language.compiled else filename
    program = kept / "program"
    program.write_bytes(binary or source)
    program.chmod(0o755)
    placed.append((program, BOX / name))
    view = replace(_both(toolchain.view, also), placed=tuple(placed))
    start = (str(BOX / name),) if language.compiled else (str(toolchain.program), str(BOX / name))
    return Program(start, view, toolchain.version, box.sandbox)


def _placed(folder: Path, files: Mapping[str, bytes]) -> list[tuple[Path, Path]]:
    """The exam's files on the host, and where they appear."""
    pairs = []
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        pairs.append((target, BOX / path))
    return pairs


def _both(view: View, other: View | None) -> View:
    if other is None:
        return view
    return View(
        read_only=tuple(dict.fromkeys((*view.read_only, *other.read_only))),
        hidden=tuple(dict.fromkeys((*view.hidden, *other.hidden))),
    )
