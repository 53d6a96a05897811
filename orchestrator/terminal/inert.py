"""Foreign text made inert: what it says can be read, and nothing in it steers a terminal or passes for a line of ours.

Foreign is whatever another than us has written: names of files, metadata, answers of the Hub, an engine's errors.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
LINE_CHARS: Final = 2000
"""The longest line that is shown whole; of a longer one its beginning and its end are."""
_TAIL_CHARS: Final = 500
_MOST_MARKS: Final = 4
"""Accents that one letter may carry: languages make do with that, and more of them climb over other lines."""
# Letters, symbols and marks that Unicode counts as printable, and that show nothing: U+034F COMBINING GRAPHEME JOINER,
# U+115F, U+1160, U+3164 and U+FFA0 HANGUL FILLERS, U+17B4 and U+17B5 KHMER INHERENT VOWELS, U+180B to U+180F and
# U+FE00 to U+FE0F and U+E0100 to U+E01EF VARIATION SELECTORS, U+2800 BRAILLE PATTERN BLANK.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_ABOVE_ASCII: Final = 0x7F


def inert(text: str) -> str:
    """`text` as one line of as many characters, each of which is seen and does nothing.

    Line breaks, tabs and other blanks become spaces. Control characters (C0, C1, DEL), bidirectional overrides and
    isolates, zero-width and other invisible characters, lone surrogates, private and unassigned code points, and
    accents piled up on a letter become U+FFFD.
    """
    if _PLAIN.fullmatch(text):
        return text
    shown = []
    marks = _MOST_MARKS  # as if there were some already: nothing may climb onto what stands before the text
    for char in text:
        if char.isspace():
            marks = _MOST_MARKS
            shown.append(" ")
            continue
        is_mark = ord(char) > _ABOVE_ASCII and unicodedata.category(char) in {"Mn", "Me"}
        marks = marks + 1 if is_mark else 0
        shown.append(char if char.isprintable() and not _UNSEEN.match(char) and marks <= _MOST_MARKS else REPLACEMENT)
    return "".join(shown)


def line(text: str, most: int = LINE_CHARS) -> str:
    """`text` as one inert line of about `most` characters at most; the middle of a longer one is left out."""
    if len(text) > most:
        tail = min(_TAIL_CHARS, most // 4)
        left_out = f" ... ({len(text) - most:,} characters left out) ... "
        return inert(text[: most - tail]) + left_out + inert(text[-tail:])
    return inert(text)


def block(text: str) -> str:
    """`text` with its line breaks, each line of it inert: a log that somebody may want to look at in a terminal."""
    return "\n".join(inert(each) for each in text.split("\n"))


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """`value` as indented JSON that says exactly what it holds; characters that are not inert stand as escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only)
    if ascii_only:
        return text.replace("\x7f", "\\u007f")
    return "\n".join(_escaped(each) for each in text.split("\n"))


def _escaped(text: str) -> str:
    shown = inert(text)
    if shown == text:
        return text
    return "".join(
        a if a == b else json.dumps(a)[1:-1].replace("\x7f", "\\u007f") for a, b in zip(text, shown, strict=True)
    )
