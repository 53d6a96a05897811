"""The part of a file that the header parser looks at: read as it goes on, let go of behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from quants.errors import GGUFError
from quants.gguf.limits import LIMITS, MiB

if TYPE_CHECKING:
    from collections.abc import Callable

Read: TypeAlias = "Callable[[int, int], bytes]"

# One read covers the headers of most models; later ones double what was read, up to the second figure.
FIRST_BYTES: Final = 4 * MiB
MOST_BYTES: Final = 4 * MiB


class Window:
    """A stretch of a file that moves forward, and is only as long as what is being parsed.

    What nobody needs decoded (the strings of a vocabulary, once their lengths are known) is passed over: it is not
    kept, and where a single value is larger than a read, it is not even read.

    Attributes:
        data: the bytes that are here.
        base: where they begin in the file.
        end: where they end in the file.
        header_bytes: the longest header that is read; nothing behind it is asked for.

    Args:
        read: gives the file's bytes from one offset to another (exclusive), fewer only at its end.
        size_bytes: of the file; nothing behind it is asked for.
        first_bytes: how much to read at first; what was read doubles from then on.
        most_bytes: the most to read at once, unless a single value to be decoded is longer.
        where: the file or URL, for error texts.
    """

    def __init__(
        self,
        read: Read,
        *,
        size_bytes: int,
        first_bytes: int = FIRST_BYTES,
        most_bytes: int = MOST_BYTES,
        where: str | None = None,
    ) -> None:
        self.data = b""
        self.base = self.end = 0
        self.where = where
        self.header_bytes = LIMITS.header_bytes
        self._read = read
        self._size_bytes = size_bytes
        self._first_bytes = first_bytes
        self._most_bytes = most_bytes
        self._read_bytes = 0

    def need(self, start: int, end: int) -> None:
        """Have the bytes from `start` to `end`; where more has to be read, those before `start` are let go of.

        Raises:
            GGUFError: the file ends before, or no header is that long.
        """
        if end <= self.end and start >= self.base:
            return
        self._check(end)
        if start < self.base or start > self.end:
            self.data, self.base = b"", start
        else:
            self.data, self.base = self.data[start - self.base :], start
        self.end = self.base + len(self.data)
        while self.end < end:
            step = min(max(self._first_bytes, self._read_bytes), self._most_bytes)
            piece = self._read(self.end, min(max(end, self.end + step), self._size_bytes))
            if not piece:
                raise cut_off(self.end, end, self.where)
            self.data = self.data + piece if self.data else piece
            self.end += len(piece)
            self._read_bytes += len(piece)

    def first(self, count: int) -> bytes:
        """The first `count` bytes of the file, or all of them where it has fewer."""
        self.need(0, min(count, self._size_bytes))
        return self.data[:count]

    def jump(self, start: int, next_bytes: int) -> None:
        """Go on at `start`; the next read has `next_bytes`."""
        self.data, self.base, self.end = b"", start, start
        self._first_bytes, self._read_bytes = next_bytes, 0

    def _check(self, end: int) -> None:
        """Refuse to read to `end` where that cannot be right.

        Raises:
            GGUFError: the file ends before, or no header is that long.
        """
        if end > self.header_bytes:
            raise GGUFError(
                f"the header is longer than {self.header_bytes:,} bytes",
                "No real model's is nearly as long: the file is damaged, or made to do harm",
                None,
                self.where,
            )
        if end > self._size_bytes:
            raise cut_off(self._size_bytes, end, self.where)

    def reaches(self, end: int) -> None:
        """Check that the file is at least that long: what was passed over must be there too.

        Raises:
            GGUFError: it is not.
        """
        if end > self.end:
            self._check(end)


def cut_off(size_bytes: int, needed_bytes: int, where: str | None) -> GGUFError:
    """The error for a file of `size_bytes` that ends within its header."""
    if size_bytes == 0:
        return GGUFError("no GGUF: it is empty", "Download or copy it again", None, where)
    return GGUFError(
        f"cut off within its header: {size_bytes:,} bytes, the header goes on to byte {needed_bytes:,} at least",
        "Download or copy it again",
        size_bytes,
        where,
    )
