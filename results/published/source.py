"""A report's source, read: its tables line by line, under the conditions that the report gives."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from results.published import REPORTS
from results.published.printed import Figure, PrintedError, Values, number, read_cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TEXT: Final = "claims"
"""The table under which claims of a report's text stand."""

_CONDITIONS: Final = (
    *("hardware", "card", "backend", "engine", "engine_build", "seeds", "temperature"),
    *("context", "max_tokens", "timeout_s", "bandwidth_gb_s", "score_step", "cache_type"),
)
_ELSEWHERE: Final = frozenset({"seeds", "temperature", "max_tokens", "timeout_s"})
"""Conditions that hold as well for a model that somebody else serves."""
_OF_TABLE: Final = ("exam", "score_max", "origin", "compiled_from")
_OF_MODEL: Final = ("name", "id", "variant", "reasoning_mode", "kind", "quant")
_SIZES: Final = ("parameters", "parameters_active", "file_bytes", "architecture")
_NUMBERS: Final = ("temperature", "context", "max_tokens", "timeout_s", "bandwidth_gb_s", "score_step", "score_max")


class SourceError(ValueError):
    """A source that does not say what it should: the file, the table and the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table, or one column of a table where models stand beside one another.

    Attributes:
        lines: where it stands in the report's text.
        label: the model, as it is printed there.
        printed: columns whose value stands in the line itself; the others are conditions of the report.
        values: by column; numbers are `Figure`s.
        cells: how many cells of the line hold a figure, or say yes or no.
    """

    report: str
    table: str
    lines: tuple[int, ...]
    label: str
    printed: frozenset[str]
    values: Values = field(compare=False)
    cells: int = 0

    def figure(self, column: str) -> Figure | None:
        """The number in a column, if there is one."""
        value = self.values.get(column)
        return value if isinstance(value, Figure) else None

    def text(self, column: str) -> str | None:
        """The text in a column, if there is one."""
        value = self.values.get(column)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Source:
    """A report: its lines, what its text claims of them, and the flags that a person set (as in the file)."""

    name: str
    title: str
    lines: tuple[Line, ...]
    claims: tuple[Mapping[str, Any], ...]
    flags: tuple[Mapping[str, Any], ...]

    def of_table(self, table: str) -> list[Line]:
        """The lines of a table, in its order."""
        return [line for line in self.lines if line.table == table]


@cache
def read_source(name: str) -> Source:
    """The report of that name, one of REPORTS.

    Raises:
        SourceError: its source contradicts itself.
    """
    if name not in REPORTS:
        raise SourceError(f"there is no published report {name!r}; there are {', '.join(REPORTS)}")
    text = resources.files("results.published").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return to_source(name, tomllib.loads(text))


def to_source(name: str, data: Mapping[str, Any]) -> Source:
    """The report of a source's TOML."""
    report, models = data["report"], data["models"]
    conditions = _figures({key: report[key] for key in _CONDITIONS if key in report})
    lines: list[Line] = []
    for table in data["table"]:
        own = {key: table[key] for key in _OF_TABLE if key in table}
        for line in _lines(name, table):
            if line.label not in models:
                raise SourceError(f"{name}.toml, table {table['name']}: no model is called {line.label!r}")
            said = _of_model(line.label, models[line.label])
            known = said | line.values  # what the line itself says goes before what is known of the model
            here = table.get("origin") != "self-reported" and known.get("kind") != "cloud"
            held = conditions if here else {key: conditions[key] for key in conditions.keys() & _ELSEWHERE}
            lines.append(replace(line, values=held | _figures(own) | known))
    return Source(name, report["title"], tuple(lines), tuple(data.get("claim", ())), tuple(data.get("flag", ())))


def _figures(values: Mapping[str, Any]) -> Values:
    return {key: number(f"{value}") if key in _NUMBERS else value for key, value in values.items()}


def _of_model(label: str, entry: Mapping[str, Any]) -> Values:
    values: Values = {"model": entry.get("model", label)}
    values |= {key: entry[key] for key in _OF_MODEL if key in entry}
    for key in _SIZES:
        if key in entry:
            values |= {key: number(entry[key])} if key != "architecture" else {key: entry[key]}
    return values


def _lines(name: str, table: Mapping[str, Any]) -> Iterator[Line]:
    where = f"{name}.toml, table {table['name']}"
    rows = [_split(where, text) for text in table["lines"].strip().splitlines()]
    try:
        if "labels" in table:
            yield from _columns(name, table, rows)
            return
        for line, cells in rows:
            found = [read_cell(column, cell) for column, cell in zip(table["columns"], cells, strict=True)]
            values: Values = {key: value for each in found for key, value in each.items()}
            label = str(values.pop("label", table.get("label")))
            filled = sum(map(_has_figure, found))
            yield Line(name, table["name"], (line,), label, frozenset(values), values, filled)
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from error


def _has_figure(found: Values) -> bool:
    return any(isinstance(value, Figure | bool) for value in found.values())


def _columns(name: str, table: Mapping[str, Any], rows: Sequence[tuple[int, list[str]]]) -> Iterator[Line]:
    """A table in which each model is a column."""
    for place, label in enumerate(table["labels"]):
        values: Values = {}
        filled = 0
        for _, (column, *cells) in rows:
            if len(cells) != len(table["labels"]):
                raise PrintedError(f"{column}: {len(cells)} cells for {len(table['labels'])} models")
            found = read_cell(column, cells[place])
            values |= found
            filled += _has_figure(found)
        lines = tuple(line for line, _ in rows)
        yield Line(name, table["name"], lines, label, frozenset(values), values, filled)


def _split(where: str, text: str) -> tuple[int, list[str]]:
    line, *cells = (cell.strip() for cell in text.split("|"))
    if not line.isdigit():
        raise SourceError(f"{where}: {text!r} does not begin with the number of a line")
    return int(line), cells
