"""What the grader reads out of a reply; it runs in the process of runners.textwork."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypedDict

from runners.exams.go.reading import marked, read_files

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "main.go"
_LINE = re.compile(
    r"^[ \t]*+(?:(?P<fence>`{3,}+|~{3,}+)|#++[ \t]*+START[ \t]++[^\s#]++(?<=main\.go)[ \t]*+#)", re.MULTILINE
)
# What keeps the race detector from seeing a race, or from saying so.
_DODGES = (
    (re.compile(r"^//go:norace\b", re.MULTILINE), "functions are marked go:norace"),
    (
        re.compile(r'^[ \t]*+(?:import[ \t]*+)?"C"[ \t]*+;?$', re.MULTILINE),
        "it imports C, where the race detector sees nothing",
    ),
    (re.compile(r"GORACE"), "it names GORACE, the settings of the race detector"),
)


class ReplyRead(TypedDict):
    """What a reply holds: the program, how it was found, and whether it has no end (`runners.extract.Extraction`).

    `fenced_markers` says whether the markers stand inside a fence, `dodge` how the race detector is worked around.
    """

    code: str | None
    method: str
    truncated: bool
    fenced_markers: bool
    dodge: str


def read_reply(text: str) -> ReplyRead:
    """The program in a reply."""
    found = read_files(text, [FILE], "package main")
    code, method = found["files"].get(FILE), found["methods"][FILE]
    return {
        "code": code,
        "method": method,
        "truncated": found["truncated"],
        "fenced_markers": method == "start_marker" and _last_marker_is_fenced(text),
        "dodge": next((why for pattern, why in _DODGES if code is not None and pattern.search(code)), ""),
    }


def as_reply(files: Mapping[str, str], /) -> str:
    """A reply that hands a program over as the prompt asks for it, whatever the one file of it is called."""
    return marked({FILE: next(iter(files.values()))})


def _last_marker_is_fenced(text: str) -> bool:
    fenced = inside = False
    for found in _LINE.finditer(text):
        if found["fence"]:
            inside = not inside
        else:
            fenced = inside
    return fenced
