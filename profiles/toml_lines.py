"""Where a key stands in a TOML file: `tomllib` keeps no positions, and an error without a line is half an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = re.compile(r"^\s*+(\[\[?)([^\[\]]++)\]\]?\s*+(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")

_QUOTED = re.compile(
    r'''"""(?:[^"\\]|\\(?:.|\Z)|"(?!""))*+(?:"{3,5})?|"(?:[^"\\\n]|\\[^\n])*+"?'''
    r"""|'''(?:[^']|'(?!''))*+(?:'{3,5})?|'[^'\n]*+'?|\#[^\n]*+""",
    re.DOTALL,
)
_UNQUOTED_RUN = re.compile(r"[A-Za-z0-9_. \t-]++")

Path = tuple[str | int, ...]


def _parts(dotted: str) -> list[str]:
    return [a or b or c for a, b, c in _PART.findall(dotted)]


def line_of_dotted_key(text: str, most: int) -> int | None:
    """The line of the first key with more than `most` dots; None where there is none.

    For whoever parses a text of others: tomllib's time grows with the square of a key's dots. Texts, comments and
    values may have any number of them. It takes time in proportion to the text, whether that is valid TOML or not.
    """
    bare = _QUOTED.sub(lambda found: "\n" * found[0].count("\n") or "_", text)
    for run in _UNQUOTED_RUN.finditer(bare):
        if run[0].count(".") > most:
            return bare.count("\n", 0, run.start()) + 1
    return None


class LineIndex:
    """Maps paths such as `("models", 1, "quants")` to line numbers.

    A scan of lines, not a parser: keys inside multi-line strings may be misread. It only ever decorates
    an error that `tomllib` and pydantic have found, so a wrong guess costs a line number and nothing else.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        counts: dict[Path, int] = {}
        prefix: Path = ()
        number = 1
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.match(line):
                prefix = self._enter(_parts(header[2]), counts, is_array=header[1] == "[[")
                self._lines.setdefault(prefix, number)
            elif key := _KEY.match(line):
                path = prefix
                for part in _parts(key[1]):
                    path = (*path, part)
                    self._lines.setdefault(path, number)
        self.last = number
        """The file's last line, where a table that is missing could stand."""

    @staticmethod
    def _enter(names: list[str], counts: dict[Path, int], *, is_array: bool) -> Path:
        """The path of a table header, with the index of the array element it belongs to."""
        path: Path = ()
        for depth, name in enumerate(names):
            path = (*path, name)
            if depth == len(names) - 1 and is_array:
                counts[path] = counts.get(path, -1) + 1
            if path in counts:
                path = (*path, counts[path])
        return path

    def line(self, path: Sequence[str | int]) -> int | None:
        """The line of `path`, or of the nearest enclosing key that has one."""
        for end in range(len(path), 0, -1):
            if (found := self._lines.get(tuple(path[:end]))) is not None:
                return found
        return None
