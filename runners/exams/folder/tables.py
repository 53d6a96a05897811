"""Reads the tables of a TOML file key by key: every problem is noted with its line, and keys that nobody knows too."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from profiles.toml_lines import LineIndex, line_of_dotted_key
from runners.exams.folder.content import ExamFolderError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_SAID: Final = 20
MOST_CHARACTERS: Final = 1_000_000
MOST_DOTS: Final = 20


@dataclass
class Problems:
    """What is wrong with a file, a line each."""

    file: str
    index: LineIndex
    said: list[str] = field(default_factory=list)

    def add(self, path: tuple[str | int, ...], text: str) -> None:
        """Notes what is wrong at a path of keys."""
        line = self.index.line(path)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        self.said.append(
            ": ".join([self.file if line is None else f"{self.file}:{line}", *([key] if key else []), text])
        )


class Table:
    """A table whose keys are taken one by one; `close` names those that nobody took."""

    def __init__(self, data: Mapping[str, Any], path: tuple[str | int, ...], problems: Problems) -> None:
        self._data, self._path, self._problems = dict(data), path, problems
        self._known: list[str] = []

    def problem(self, key: str, text: str) -> None:
        """Notes what is wrong with a key; with the table itself where it is empty."""
        self._problems.add((*self._path, key) if key else self._path, text)

    def has(self, key: str) -> bool:
        """Whether the key is there and not taken."""
        return key in self._data

    def _take(self, key: str) -> Any:
        self._known.append(key)
        return self._data.pop(key, None)

    def text(self, key: str, default: str = "", *, required: bool = False) -> str:
        """A text; problems are noted, and the default taken."""
        value = self._take(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
            return default
        if not isinstance(value, str) or "\0" in value:
            self.problem(key, f'must be text in quotes, such as "name" (here: {value!r:.80})')
            return default
        return value

    def number(self, key: str, default: float, *, most: float, least: float = 0.0, above: bool = True) -> float:
        """A number from `least`, or above it, to `most`."""
        value = self._take(key)
        if value is None:
            return default
        fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most
        if not fine or not math.isfinite(value) or value < least or (above and value == least):
            low = f"above {least:g}" if above else f"from {least:g}"
            self.problem(key, f"must be a number {low} to {most:g} (here: {str(value)[:40]})")
            return default
        return float(value)

    def whole(self, key: str, default: int, *, most: int, least: int = 1) -> int:
        """A whole number from `least` to `most`; 64.0 is one as well."""
        value = self._take(key)
        if value is None:
            return default
        fine = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        if not fine or value != int(value):
            self.problem(key, f"must be a whole number from {least} to {most} (here: {str(value)[:40]})")
            return default
        return int(value)

    def flag(self, key: str) -> bool:
        """True or false; false where it is not there."""
        value = self._take(key)
        if value is not None and not isinstance(value, bool):
            self.problem(key, f"must be true or false (here: {value!r:.80})")
        return value is True

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty where it is not there."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) and "\0" not in each for each in value):
            self.problem(key, f'must be a list of texts, such as ["one", "two"] (here: {value!r:.80})')
            return ()
        return tuple(value)

    def table(self, key: str) -> Table:
        """A table within this one; an empty one where it is not there."""
        value = self._take(key)
        if value is not None and not isinstance(value, dict):
            self.problem(key, f"must be a table (here: {value!r:.80})")
        return Table(value if isinstance(value, dict) else {}, (*self._path, key), self._problems)

    def tables(self, key: str, most: int) -> list[Table]:
        """The tables under `[[key]]`, at most `most`."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.problem(key, f"must be tables, each under [[{key}]]")
            return []
        if len(value) > most:
            self.problem(key, f"there are {len(value):,}, and there may be {most}")
        return [Table(each, (*self._path, key, number), self._problems) for number, each in enumerate(value[:most])]

    def rest(self) -> dict[str, Any]:
        """Everything that is left, by key: of a table whose keys are names."""
        left, self._data = self._data, {}
        return left

    def close(self) -> None:
        """Notes every key that nobody took."""
        for key in list(self._data)[:MOST_SAID]:
            near = get_close_matches(str(key), self._known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(self._known)}"
            self.problem(key, f"unknown key; {hint}")


def parsed(text: str, file: str) -> tuple[Table, Problems]:
    """The file as a table, refused where no person wrote it: tomllib's time grows with the square of a key's dots."""
    problems = Problems(file, LineIndex(text))
    if len(text) > MOST_CHARACTERS:
        raise ExamFolderError(f"{file}: it has more than {MOST_CHARACTERS:,} characters")
    if line := line_of_dotted_key(text, MOST_DOTS):
        raise ExamFolderError(f"{file}:{line}: a key has at most {MOST_DOTS} dots", "docs/exams.md has every key")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ExamFolderError(f"{file}: its tables and lists are nested too deeply") from None
    except ValueError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{file}:{place[1]}" if place else file
        message = re.sub(r" \(at [^()]*\)$", "", str(error))
        raise ExamFolderError(f"{where}: this is not valid TOML: {message}", "see docs/exams.md") from None
    return Table(data, (), problems), problems
