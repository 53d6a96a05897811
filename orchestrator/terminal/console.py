"""rich's console for foreign text: no markup, no links, and every text inert whichever renderable it came in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from orchestrator.terminal.inert import block, inert, line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from rich.console import ConsoleOptions, RenderableType

MOST_CHARS = 5_000
"""Of one text in a table or a paragraph; ours are shorter."""


class InertConsole(Console):
    """Renders every `str` and `Text` in one line as `inert` has it; only structure (rows, paragraphs) makes lines.

    Better a `str` in a table's cell: a `Text` is made inert when it is drawn, and was measured as it came.
    """

    def __init__(self, file: IO[str], *, width: int | None = None, colour: bool | None = None, **more: Any) -> None:
        """`width` in characters and `colour`: None asks the terminal that `file` is."""
        if colour is not None:
            more |= {"force_terminal": colour, "color_system": "standard" if colour else None, "_environ": {}}
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False, **more)

    def render_str(self, text: str, **more: Any) -> Text:
        """See `rich.console.Console.render_str`: every str becomes a text here, to be measured and to be drawn."""
        return super().render_str(line(text, MOST_CHARS), **more)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `rich.console.Console.render`, which everything that is printed goes through."""
        if isinstance(renderable, Text):
            renderable = _inert(renderable)
        for segment in super().render(renderable, options):
            yield segment if segment.control else _checked(segment)


def _inert(text: Text) -> Text:
    """A copy of as many characters, so that its styles stay where they are; an overlong one is cut, and is plain."""
    plain = text.plain
    if len(plain) > MOST_CHARS:
        return Text(line(plain, MOST_CHARS), style=text.style, no_wrap=text.no_wrap, overflow=text.overflow)
    shown = inert(plain)
    if shown == plain:
        return text
    copy = text.copy()
    copy.plain = shown
    return copy


def _checked(segment: Segment) -> Segment:
    """What a renderable brought without a `Text`: its line breaks are structure, all else has to be inert."""
    style = segment.style
    if style is not None and style.link:
        style = style.update_link(None)
    shown = block(segment.text)
    if shown == segment.text and style is segment.style:
        return segment
    return Segment(shown, style)
