"""Guards the standard streams against what is written past the exit: libraries, warnings, logging, tracebacks."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.terminal.inert import block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO


class ReaderGoneError(Exception):
    """Whoever read our output has enough of it (`quantsweep show ... | head`), or has closed the terminal."""


class GuardedStream(io.TextIOBase):
    """A text stream whose every line is made inert on its way to another.

    It has no `buffer`: nothing can be written past it.
    """

    def __init__(
        self, stream: TextIO | None, say: Callable[[str], object] | None = None, *, must_arrive: bool = False
    ) -> None:
        """Lines go to `say` when they are complete, or at once to `stream`; None: nowhere.

        Where a text need not arrive, it is dropped once nobody reads.
        """
        self.stream = stream
        self._say = say
        self._must_arrive = must_arrive
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # as every text stream has it
        """What the stream that is guarded is written in."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person sits at the other end."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor, for who wants to know what is behind it."""
        if self.stream is None:
            raise io.UnsupportedOperation("the stream is closed")
        return self.stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def flush(self) -> None:
        """Has arrive what was written."""
        if self.stream is not None and not self.stream.closed:
            self.stream.flush()

    def write(self, text: str, /) -> int:
        """Writes `text`, inert; its line breaks stay."""
        if self._say is not None:
            *whole, self._begun = (self._begun + text).split("\n")
            for line in whole:
                self._say(line)
        elif self.stream is not None:
            try:
                write(self.stream, block(text))
            except ReaderGoneError:
                if self._must_arrive:
                    raise
        return len(text)


def write(stream: TextIO, text: str) -> None:
    """Writes `text`, and as escapes what the stream's encoding does not have, and has it arrive.

    Raises:
        ReaderGoneError: nobody reads any more; what is written from now on goes nowhere.
        OSError: it cannot be written.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        # Now rather than at the interpreter's end, where nobody is left to hear of it.
        stream.flush()
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.EIO}:  # the reader of a pipe has gone, or a terminal was closed
            raise
        lose(stream)
        raise ReaderGoneError from None


def lose(stream: TextIO) -> None:
    """Has what is still to be flushed go nowhere: the interpreter would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def unguarded(stream: Any) -> TextIO | None:
    """The stream itself, if `stream` is a guard in front of it."""
    found: TextIO | None = stream.stream if isinstance(stream, GuardedStream) else stream
    return found


def guard() -> None:
    """From now on nothing steers the terminal by standard output or error, tracebacks included."""
    sys.stdout = GuardedStream(unguarded(sys.stdout), must_arrive=True)
    sys.stderr = GuardedStream(unguarded(sys.stderr))


@contextlib.contextmanager
def guarded(say: Callable[[str], object]) -> Iterator[None]:
    """Meanwhile what is written to standard output or error goes to `say`, a line at a time."""
    before = sys.stdout, sys.stderr
    out, err = (GuardedStream(unguarded(stream), say) for stream in before)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        # Others may have put theirs in front meanwhile, and may hold on to it.
        if sys.stdout is out:
            sys.stdout = before[0]
        if sys.stderr is err:
            sys.stderr = before[1]
