"""Decode the values of a GGUF header from a growing buffer, each checked before it is used."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal

from quants.errors import GGUFError, NeedMoreBytes
from quants.gguf.header import Deferred, Value
from quants.gguf.types import ARRAY, BOOL, SCALAR_TYPES, STRING

if TYPE_CHECKING:
    from collections.abc import Collection

    from quants.gguf.limits import ArrayMemo, Limits


class ValueReader:
    """Reads values at given offsets of the file's prefix that has arrived so far.

    Attributes:
        data: the prefix; replaced as it grows.
        codes: the byte order as `struct` writes it, "<" or ">".
        u32, u64: unpackers of unsigned integers in that order.

    Args:
        decode: keys of large arrays or strings to decode instead of deferring them.
        where: the file or URL, for error texts.
        limits: the caps.
        memo: arrays walked before, shared between the headers of one listing.
    """

    def __init__(self, *, decode: Collection[str], where: str | None, limits: Limits, memo: ArrayMemo | None) -> None:
        self.data: bytes | bytearray = b""
        self.end = 0
        self._decode = frozenset(decode)
        self._where = where
        self._limits = limits
        self._memo = memo
        self._text_bytes = 0
        self._elements = 0
        self._walk = (0, 0, 0)  # start of the array in progress, strings walked, offset reached
        self.set_order("little")

    def set_order(self, order: Literal["little", "big"]) -> None:
        """Read numbers in this byte order from now on."""
        self.codes = "<" if order == "little" else ">"
        self.u32 = struct.Struct(f"{self.codes}I").unpack_from
        self.u64 = struct.Struct(f"{self.codes}Q").unpack_from

    def set_data(self, data: bytes | bytearray) -> None:
        """Read from this prefix of the file from now on (empty: let go of the buffer)."""
        self.data = data
        self.end = len(data)

    def value(self, kind: int, pos: int, key: str) -> tuple[Value, int]:
        """The metadata value of type `kind` at `pos`, and the offset behind it."""
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            self.need(pos + scalar[2])
            value = struct.unpack_from(self.codes + scalar[1], self.data, pos)[0]
            if kind == BOOL:
                if value > 1:
                    raise self.error(f"{key!r} is a bool of value {value}", pos)
                value = bool(value)
            return value, pos + scalar[2]
        if kind == STRING:
            return self._text(pos, key)
        if kind == ARRAY:
            return self._array(pos, key)
        raise self.error(f"{key!r} has value type {kind:,}, which does not exist", pos - 4)

    def _text(self, pos: int, key: str) -> tuple[Value, int]:
        start, end = self._span(pos, f"value of {key!r}")
        self.need(end)
        length = end - start
        if key not in self._decode:
            if length > self._limits.text_bytes or self._text_bytes + length > self._limits.total_text_bytes:
                return Deferred("string", length, start, length), end
            self._text_bytes += length
        # Descriptions with broken characters are met in the wild and harm nobody.
        return bytes(self.data[start:end]).decode("utf-8", errors="replace"), end

    def _array(self, pos: int, key: str) -> tuple[Value, int]:
        kind, count, start = self._array_head(pos, key)
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            end = start + count * scalar[2]
            self.need(end)
        elif kind == STRING:
            end = self._strings_end(start, count, key)
        else:
            end = self._nested_end(start, count, key, 1)
        name = scalar[0] if scalar else ("string" if kind == STRING else "array")
        if key in self._decode:
            return self._decoded(kind, start, count)
        text_bytes = end - start if kind == STRING else 0
        if (
            kind == ARRAY
            or count > self._limits.array_elements
            or self._elements + count > self._limits.total_elements
            or self._text_bytes + text_bytes > self._limits.total_text_bytes
        ):
            return Deferred(name, count, start, end - start), end
        self._elements += count
        self._text_bytes += text_bytes
        return self._decoded(kind, start, count)

    def _array_head(self, pos: int, key: str) -> tuple[int, int, int]:
        """Element type, count and first byte of the array at `pos`, with the count checked against the caps."""
        self.need(pos + 12)
        kind = self.u32(self.data, pos)[0]
        count = self.u64(self.data, pos + 4)[0]
        scalar = SCALAR_TYPES.get(kind)
        if scalar is None and kind not in {STRING, ARRAY}:
            raise self.error(f"{key!r} is an array of value type {kind:,}, which does not exist", pos)
        least = scalar[2] if scalar else (8 if kind == STRING else 12)
        if pos + 12 + count * least > self._limits.header_bytes:
            raise self.error(f"{key!r} announces an array of {count:,} elements, more than any header holds", pos + 4)
        return kind, count, pos + 12

    def _strings_end(self, start: int, count: int, key: str) -> int:
        """The offset behind `count` strings at `start`: the hot loop, as it runs over every token and merge."""
        memo = self._memo
        if memo is not None:
            size_bytes = memo.find(self.data, start, count)
            if size_bytes is not None:
                return start + size_bytes
        data = self.data
        unpack = self.u64
        index, pos = self._walk[1:] if self._walk[0] == start else (0, start)
        try:
            for index in range(index, count):  # noqa: B007, B020 - resumes at `index`, which says how far it got
                pos += 8 + unpack(data, pos)[0]
        except (struct.error, OverflowError):
            reached, needed = index, pos + 8  # the length of string `index` lies behind the data
        else:
            reached, needed = count, pos
        if needed > self.end:
            if needed > self._limits.header_bytes:
                raise self.error(f"string {reached - 1:,} of {key!r} is longer than any header", start)
            self._walk = (start, reached, pos)
            self.need(needed)
        if memo is not None and count > self._limits.array_elements:
            memo.keep(data, start, pos - start, count)
        return pos

    def _nested_end(self, start: int, count: int, key: str, depth: int) -> int:
        """The offset behind `count` arrays at `start`."""
        if depth > self._limits.depth:
            raise self.error(f"{key!r} nests arrays more than {self._limits.depth} deep", start)
        pos = start
        for _ in range(count):
            kind, inner, pos = self._array_head(pos, key)
            scalar = SCALAR_TYPES.get(kind)
            if scalar is not None:
                pos += inner * scalar[2]
                self.need(pos)
            elif kind == STRING:
                pos = self._strings_end(pos, inner, key)
            else:
                pos = self._nested_end(pos, inner, key, depth + 1)
        return pos

    def _decoded(self, kind: int, pos: int, count: int) -> tuple[tuple[Value, ...], int]:
        """The elements of an array whose extent has been checked, and the offset behind them."""
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            values = struct.unpack_from(f"{self.codes}{count}{scalar[1]}", self.data, pos)
            return tuple(map(bool, values)) if kind == BOOL else values, pos + count * scalar[2]
        items: list[Value] = []
        for _ in range(count):
            if kind == STRING:
                length = self.u64(self.data, pos)[0]
                items.append(bytes(self.data[pos + 8 : pos + 8 + length]).decode("utf-8", errors="replace"))
                pos += 8 + length
            else:
                inner_kind, inner_count, start = self._array_head(pos, "array")
                item, pos = self._decoded(inner_kind, start, inner_count)
                items.append(item)
        return tuple(items), pos

    def short_string(self, pos: int, what: str, cap: int) -> tuple[str, int]:
        """The short UTF-8 string at `pos` and the offset behind it."""
        self.need(pos + 8)
        length = self.u64(self.data, pos)[0]
        if length > cap:
            raise self.error(f"a {what} is {length:,} bytes long; at most {cap:,} are read", pos)
        end = pos + 8 + length
        self.need(end)
        self._text_bytes += length
        try:
            return bytes(self.data[pos + 8 : end]).decode("utf-8"), end
        except UnicodeDecodeError:
            raise self.error(f"a {what} is no UTF-8 text", pos + 8) from None

    def _span(self, pos: int, what: str) -> tuple[int, int]:
        """First byte and end of the string at `pos`; its bytes may not have arrived yet."""
        self.need(pos + 8)
        length = self.u64(self.data, pos)[0]
        if pos + 8 + length > self._limits.header_bytes:
            raise self.error(f"the {what} is {length:,} bytes long, more than any header holds", pos)
        return pos + 8, pos + 8 + length

    def need(self, end: int) -> None:
        """Raise NeedMoreBytes unless the data reaches to `end`."""
        if end > self.end:
            if end > self._limits.header_bytes:
                raise self.error(f"the header is longer than {self._limits.header_bytes:,} bytes", None)
            raise NeedMoreBytes(end, self._where)

    def error(self, message: str, offset: int | None, hint: str | None = None) -> GGUFError:
        """A GGUFError about this file."""
        return GGUFError(message, hint, offset, self._where)
