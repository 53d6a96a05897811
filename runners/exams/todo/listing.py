"""Reads a todo list as a program printed it, in whatever form: which entries, their ids, and whether one changed."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Applied to whatever a program printed, so none may take more than time in proportion to it: what may be repeated is
# possessive, or bounded where a match may begin inside what an earlier attempt has gone through.
_COLOUR = re.compile(r"\x1b\[[0-9;?]*+[A-Za-z]")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?:\s*(?:Z|UTC|[+-]\d{2}:?\d{2}))?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AP]M)?"
    rf"|{_MONTH}[a-z]{{0,20}}\.?\s+\d{{1,2}}(?:,?\s+\d{{4}})?"
    rf"|\d{{1,2}}\.?\s+{_MONTH}[a-z]*+\.?(?:\s+\d{{4}})?"
    r"|\b\d{10,13}(?:\.\d+)?\b"
    r"|\b(?:an?|\d+)\s*(?:s|secs?|seconds?|m|mins?|minutes?|h|hours?)\s+ago\b|\bjust now\b",
    re.IGNORECASE,
)
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = re.compile(rf"{_UUID}|\b(?=[0-9a-f]*\d)[0-9a-f]{{6,32}}\b|(?<![\w.])\d+(?![\w%/])", re.IGNORECASE)
_LABEL = re.compile(rf"(?:\bid\b\W{{0,4}}|#\s?|\[\s?|\()({_UUID}|[0-9a-f]{{6,32}}\b|\d+)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\W_]*+")
_RULE = re.compile(r"[─━═]++|-{2,}+|={2,}+")
_SPACE = re.compile(r"\s++")
# A longer one is no id; and one of 128 KiB is no argument of a program either (execve's limit).
_ID_CHARS = 64
_NUMBER = re.compile(r"\d++")
_DONE_MARK = re.compile(r"[✓✔✅☑]|\[[xX]\]|(?<!not )\b(?:done|completed)\b", re.IGNORECASE)
_OPEN_MARK = re.compile(r"\[ \]|[☐○⬜□◻⏳]|\b(?:pending|open|incomplete|to ?do)\b", re.IGNORECASE)


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
            if one != other and len(one) <= _ID_CHARS and len(other) <= _ID_CHARS:
                return one, other
    return None


def settled(text: str) -> str:
    """Text without what changes by itself: times, the width of columns."""
    return _SPACE.sub(" ", _RULE.sub("-", _TIME.sub("<time>", text))).strip()


def is_same(earlier: Entry, later: Entry) -> bool:
    """Whether an entry was left as it was.

    Where its first number changed, numbers are places in the list, and the place may change when another entry does.
    """
    if earlier.block is not None and later.block is not None and not _alike(earlier.block, later.block):
        return False
    return _alike(earlier.own, later.own)


def is_turned_round(earlier: Entry, later: Entry) -> bool:
    """Whether an entry bears the mark of a completed one first, and that of an open one afterwards."""
    return _marks(earlier) == (True, False) and _marks(later) == (False, True)


def looks_like(one: Entry, one_title: str, other: Entry, other_title: str) -> bool:
    """Whether two entries differ in nothing but title, numbers and times."""
    texts = [
        _NUMBER.sub("", settled(re.sub(re.escape(title), " ", "\n".join(entry.own), flags=re.IGNORECASE)))
        for entry, title in ((one, one_title), (other, other_title))
    ]
    return texts[0] == texts[1]


def _marks(entry: Entry) -> tuple[bool, bool]:
    """Whether a mark of completed ones is in it, and one of open ones."""
    text = "\n".join(entry.own)
    return bool(_DONE_MARK.search(text)), bool(_OPEN_MARK.search(text))


def _alike(earlier: tuple[str, ...], later: tuple[str, ...]) -> bool:
    one, other = (settled("\n".join(lines)) for lines in (earlier, later))
    number, other_number = _NUMBER.search(one), _NUMBER.search(other)
    if (number and number[0]) != (other_number and other_number[0]):
        one, other = _NUMBER.sub("", one), _NUMBER.sub("", other)
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
    last, indentation = number, _indentation(lines[number])
    while last + 1 < len(lines) and _indentation(lines[last + 1]) > indentation:
        last += 1
    return last


def _indentation(line: str) -> int:
    """Columns before the text; a blank line has none."""
    return len(line) - len(line.lstrip()) if line.strip() else 0


def _ids(own: list[str], below: list[str], above: list[str], title: str) -> tuple[tuple[str, ...], ...]:
    line, after, before = (_without_times(lines, title) for lines in (own, below, above))
    places = ((_LABEL, line), (_ID, line), (_LABEL, after), (_LABEL, before), (_ID, after), (_ID, before))
    return tuple(tuple(pattern.findall(text)) for pattern, text in places)


def _without_times(lines: list[str], title: str) -> str:
    """The lines without times and without the title, whose numbers are no ids."""
    return re.sub(re.escape(title), " ", _TIME.sub(" ", "\n".join(lines)), flags=re.IGNORECASE)
