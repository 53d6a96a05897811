"""What the todo grader reads out of texts that it did not write; each function runs in the process of runners.textwork.

They take and return what JSON can say, and nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from runners.extract import Extraction, extract_code

from .features import features, has_code
from .listing import Entry, find_entries, is_same, is_turned_round, looks_like, pick_ids, settled
from .source import read_source

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKER = "sqlite3"


class ReplyRead(TypedDict):
    """What a reply holds.

    The first five are those of `runners.extract.Extraction`, where `code` is None too if nothing in the text found is
    Python; `features` says which of the ten features it shows, in the order of the exam.
    """

    code: str | None
    method: str
    truncated: bool
    filename: str | None
    reasoning_chars: int
    features: dict[str, bool]


def read_reply(text: str) -> ReplyRead:
    """The program in a reply, and what its text shows."""
    found = _program_in(text)
    code, shown = found.code, {}
    if code is not None:
        source = read_source(code)
        shown = features(source)
        code = code if has_code(source) else None
    return {
        "code": code,
        "method": found.method,
        "truncated": found.truncated,
        "filename": found.filename,
        "reasoning_chars": found.reasoning_chars,
        "features": shown if code is not None else {},
    }


def _program_in(text: str) -> Extraction:
    """The last candidate that mentions SQLite, so that an example of its use is not taken for the program."""
    found = extract_code(text, language="python", marker=_MARKER)
    return found if found.code is not None else extract_code(text, language="python")


def ids_shown(output: str, titles: Sequence[str]) -> list[str] | None:
    """The ids by which a list tells the two todos apart; None where it shows none."""
    ids = _Shown.by(output, titles).ids
    return None if ids is None else list(ids)


def judge_lists(titles: Sequence[str], outputs: Sequence[str], completed: Sequence[str] = ()) -> list[str]:
    """For each of the seven steps why the state it left is not the one asked for; empty where it is.

    Args:
        titles: Of the two todos.
        outputs: What the three lists printed.
        completed: Of a program that lists completed todos only when asked to: what the second and the third list print
            then; empty for any other.
    """
    first, second = titles
    before, between, after = (_Shown.by(output, titles) for output in outputs)
    no_ids = "" if before.ids else "the list shows no ids to tell the two apart"
    if completed:
        then, at_last = (_Shown.by(output, titles) for output in completed)
        return [
            before.lacks(first),
            before.lacks(second),
            before.lacks(*titles) or no_ids,
            before.lacks(*titles) or between.lacks(second) or _why_not_apart(first, second, then),
            between.lacks(second) or then.lacks(first),
            between.lacks(second) or (f"{second!r} is still listed" if second in after.entries else ""),
            at_last.lacks(first) or _why_not_kept(first, then, at_last),
        ]
    return [
        before.lacks(first),
        before.lacks(second),
        before.lacks(*titles) or no_ids,
        _why_not_completed(first, second, before, between),
        between.lacks(*titles),
        between.lacks(second) or _why_not_deleted(first, second, after),
        after.lacks(first) or _why_not_kept(first, between, after),
    ]


@dataclass(frozen=True)
class _Shown:
    """What one `list` showed of the two todos, and the ids that tell them apart."""

    output: str
    entries: dict[str, Entry]
    ids: tuple[str, str] | None

    @classmethod
    def by(cls, output: str, titles: Sequence[str]) -> _Shown:
        entries = find_entries(output, tuple(titles))
        ids = pick_ids(*(entries[title] for title in titles)) if len(entries) == len(titles) else None
        return cls(output, entries, ids)

    def lacks(self, *titles: str) -> str:
        """The sentence that says which of `titles` are not there; empty if all are."""
        absent = [repr(title) for title in titles if title not in self.entries]
        return f"the list does not show {' and '.join(absent)}" if absent else ""


def _why_not_completed(first: str, second: str, before: _Shown, between: _Shown) -> str:
    """The mark may be in the entry or in a heading above it, so the whole list must differ, but not the other entry."""
    missing = before.lacks(first, second) or between.lacks(first, second)
    if missing:
        return missing
    if not is_same(before.entries[second], between.entries[second]):
        return f"{second!r} was changed as well"
    if settled(before.output) == settled(between.output):
        return f"the list shows {first!r} as before"
    if is_turned_round(before.entries[first], between.entries[first]):
        return f"the list shows {first!r} as completed before it is, and as open afterwards"
    return ""


def _why_not_apart(first: str, second: str, then: _Shown) -> str:
    """The list of completed todos shows the completed one: alone, or with another mark than the open one has."""
    if missing := then.lacks(first):
        return missing
    if second in then.entries and looks_like(then.entries[first], first, then.entries[second], second):
        return f"the list shows {first!r} and {second!r} as being alike"
    return ""


def _why_not_deleted(first: str, second: str, after: _Shown) -> str:
    if second in after.entries:
        return f"{second!r} is still listed"
    return "" if first in after.entries else f"{first!r} is gone as well"


def _why_not_kept(first: str, between: _Shown, after: _Shown) -> str:
    """Deleting one must not undo that the other is completed."""
    missing = between.lacks(first)
    if missing:
        return missing
    return "" if is_same(between.entries[first], after.entries[first]) else f"{first!r} is not as it was"
