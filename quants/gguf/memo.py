"""Large arrays of strings that were walked before: sixty quants of one model share one tokenizer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError
from quants.gguf.limits import MiB

if TYPE_CHECKING:
    from quants.gguf.window import Window

_PIECE_BYTES: Final = MiB
_FIRST_BYTES: Final = 4096
# Bounds for a folder made to do harm: so many arrays, of one length, of a size.
_KEPT: Final = 64
_KEPT_OF_A_COUNT: Final = 4
_MOST_BYTES: Final = 32 * MiB


class ArrayMemo:
    """Knows arrays again by their content, without keeping it.

    Hashing five megabytes takes a tenth of the time that walking their 150,000 length prefixes does.
    """

    def __init__(self) -> None:
        # By number of strings: size in bytes, sha256 of the beginning, sha256 of all.
        self._known: dict[int, list[tuple[int, bytes, bytes]]] = {}
        self._kept = 0

    def find(self, window: Window, offset: int, count: int) -> int | None:
        """The size in bytes of the `count` strings at `offset` if just these were seen before."""
        for size_bytes, beginning, whole in self._known.get(count, ()):
            if (
                _digest(window, offset, min(size_bytes, _FIRST_BYTES)) == beginning
                and _digest(window, offset, size_bytes) == whole
            ):
                return size_bytes
        return None

    def keep(self, window: Window, offset: int, size_bytes: int, count: int) -> None:
        """Remember an array that was walked."""
        known = self._known.setdefault(count, [])
        if self._kept < _KEPT and len(known) < _KEPT_OF_A_COUNT and size_bytes <= _MOST_BYTES:
            beginning = _digest(window, offset, min(size_bytes, _FIRST_BYTES))
            whole = _digest(window, offset, size_bytes)
            if whole:
                known.append((size_bytes, beginning, whole))
                self._kept += 1


def _digest(window: Window, offset: int, size_bytes: int) -> bytes:
    """Of that part of the file; empty where the file ends before."""
    found = hashlib.sha256()
    end = offset + size_bytes
    try:
        for start in range(offset, end, _PIECE_BYTES):
            stop = min(start + _PIECE_BYTES, end)
            window.need(start, stop)
            found.update(memoryview(window.data)[start - window.base : stop - window.base])
    except GGUFError:
        return b""
    return found.digest()
