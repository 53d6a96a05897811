"""A table laid out for the terminal it is read in: whole, or in parts below one another, and never a figure cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

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
        from rich.cells import cell_len

        # As they will be drawn: they are foreign, and may hold characters of no width or of two.
        names = [console.render_str(name).plain for name in self.names]
        named = max(len(self.name), *map(cell_len, names))
        width = options.max_width
        apart = named > width // 3 and _needed(self.columns) + named > width
        for number, columns in enumerate(parts(self.columns, width - (_INDENT if apart else named))):
            lines = self._apart(columns, names) if apart else self._beside(columns, names, named, options)
            yield from self._drawn(console, lines, begun=number > 0)

    @staticmethod
    def _drawn(console: Console, lines: Iterable[tuple[str, str]], *, begun: bool) -> RenderResult:
        """Lines with their styles, below an empty one where others came before.

        As segments of whole lines: rich's own table measures and wraps every cell, which for the thousand lines of a
        large run takes ten times as long.
        """
        from rich.segment import Segment

        if begun:
            yield Segment.line()
        for text, style in lines:
            yield Segment(text, console.get_style(style) if style else None)
            yield Segment.line()

    def _beside(
        self, columns: Sequence[Column], names: Sequence[str], named: int, options: ConsoleOptions
    ) -> Iterator[tuple[str, str]]:
        """Names and figures in one line each, below headings and a rule."""
        from rich.cells import cell_len

        yield self.name.ljust(named) + _figures(columns, None), "bold"
        yield ("-" if options.ascii_only else "\N{BOX DRAWINGS LIGHT HORIZONTAL}") * (named + _needed(columns)), ""
        for number, (name, style) in enumerate(zip(names, self.styles, strict=True)):
            yield name + " " * (named - cell_len(name)) + _figures(columns, number), style

    def _apart(self, columns: Sequence[Column], names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Names on lines of their own, with the figures below."""
        yield _figures(columns, None), ""
        for number, (name, style) in enumerate(zip(names, self.styles, strict=True)):
            yield name, style
            yield _figures(columns, number), style


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence whose further lines are set in: no name in it can pass for a line of its own."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        first, *others = console.render_str(self.text).wrap(console, max(1, options.max_width - _INDENT)) or [Text()]
        yield Text(first.plain.rstrip(), style=self.style)
        for other in others:
            yield Text(" " * _INDENT + other.plain.strip(), style=self.style)


def _figures(columns: Sequence[Column], line: int | None) -> str:
    """The figures of a line, or with None the headings, each behind its gap."""
    gap = " " * _GAP
    return "".join(gap + (each.heading if line is None else each.cells[line]).rjust(each.width) for each in columns)


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
