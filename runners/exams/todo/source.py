"""Splits Python text into code and strings without parsing it; a program cut off in mid-line has to be read too."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
    | (?P<prefix>\b[rRbBuUfF]{1,2}(?=['"]))?
      (?: (?P<triple>'{3}|\"{3})(?P<long>(?:\\.|(?!(?P=triple)).)*)(?:(?P=triple)|\Z)
        | (?P<quote>['"])(?P<short>(?:\\.|(?!(?P=quote))[^\n\\])*)(?:(?P=quote)|(?=\n)|\Z) )
    | (?P<space>[ \t]+|\\\n)
    | (?P<newline>\n)
    | (?P<word>\w+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Source:
    """A program without its comments and docstrings.

    Attributes:
        code: The code, each string replaced by a pair of quotes and one space between words.
        text: The code with the strings in it.
        strings: What the strings hold, in order; those that are a statement of their own (docstrings) are left out.
    """

    code: str
    text: str
    strings: tuple[str, ...]


def read_source(program: str) -> Source:
    """Split `program`; a string without an end reaches to the end of its line, or of the text if triple-quoted."""
    code: list[str] = []
    text: list[str] = []
    strings: list[str] = []
    depth = 0
    at_start = True
    matches = list(_TOKEN.finditer(program))
    for index, match in enumerate(matches):
        kind = match.lastgroup
        if match["comment"] is not None:
            continue
        if match["triple"] or match["quote"]:
            if not (at_start and depth == 0 and _ends_line(matches, index + 1)):
                body = match["long"] if match["triple"] else match["short"]
                code.append('""')
                text.append(match[0])
                strings.append(body)
            at_start = False
            continue
        depth = max(0, depth + (match[0] in "([{") - (match[0] in ")]}")) if kind == "other" else depth
        at_start = match[0] in "\n;" or (at_start and kind == "space")
        code.append(match[0])
        text.append(match[0])
    return Source("".join(code), "".join(text), tuple(strings))


def _ends_line(matches: list[re.Match[str]], index: int) -> bool:
    """Whether nothing but space and a comment follows on the line."""
    for match in matches[index:]:
        if match["newline"] or match[0] == ";":
            return True
        if not match["space"] and match["comment"] is None:
            return False
    return True
