"""Splits Python text into code and strings without parsing it; a program cut off in mid-line has to be read too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTES = "'\""


def _token(quotes: str) -> re.Pattern[str]:
    """One token of Python, where only these characters open a string within a line."""
    quote = f"[{quotes}]" if quotes else "(?!)"
    return re.compile(
        rf"""
        (?P<comment>\#[^\n]*+)
        | (?P<prefix>\b[rRbBuUfF]{{1,2}}(?=['"]))?
          (?: (?P<triple>'{{3}}|\"{{3}})(?P<long>(?:\\.|(?!(?P=triple)).)*+)(?:(?P=triple)|\Z)
            | (?P<quote>{quote})(?P<short>(?:\\.|(?!(?P=quote))[^\n\\])*+)(?:(?P=quote)|(?=\n)|\Z) )
        | (?P<space>[ \t]++|\\\n)
        | (?P<newline>\n)
        | (?P<word>\w++)
        | (?P<signs>[^\w\s'"\#\\()\[\]{{}};]++)
        | (?P<other>.)
        """,
        re.VERBOSE | re.DOTALL,
    )


_FUNCTION = re.compile(r"\bdef\s+(\w++)")
_WORD = re.compile(r"[a-z]++")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TOKENS = {quotes: _token(quotes) for quotes in (_QUOTES, "'", '"', "")}


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

    @cached_property
    def function_words(self) -> frozenset[str]:
        """The words that names of functions are made of: `add` and `todo` for `addTodo` as for `add_todo`."""
        names = _FUNCTION.findall(self.code)
        return frozenset(word for name in names for word in _WORD.findall(_CAPITAL.sub("_", name).lower()))


def read_source(program: str) -> Source:
    """Split `program`; a string without an end reaches to the end of its line, or of the text if triple-quoted."""
    code: list[str] = []
    text: list[str] = []
    strings: list[str] = []
    depth = 0
    at_start = True
    docstring_at = -1  # where in `code` and `text` a string lies that is one if nothing but its line's end follows

    def settle() -> None:
        """It was a docstring."""
        nonlocal docstring_at
        if docstring_at >= 0:
            code[docstring_at] = text[docstring_at] = ""
            strings.pop()
            docstring_at = -1

    for match in _tokens(program):
        kind, piece = match.lastgroup, match[0]
        if kind == "comment":
            continue
        if kind in {"long", "short"}:
            docstring_at = len(code) if at_start and depth == 0 else -1
            code.append('""')
            text.append(piece)
            strings.append(match[kind])
            at_start = False
            continue
        if kind == "newline" or piece == ";":
            settle()
        elif kind != "space":
            docstring_at = -1
        if kind == "other":
            depth = max(0, depth + (piece in "([{") - (piece in ")]}"))
        at_start = piece in "\n;" or (at_start and kind == "space")
        code.append(piece)
        text.append(piece)
    settle()
    return Source("".join(code), "".join(text), tuple(strings))


def _tokens(program: str) -> Iterator[re.Match[str]]:
    """The tokens of `program`, in time that grows with its length.

    A quote can only fail to open a string where the text ends in a backslash, without another such quote before; no
    later one of its kind can do better then (all of them are escaped), and none is tried.
    """
    quotes = _QUOTES
    position = 0
    while position < len(program):
        for match in _TOKENS[quotes].finditer(program, position):
            yield match
            position = match.end()
            if match.lastgroup == "other" and match[0] in quotes:
                quotes = quotes.replace(match[0], "")
                break
