"""What the three programs are run on: a text and a folder for each scoring, not to be foreseen by a program.

Both follow from a digest of the reply's program: the same for equal programs, unknown to whoever writes one. The
published evaluator's text had a tie at the last places that count, and its tree four files; `corrected` has neither a
tie nor a file or word that a reading of the task could leave out; its words are joined in all ways that the task names
("everything else separates words").
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

# Short common words, so that a text of them looks like one; letters alone.
_WORDS = (
    *("river", "stone", "light", "morning", "garden", "window", "summer", "letter"),
    *("market", "bridge", "yellow", "silver", "paper", "engine", "kitchen", "forest"),
    *("winter", "signal", "copper", "station", "orange", "machine", "ladder", "button"),
    *("velvet", "planet", "mirror", "basket", "candle", "harbor", "island", "jacket"),
    *("kettle", "lantern", "meadow", "needle", "pepper", "rocket", "saddle", "ticket"),
    *("turtle", "valley", "walnut", "wagon", "zebra", "anchor", "barrel", "cactus"),
)
_COUNTS = (47, 41, 36, 30, 26, 21, 17, 13, 10, 8)
_REST = (5, 4, 4, 3, 3, 2, 2, 1, 1, 1)
# As published: places 9 to 12 have the same count.
_TIED = (47, 41, 36, 30, 26, 21, 17, 13, 8, 8, 8, 8)
_STOPS = (
    ". ",
    ", ",
    "; ",
    ": ",
    "! ",
    "? ",
    " (",
    ") ",
    ' "',
    '" ',
    "\n",
    ".\n\n",
    " - ",
    " ",
    " ",
    " ",
    " ",
    " ",
    " ",
)
# What stands between two words without white space, and is no letter; in `corrected` alone.
_JOINTS = ("-", "'", "_", "7", "/", "...", "2 ")
_FOLDERS = ("notes", "archive", "drafts", "assets", "backup", "reports")
_FILES = ("plan", "index", "summary", "table", "picture", "readme", "journal", "budget", "letter", "minutes")
_KIB = 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Words:
    """A text, and its words with their counts, the most frequent first; ties by name, from the end of the alphabet.

    That order of ties is what `sort -rn` makes of lines `COUNT WORD`.
    """

    text: bytes
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Tree:
    """Sizes in bytes of the files of a folder by their paths below it."""

    sizes: dict[str, int]

    def content(self, path: str) -> bytes:
        """What the file at `path` holds."""
        size = self.sizes[path]
        return (f"{path}\n".encode() * (size // (len(path) + 1) + 1))[:size]


class Draw:
    """Choices that follow from a seed alone, whatever version of Python makes them."""

    def __init__(self, seed: bytes) -> None:
        self._seed, self._drawn = seed, 0

    def shuffled(self, values: tuple[T, ...]) -> list[T]:
        """The values in another order."""
        return [value for _, _, value in sorted((self._next(), number, value) for number, value in enumerate(values))]

    def below(self, most: int) -> int:
        """A number from 0 to `most` - 1."""
        return int.from_bytes(self._next()[:4]) % most

    def _next(self) -> bytes:
        self._drawn += 1
        return hashlib.sha256(self._seed + self._drawn.to_bytes(4)).digest()


def words_for(program: bytes, *, tied: bool) -> Words:
    """The text for `program`; `tied`: as the published evaluator's."""
    draw = Draw(b"words" + bytes([tied]) + program)
    counts = (*_TIED, *_REST) if tied else (*_COUNTS, *_REST)
    chosen = list(zip(draw.shuffled(_WORDS), counts, strict=False))
    stops = _STOPS if tied else _STOPS + _JOINTS
    pieces: list[str] = []
    for word in draw.shuffled(tuple(word for word, count in chosen for _ in range(count))):
        form = (word, word, word, word.capitalize(), word.upper())[draw.below(5)]
        pieces += [form, stops[draw.below(len(stops))]]
    ordered = sorted(chosen, key=lambda each: each[0], reverse=True)
    ordered.sort(key=lambda each: -each[1])
    return Words("".join(pieces).encode() + b"\n", tuple(ordered))


def tree_for(program: bytes, *, published: bool) -> Tree:
    """The folder for `program`: four files one folder deep, as published, or nine in five folders."""
    draw = Draw(b"tree" + bytes([published]) + program)
    folders, names = draw.shuffled(_FOLDERS), draw.shuffled(_FILES)
    if published:
        places = ["", f"{folders[0]}/", "", f"{folders[0]}/"]
        sizes = [100 * _KIB, 50 * _KIB, 10 * _KIB, 6]
    else:
        a, b, c, d, e = folders[:5]
        places = ["", "", f"{a}/", f"{a}/{b}/", f"{a}/{b}/", f"{c}/", f"{c}/", f"{d}/{e}/", f"{d}/"]
        # Of several lengths, so that sorting them as text is not sorting them.
        sizes = [size + draw.below(size // 8 + 1) for size in (131072, 90000, 20000, 9000, 2500, 800, 97, 41, 5)]
    paths = [f"{place}{name}.txt" for place, name in zip(places, names, strict=False)]
    return Tree(dict(zip(paths, draw.shuffled(tuple(sizes)), strict=True)))
