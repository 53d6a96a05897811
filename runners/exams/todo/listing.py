"""Reads a todo list as a program printed it, in whatever form: which entries, their ids, and whether one changed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIME = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?:\s*(?:Z|UTC|[+-]\d{2}:?\d{2}))?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AP]M)?"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?\s+\d{1,2}(?:,?\s+\d{4})?"
    r"|\d{1,2}\.?\s+(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?(?:\s+\d{4})?"
    r"|\b\d{10,13}(?:\.\d+)?\b"
    r"|\b(?:an?|\d+)\s*(?:s|secs?|seconds?|m|mins?|minutes?|h|hours?)\s+ago\b|\bjust now\b",
    re.IGNORECASE,
)
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = re.compile(rf"{_UUID}|\b(?=[0-9a-f]*\d)[0-9a-f]{{6,32}}\b|(?<![\w.])\d+(?![\w%/])", re.IGNORECASE)
_LABEL = re.compile(rf"(?:\bid\b\W{{0,4}}|#\s?|\[\s?|\()({_UUID}|[0-9a-f]{{6,32}}\b|\d+)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\W_]*")


@dataclass(frozen=True)
class Entry:
    """One todo as printed.

    Attributes:
        own: The line with the title and the lines indented below it.
        block: The lines between two separators around it, where no other todo is among them.
        ids: What may be its id, by where that stands: labelled on its line, any number there, labelled below, labelled
            above, any number below, any number above.
    """

    own: tuple[str, ...]
    block: tuple[str, ...] | None
    ids: tuple[tuple[str, ...], ...]


def find_entries(output: str, titles: tuple[str, ...]) -> dict[str, Entry]:
    """The entries of those `titles` that `output` shows, in any letter case."""
    lines = [_COLOUR.sub("", line) for line in output.splitlines()]
    at = {title: number for title in titles if (number := _line_of(lines, title)) is not None}
    found = {}
    for title, number in at.items():
        first, last = _block(lines, number)
        before = max((n for n in at.values() if first <= n < number), default=first - 1)
        after = min((n for n in at.values() if number < n <= last), default=last + 1)
        alone = before < first and after > last
        ids = _ids([lines[number]], lines[number + 1 : after], lines[before + 1 : number], title)
        block = tuple(lines[first : last + 1]) if alone else None
        found[title] = Entry(tuple(lines[number : _last_below(lines, number) + 1]), block, ids)
    return found


def pick_ids(first: Entry, second: Entry) -> tuple[str, str] | None:
    """The ids of two entries: the first place in both that holds two different values."""
    for one_place, other_place in zip(first.ids, second.ids, strict=True):
        for one, other in zip(one_place, other_place, strict=False):
            if one != other:
                return one, other
    return None


def settled(text: str) -> str:
    """Text without what changes by itself: times, the width of columns."""
    return re.sub(r"\s+", " ", re.sub(r"[─━═]+|-{2,}|={2,}", "-", _TIME.sub("<time>", text))).strip()


def is_same(earlier: Entry, later: Entry) -> bool:
    """Whether an entry was left as it was.

    Where its first number changed, numbers are places in the list, and the place may change when another entry does.
    """
    if earlier.block is not None and later.block is not None and not _alike(earlier.block, later.block):
        return False
    return _alike(earlier.own, later.own)


def _alike(earlier: tuple[str, ...], later: tuple[str, ...]) -> bool:
    one, other = (settled("\n".join(lines)) for lines in (earlier, later))
    numbers, others = re.findall(r"\d+", one), re.findall(r"\d+", other)
    if numbers[:1] != others[:1]:
        one, other = re.sub(r"\d+", "", one), re.sub(r"\d+", "", other)
    return one == other


def _line_of(lines: list[str], title: str) -> int | None:
    """The first line with the title as words of its own."""
    pattern = re.compile(rf"(?<!\w){re.escape(title)}(?!\w)", re.IGNORECASE)
    return next((number for number, line in enumerate(lines) if pattern.search(line)), None)


def _block(lines: list[str], number: int) -> tuple[int, int]:
    """First and last line of the run of lines around `number` without a blank line or a rule."""
    first = last = number
    while first > 0 and not _SEPARATOR.fullmatch(lines[first - 1]):
        first -= 1
    while last + 1 < len(lines) and not _SEPARATOR.fullmatch(lines[last + 1]):
        last += 1
    return first, last


def _last_below(lines: list[str], number: int) -> int:
    """The last of the lines below `number` that are indented more than it."""
    last = number
    while last + 1 < len(lines) and _indentation(lines[last + 1]) > _indentation(lines[number]):
        last += 1
    return last


def _indentation(line: str) -> int:
    """Columns before the text; a blank line has none."""
    return len(line) - len(line.lstrip()) if line.strip() else 0


def _ids(own: list[str], below: list[str], above: list[str], title: str) -> tuple[tuple[str, ...], ...]:
    places = ((_LABEL, own), (_ID, own), (_LABEL, below), (_LABEL, above), (_ID, below), (_ID, above))
    return tuple(tuple(_candidates(pattern, lines, title)) for pattern, lines in places)


def _candidates(pattern: re.Pattern[str], lines: list[str], title: str) -> list[str]:
    text = re.sub(re.escape(title), " ", _TIME.sub(" ", "\n".join(lines)), flags=re.IGNORECASE)
    return pattern.findall(text)
