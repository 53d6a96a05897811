"""Builds one of the three programs, runs it on what it is judged by, and has it judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runners import textwork
from runners.exams.go.building import build
from runners.sandbox.base import BOX, MIB, Limits, View

from .judging import judge_factorial, judge_files, judge_words
from .texts import Tree, tree_for, words_for

if TYPE_CHECKING:
    from pathlib import Path

    from runners.exams.box import Box
    from runners.exams.go.building import Built
    from runners.sandbox.base import Completed
    from runners.toolchains.base import Toolchain

    from .judging import Judged

FACTORIAL, WORDFREQ, FILETREEWALK = "factorial.go", "wordfreq.go", "filetreewalk.go"
PROGRAMS = (FACTORIAL, WORDFREQ, FILETREEWALK)
# The report's own: 5, 5 and 10 s.
_WALL_S = {FACTORIAL: 5.0, WORDFREQ: 5.0, FILETREEWALK: 10.0}
_ENVIRONMENT = {"HOME": str(BOX), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "GOMAXPROCS": "2"}
# How the compiler and the parser say that a closing brace is missing at the end.
_BRACE_IS_MISSING = (b"expecting }", b"expected }", b"expected '}'")


@dataclass
class Tried:
    """What became of one program.

    Attributes:
        name: Of its file.
        first: Its build as it was written; None where the reply has no such file.
        mended: Its build with a closing brace more, for `published`; None where that was not tried.
        runs: How it ended, by scoring.
        judged: Points of 3 and why not more, by scoring.
    """

    name: str
    first: Built | None = None
    mended: Built | None = None
    runs: dict[str, Completed] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)

    def build_of(self, scoring: str) -> Built | None:
        """The build that counts under `scoring`."""
        return self.mended if scoring == "published" and self.mended is not None else self.first

    def built(self, scoring: str) -> bool:
        """Whether there is a program under `scoring`."""
        build_ = self.build_of(scoring)
        return build_ is not None and build_.program is not None

    def build_note(self, scoring: str) -> str:
        """Why there is none."""
        build_ = self.build_of(scoring)
        return build_.note if build_ is not None else ""

    def run(self, scoring: str) -> Completed | None:
        """How it ended under `scoring`."""
        return self.runs.get(scoring)

    @property
    def complaints(self) -> bytes:
        """What the compiler said."""
        return b"" if self.first is None else self.first.done.stdout + self.first.done.stderr


def try_programs(name: str, source: bytes | None, toolchain: Toolchain, box: Box) -> Tried:
    """Builds, runs and judges the program `name`.

    Raises:
        SandboxFailed: A sandbox could not be started.
    """
    tried = Tried(name)
    if source is None:
        return tried
    folder = box.folder / name.removesuffix(".go")
    tried.first = build(toolchain, box.sandbox, folder / "build", {name: source}, ["build"])
    said = tried.first.done.stdout + tried.first.done.stderr
    if tried.first.program is None and any(word in said for word in _BRACE_IS_MISSING):
        whole = source + b"\n}\n"
        tried.mended = build(toolchain, box.sandbox, folder / "mended", {name: whole}, ["build"])
    for scoring in ("corrected", "published"):
        built = tried.build_of(scoring)
        if built is not None and built.program is not None:
            _run(tried, scoring, built.program, source, folder / scoring, box=box)
    return tried


def _run(tried: Tried, scoring: str, program: Path, source: bytes, folder: Path, *, box: Box) -> None:
    published = scoring == "published"
    if tried.name == FACTORIAL and published and tried.mended is None:
        tried.runs[scoring], tried.judged[scoring] = tried.runs["corrected"], tried.judged["corrected"]
        return
    folder.mkdir(parents=True)
    words = words_for(source, tied=published)
    tree = tree_for(source, published=published)
    arguments: list[str] = []
    if tried.name == FILETREEWALK:
        _plant(tree, folder / "tree")
        arguments = [str(BOX / "tree")]
    inside = BOX / tried.name.removesuffix(".go")
    done = box.sandbox.run(
        [str(inside), *arguments],
        workdir=folder,
        stdin=words.text if tried.name == WORDFREQ else None,
        env=_ENVIRONMENT,
        limits=_limits(_WALL_S[tried.name]),
        view=View(placed=((program, inside),)),
    )
    tried.runs[scoring] = done
    output = done.stdout.decode("utf-8", "replace")
    try:
        if tried.name == FACTORIAL:
            points, why = textwork.run(judge_factorial, output)
        elif tried.name == WORDFREQ:
            points, why = textwork.run(judge_words, output, words.counts, scoring)
        else:
            points, why = textwork.run(judge_files, output, tree.sizes, scoring)
    except textwork.TextLimitError as error:
        points, why = 0, f"what it printed cannot be read: {error}"
    tried.judged[scoring] = (points, why)


def _limits(wall_s: float) -> Limits:
    return Limits(
        wall_s=wall_s,
        cpu_s=wall_s,
        memory_bytes=512 * MIB,
        output_bytes=256 * 1024,
        file_bytes=16 * MIB,
        processes=64,
        files=500,
    )


def _plant(tree: Tree, root: Path) -> None:
    for path in tree.sizes:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(tree.content(path))
