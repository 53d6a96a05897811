"""Writes to one stream, and is the only one to do so: sentences, pages of lines and tables, JSON, and the live view."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from orchestrator.errors import SweepError
from orchestrator.terminal.guard import ReaderGoneError, guarded, lose, unguarded, write
from orchestrator.terminal.inert import json_text, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from rich.console import RenderableType

    from orchestrator.terminal.console import InertConsole

PLAIN_WIDTH: Final = 100
"""Characters a line of a page, where there is no terminal to ask."""
_MOST_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class Json:
    """A part of a page that is for programs: `value`, as JSON."""

    value: Any


Part: TypeAlias = "str | Json | RenderableType"
"""Of a page. A str is one line, whatever it holds; a rich Text is a paragraph as wide as the page."""


class Printer:
    """One stream, as a person or a program reads it. What it is given may be foreign through and through.

    Characters that the stream's encoding does not have are written as escapes.

    Args:
        file: the stream; None (its descriptor was closed when we began) takes everything and writes nothing.
        must_arrive: whether failing to write is an error. Where it is not, as with progress, what cannot be written
            is dropped.
    """

    def __init__(self, file: TextIO | None, *, must_arrive: bool = False) -> None:
        self._file = file
        self._must_arrive = must_arrive
        self._screen: InertConsole | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person sits at the other end."""
        try:
            return self._file is not None and self._file.isatty()
        except (OSError, ValueError):  # closed
            return False

    def say(self, *texts: str) -> None:
        """A line for each of `texts`."""
        for text in texts:
            if self._screen is None:
                self._write(f"{line(text)}\n")
            else:
                self._screen.print(line(text), soft_wrap=True)

    def complain(self, what: str, *more: str) -> None:
        """What ended a command, behind `error:`, and lines that are set in, so that none passes for one of ours."""
        left_out = [f"... and {len(more) - _MOST_LINES:,} more"] if len(more) > _MOST_LINES else []
        self.say(f"error: {what}", *(f"  {each}" for each in [*more[:_MOST_LINES], *left_out]))

    def page(self, *parts: Part) -> None:
        """An answer: its parts one below the other."""
        self._write(self.text_of(*parts) + "\n")

    def text_of(self, *parts: Part, width: int | None = None, colour: bool | None = None) -> str:
        """What `page` writes.

        Args:
            parts: lines, JSON, and whatever else rich can render.
            width: characters a line; None for the terminal's, or PLAIN_WIDTH elsewhere.
            colour: whether to use it; None for where this is a terminal.
        """
        shown = []
        for part in parts:
            if isinstance(part, str):
                shown.append(line(part))
                continue
            if isinstance(part, Json):
                shown.append(json_text(part.value, ascii_only=not self._encoding.lower().startswith("utf")))
                continue
            console = self._console(width, colour)
            with console.capture() as capture:
                # Figures are never cut: a table that is too wide is the reader's to scroll.
                console.print(part, crop=False, overflow="fold")
            shown.append("\n".join(each.rstrip() for each in capture.get().splitlines()))
        return "\n".join(shown)

    @contextlib.contextmanager
    def live(self, view: RenderableType) -> Iterator[None]:
        """Redraws `view` in place meanwhile, and takes it off the screen at the end.

        Above it goes what is said meanwhile, and what others write to the standard streams.
        """
        from rich.live import Live

        screen = self._console(None, None)
        with Live(
            view, console=screen, refresh_per_second=4, transient=True, redirect_stdout=False, redirect_stderr=False
        ):
            self._screen = screen
            try:
                with guarded(self.say):
                    yield
            finally:
                self._screen = None

    @property
    def _encoding(self) -> str:
        return getattr(self._file, "encoding", None) or "utf-8"

    def _console(self, width: int | None, colour: bool | None) -> InertConsole:
        from orchestrator.terminal.console import InertConsole

        if not self.is_terminal:
            width, colour = width or PLAIN_WIDTH, colour or False
        return InertConsole(_Outlet(self._write, self._encoding, self.is_terminal), width=width, colour=colour)

    def _write(self, text: str) -> None:
        if self._file is None:
            return
        try:
            write(self._file, text)
        except ReaderGoneError:
            if self._must_arrive:
                raise
        except (OSError, ValueError) as error:
            if self._must_arrive:
                lose(self._file)
                reason = getattr(error, "strerror", None) or error
                raise SweepError(f"the answer cannot be written to standard output: {reason}") from None


class _Outlet(io.StringIO):
    """The file that rich writes to: a printer's stream."""

    def __init__(self, write: Any, encoding: str, is_terminal: bool) -> None:
        super().__init__()
        self._write_on, self._encoding, self._is_terminal = write, encoding, is_terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of a StringIO it is None
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        self._write_on(text)
        return len(text)


def stdout() -> Printer:
    """Where answers go. Raises ReaderGoneError where nobody reads, SweepError where there is no room."""
    return Printer(unguarded(sys.stdout), must_arrive=True)


def stderr() -> Printer:
    """Where everything goes that is said beside the answer. Writing never fails."""
    return Printer(unguarded(sys.stderr))
