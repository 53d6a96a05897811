"""A table laid out for the terminal it is read in: whole, or in parts below one another, and never a figure cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_GAP: Final = 2
_INDENT: Final = 2
"""Of figures below a name that has a line of its own."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of figures.

    Attributes:
        heading: what stands above.
        cells: one a line of the table; empty where there is nothing to say.
        part: what it belongs to; where a table is parted, it is so between two of these first.
        told: its figures are said elsewhere on the page as well, so it may be left out.
        joined: it says more of the column before it, and stays beside that.
    """

    heading: str
    cells: Sequence[str]
    part: str = ""
    told: bool = False
    joined: bool = False

    @property
    def width(self) -> int:
        """Characters that it takes, without the gap before it."""
        return max(len(self.heading), *map(len, self.cells))


@dataclass(frozen=True, slots=True)
class Layout:
    """A table of `columns` with a name in front of each line, and as many parts as the console's width asks for.

    Attributes:
        name: the heading of the names.
        names: one a line. Where the longest takes too much of the width, each has a line of its own.
        columns: those that say something.
        styles: one a line.
    """

    name: str
    names: Sequence[str]
    columns: Sequence[Column]
    styles: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # As they will be drawn: they are foreign, and may hold characters of no width or of two.
        named = max(len(self.name), *(console.render_str(name).cell_len for name in self.names))
        width = options.max_width
        apart = named > width // 3 and _needed(self.columns) + named > width
        for number, columns in enumerate(parts(self.columns, width - (_INDENT if apart else named))):
            if number:
                yield ""
            if apart:
                yield from self._apart(columns, console)
            else:
                yield self._beside(columns, named)

    def _beside(self, columns: Sequence[Column], named: int) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(self.name, no_wrap=True, min_width=named)
        for column in columns:
            table.add_column(column.heading, justify="right", no_wrap=True, min_width=column.width)
        for line, (name, style) in enumerate(zip(self.names, self.styles, strict=True)):
            table.add_row(name, *(column.cells[line] for column in columns), style=style)
        return table

    def _apart(self, columns: Sequence[Column], console: Console) -> RenderResult:
        """Names on lines of their own, with the figures below."""
        indent = " " * _INDENT
        gap = " " * _GAP
        yield console.render_str(indent + gap.join(column.heading.rjust(column.width) for column in columns))
        for line, (name, style) in enumerate(zip(self.names, self.styles, strict=True)):
            yield console.render_str(name, style=style)
            figures = gap.join(column.cells[line].rjust(column.width) for column in columns)
            yield console.render_str(indent + figures, style=style)


def parts(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """`columns` in as few parts as fit into `room` characters each, its gaps included, in their order.

    First what is told elsewhere is left out, one after the other; if that is not enough, the table is parted where one
    kind of figures ends, and then within them. A column that is too wide by itself stands alone.
    """
    if (whole := _leaner(columns, room)) is not None:
        return [whole]
    found: list[list[Column]] = []
    for kind in dict.fromkeys(column.part for column in columns):
        group = [column for column in columns if column.part == kind]
        leaner = _leaner(group, room)
        bare = [column for column in group if not column.told] or group
        found += _parted(_joined(bare), room) if leaner is None else [leaner]
    return found


def _leaner(columns: Sequence[Column], room: int) -> list[Column] | None:
    """As many of `columns` as fit, without one or more of those that are told elsewhere; None if that is not enough."""
    told = [column for column in columns if column.told]
    for number in range(len(told) + 1):
        left = [column for column in columns if column not in told[:number]]
        if _needed(left) <= room:
            return left
    return None


def _joined(columns: Sequence[Column]) -> list[list[Column]]:
    """Columns that stay together."""
    found: list[list[Column]] = []
    for column in columns:
        if column.joined and found:
            found[-1].append(column)
        else:
            found.append([column])
    return found


def _parted(groups: Sequence[list[Column]], room: int) -> list[list[Column]]:
    """The fewest parts that fit, of as equal a width as can be."""
    for count in range(1, len(groups)):
        ways = [
            [
                [column for group in groups[begin:end] for column in group]
                for begin, end in pairwise((0, *cuts, len(groups)))
            ]
            for cuts in combinations(range(1, len(groups)), count - 1)
        ]
        best = min(ways, key=lambda way: max(map(_needed, way)))
        if max(map(_needed, best)) <= room:
            return best
    return [list(group) for group in groups]


def _needed(columns: Sequence[Column]) -> int:
    return sum(_GAP + column.width for column in columns)
