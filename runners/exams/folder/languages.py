"""The languages that an exam's folder may ask for: how a program in them is called, checked or built, and started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.sandbox.base import Sandbox
    from runners.toolchains.base import Toolchain

BINARY: Final = "program"
"""What a compiled program is called in its box."""

_PARSE: Final = "import ast, sys; ast.parse(open(sys.argv[1], 'rb').read())"


@dataclass(frozen=True)
class Language:
    """A language of programs.

    Attributes:
        name: As in `Exam.language` and `runners.extract`.
        filename: What a program is called where the exam does not say.
        needs: What a machine must have (`profiles.probe.needs`).
        build: What the toolchain is called with to build a program, or to look whether it parses; `{source}` stands for
            its file.
        compiled: Whether that makes the file `BINARY`, which is what runs; else the toolchain runs the source.
        beside: Files that have to lie beside the source when it is built.
    """

    name: str
    filename: str
    needs: frozenset[str]
    build: tuple[str, ...]
    compiled: bool
    beside: Mapping[str, str]

    def open(self, sandbox: Sandbox) -> Toolchain:
        """Its toolchain; see `Provider.open`."""
        from runners.toolchains.providers import provider_of  # not to be loaded by whoever only reads an exam.toml

        return provider_of(self.name).open(sandbox)


def _compiled(name: str, filename: str, need: str, *build: str, beside: Mapping[str, str] | None = None) -> Language:
    return Language(name, filename, frozenset({need}), build, compiled=True, beside=beside or {})


LANGUAGES: Final[dict[str, Language]] = {
    each.name: each
    for each in (
        Language(
            "python",
            "main.py",
            frozenset(),  # the sandbox shows a Python, or there is no sandbox
            ("-I", "-S", "-c", _PARSE, "{source}"),
            compiled=False,
            beside={},
        ),
        Language(
            "javascript",
            "main.js",
            frozenset({"node"}),
            ("--check", "{source}"),
            compiled=False,
            beside={},
        ),
        _compiled(
            *("c", "main.c", "c-compiler"),
            *("-std=gnu17", "-O1", "-pthread", "-o", BINARY, "{source}", "-lm"),
        ),
        _compiled(
            *("c++", "main.cpp", "cxx-compiler"),
            *("-std=gnu++20", "-O1", "-pthread", "-o", BINARY, "{source}"),
        ),
        _compiled(*("rust", "main.rs", "rust"), *("--edition", "2021", "-O", "-o", BINARY, "{source}")),
        _compiled("go", "main.go", "go", "build", "-o", BINARY, ".", beside={"go.mod": "module exam\n\ngo 1.23\n"}),
    )
}
