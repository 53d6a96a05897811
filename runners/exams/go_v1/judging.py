"""Judges what the three programs printed, under each scoring; run where no text holds anybody up (textwork)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FACTORIAL = "3628800"
_WORD_LINE = re.compile(r"([^\W\d_]++)\s*+:\s*+([0-9]{1,9})")
_SIZE_LINE = re.compile(r"([0-9]{1,18})\s++(\S[^\n]*+)")
_NOT_LETTERS = re.compile(r"[^A-Za-z]++")
_LINES = 200

Judged = tuple[int, str]
"""Points of 3, and why not more."""


def judge_factorial(output: str) -> Judged:
    """The number, whatever white space is around it."""
    got = "".join(output.split())
    return (3, "") if got == _FACTORIAL else (0, f"printed {got[:40]!r} instead of {_FACTORIAL}")


def judge_words(output: str, counts: Sequence[Sequence[str | int]], scoring: str) -> Judged:
    """The most frequent words: all ten 3, else the first three 2, else the first 1.

    `corrected` asks for lines `word: count` in order, with the right counts, all ten in lower case and no further line;
    `published` takes the first word of each of the first ten lines, as sets, and has one order of ties
    (`Words.counts`).
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if scoring == "published":
        first = [_NOT_LETTERS.sub("", line.split()[0]) for line in lines[:10]]
        for points, places in ((3, 10), (2, 3), (1, 1)):
            if {word.lower() for word in first[:places]} == {str(word) for word, _ in counts[:places]}:
                return points, "" if points == 3 else f"the first {places} are right and not the first 10"
        return 0, "not even the most frequent word is right"
    read = [_WORD_LINE.fullmatch(line) for line in lines[:_LINES]]
    got = [(match[1], int(match[2])) if match else None for match in read]
    wanted = [(str(word), int(count)) for word, count in counts[:10]]
    if got == wanted:
        return 3, ""
    begun = [(word.lower(), count) for word, count in filter(None, got[:3])]
    for points, places in ((2, 3), (1, 1)):
        if begun[:places] == wanted[:places] and None not in got[:places]:
            return points, f"the first {places} are right and not all ten lines: {_difference(got, wanted, lines)}"
    return 0, f"not even the first line is right: {_difference(got, wanted, lines)}"


def judge_files(output: str, sizes: dict[str, int], scoring: str) -> Judged:
    """The files by size.

    `corrected`: each file once with its size, the largest first, and no further line: 3; two or more of them, and all
    lines in order: 2; one: 1. `published` looks at the numbers alone: descending, at least four lines 3, two lines 2;
    any line 1.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    read = [_SIZE_LINE.fullmatch(line) for line in lines[:_LINES]]
    numbers = [int(match[1]) for match in read if match]
    descending = numbers == sorted(numbers, reverse=True)
    if scoring == "published":
        for points, least in ((3, 4), (2, 2)):
            if descending and len(numbers) >= least:
                return points, "" if points == 3 else f"{len(numbers)} lines"
        return (1, "not descending, or one line") if lines else (0, "printed nothing")
    found = [_file_of(match, sizes) for match in read]
    right = [path for path in found if path is not None]
    if len(right) == len(lines) == len(sizes) == len(set(right)) and descending:
        return 3, ""
    order = "descending" if descending else "not descending"
    why = f"{len(set(right))} of {len(sizes)} files with their sizes in {len(lines)} lines, {order}"
    return (2 if len(set(right)) > 1 and descending else min(1, len(right))), why


def _file_of(match: re.Match[str] | None, sizes: dict[str, int]) -> str | None:
    """The file whose size and path a line shows; the path may begin anywhere above the folder."""
    if match is None:
        return None
    size, path = int(match[1]), match[2].strip("\"'")
    own = [name for name in sizes if path == name or path.endswith("/" + name)]
    longest = max(own, key=len, default=None)
    return longest if longest is not None and sizes[longest] == size else None


def _difference(got: Sequence[object], wanted: Sequence[object], lines: Sequence[str]) -> str:
    """The first line that is not as it should be."""
    for number, right in enumerate(wanted):
        if number >= len(got):
            return f"{len(got)} lines"
        if got[number] != right:
            return f"line {number + 1} is {lines[number][:60]!r}"
    return f"{len(lines)} lines"
