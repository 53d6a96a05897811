"""Decode the values of a GGUF header as its window moves over them, each checked before it is used."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal

from quants.errors import GGUFError
from quants.gguf.header import Deferred, Value
from quants.gguf.types import ARRAY, BOOL, SCALAR_TYPES, STRING

if TYPE_CHECKING:
    from quants.gguf.limits import Limits
    from quants.gguf.memo import ArrayMemo
    from quants.gguf.window import Window


_KINDS = {name: kind for kind, (name, _, _) in SCALAR_TYPES.items()} | {"string": STRING, "array": ARRAY}


class ValueReader:
    """Reads values at given offsets of the file.

    Attributes:
        window: what of the file is here.
        codes: the byte order as `struct` writes it, "<" or ">".

    Args:
        limits: the caps.
        memo: arrays walked before, shared between the headers of one listing.
    """

    def __init__(self, window: Window, *, limits: Limits, memo: ArrayMemo | None) -> None:
        self.window = window
        self._limits = limits
        self._memo = memo
        self._text_bytes = 0
        self._elements = 0
        self._strings = 0
        self._nested = 0
        self.set_order("little")

    def set_order(self, order: Literal["little", "big"]) -> None:
        """Read numbers in this byte order from now on."""
        self.codes = "<" if order == "little" else ">"
        self._u32 = struct.Struct(f"{self.codes}I").unpack_from
        self._u64 = struct.Struct(f"{self.codes}Q").unpack_from

    def u32(self, pos: int) -> int:
        """The unsigned integer of four bytes at `pos`; what lies before it is let go of."""
        self.window.need(pos, pos + 4)
        value: int = self._u32(self.window.data, pos - self.window.base)[0]
        return value

    def u64(self, pos: int) -> int:
        """The unsigned integer of eight bytes at `pos`; what lies before it is let go of."""
        self.window.need(pos, pos + 8)
        value: int = self._u64(self.window.data, pos - self.window.base)[0]
        return value

    def value(self, kind: int, pos: int, key: str) -> tuple[Value, int]:
        """The metadata value of type `kind` at `pos`, and the offset behind it."""
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            end = pos + scalar[2]
            value = self._unpack(scalar[1], pos, end)[0]
            if kind == BOOL:
                if value > 1:
                    raise self.error(f"{key!r} is a bool of value {value}", pos)
                value = bool(value)
            return value, end
        if kind == STRING:
            return self._text(pos, key)
        if kind == ARRAY:
            return self._array(pos, key)
        raise self.error(f"{key!r} has value type {kind:,}, which does not exist", pos - 4)

    def bytes_at(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        self.window.need(start, end)
        return self.window.data[start - self.window.base : end - self.window.base]

    def _unpack(self, codes: str, start: int, end: int) -> tuple[int | float, ...]:
        self.window.need(start, end)
        return struct.unpack_from(self.codes + codes, self.window.data, start - self.window.base)

    def _text(self, pos: int, key: str) -> tuple[Value, int]:
        length = self.u64(pos)
        start, end = pos + 8, pos + 8 + length
        if end > self._limits.header_bytes:
            raise self.error(f"the value of {key!r} is {length:,} bytes long, more than any header holds", pos)
        if length > self._limits.text_bytes or self._text_bytes + length > self._limits.total_text_bytes:
            return Deferred("string", length, start, length), end
        self._text_bytes += length
        # Descriptions with broken characters are met in the wild and harm nobody.
        return self.bytes_at(start, end).decode("utf-8", errors="replace"), end

    def _array(self, pos: int, key: str) -> tuple[Value, int]:
        kind, count, start = self._array_head(pos, key)
        scalar = SCALAR_TYPES.get(kind)
        small = count <= self._limits.array_elements and self._elements + count <= self._limits.total_elements
        if scalar is not None:
            end = start + count * scalar[2]
            if not small:
                return Deferred(scalar[0], count, start, end - start), end
            self._elements += count
            values = self._unpack(f"{count}{scalar[1]}", start, end)
            return tuple(map(bool, values)) if kind == BOOL else values, end
        if kind == ARRAY:
            end = self._nested_end(start, count, key, 1)
            return Deferred("array", count, start, end - start), end
        text_bytes = self._limits.total_text_bytes - self._text_bytes if small else -1
        end = self._strings_end(start, count, key, kept_bytes=text_bytes)
        if end - start > text_bytes:
            return Deferred("string", count, start, end - start), end
        self._text_bytes += end - start
        return self._decoded(STRING, self.bytes_at(start, end), 0, count, key)[0], end

    def _array_head(self, pos: int, key: str) -> tuple[int, int, int]:
        """Element type, count and first byte of the array at `pos`, with the count checked against the caps."""
        self.window.need(pos, pos + 12)
        kind, count = struct.unpack_from(f"{self.codes}IQ", self.window.data, pos - self.window.base)
        scalar = SCALAR_TYPES.get(kind)
        if scalar is None and kind not in {STRING, ARRAY}:
            raise self.error(f"{key!r} is an array of value type {kind:,}, which does not exist", pos)
        least = scalar[2] if scalar else (8 if kind == STRING else 12)
        if pos + 12 + count * least > self._limits.header_bytes:
            raise self.error(f"{key!r} announces an array of {count:,} elements, more than any header holds", pos + 4)
        return kind, count, pos + 12

    def _strings_end(self, start: int, count: int, key: str, *, kept_bytes: int) -> int:
        """The offset behind `count` strings at `start`; the first `kept_bytes` stay in the window, -1 for none.

        The hot loop, as it runs over every token and merge: no object is made of any of them.
        """
        self._strings += count
        if self._strings > self._limits.walked_strings:
            raise self.error(f"holds more than {self._limits.walked_strings:,} strings, as {key!r} shows", start)
        memo = self._memo if count > self._limits.array_elements else None
        size_bytes = None if memo is None else memo.find(self.window, start, count)
        if size_bytes is not None:
            return start + size_bytes
        end = self._walk(start, count, key, kept_bytes)
        if memo is not None:
            memo.keep(self.window, start, end - start, count)
        return end

    def _walk(self, start: int, count: int, key: str, kept_bytes: int) -> int:
        unpack, window = self._u64, self.window
        index, pos = 0, start  # the string that comes next, and where its length lies
        while index < count:
            window.need(start if pos - start <= kept_bytes else pos, pos + 8)
            data, base = window.data, window.base
            at = pos - base
            try:
                for index in range(index, count):  # noqa: B007, B020 - resumes at `index`, which says how far it got
                    at += 8 + unpack(data, at)[0]
            except (struct.error, OverflowError):
                longest = index - 1  # the length of string `index` lies behind the window, or behind any file
            else:
                longest = index
                index = count
            pos = base + at
            if pos > self._limits.header_bytes:
                raise self.error(f"string {longest:,} of {key!r} is longer than any header", start)
        return pos

    def _nested_end(self, start: int, count: int, key: str, depth: int) -> int:
        """The offset behind `count` arrays at `start`."""
        if depth > self._limits.depth:
            raise self.error(f"{key!r} nests arrays more than {self._limits.depth} deep", start)
        self._nested += count
        if self._nested > self._limits.nested_arrays:
            raise self.error(f"{key!r} nests more than {self._limits.nested_arrays:,} arrays", start)
        pos = start
        for _ in range(count):
            kind, inner, pos = self._array_head(pos, key)
            scalar = SCALAR_TYPES.get(kind)
            if scalar is not None:
                pos += inner * scalar[2]
            elif kind == STRING:
                pos = self._strings_end(pos, inner, key, kept_bytes=-1)
            else:
                pos = self._nested_end(pos, inner, key, depth + 1)
        return pos

    def asked_for(self, found: Deferred, key: str) -> Value:
        """The value behind a `Deferred`, read again.

        Raises:
            GGUFError: it is too large even for somebody who asks.
        """
        if found.size_bytes > self._limits.asked_bytes:
            raise self.error(f"{key!r} takes {found.size_bytes:,} bytes; at most {self._limits.asked_bytes:,} are read")
        data = self.bytes_at(found.offset, found.offset + found.size_bytes)
        # An array of strings takes eight bytes more for each; so this is a string.
        if found.type_name == "string" and found.size_bytes == found.length:
            return data.decode("utf-8", errors="replace")
        self._elements = 0
        return self._decoded(_KINDS[found.type_name], data, 0, found.length, key)[0]

    def _decoded(self, kind: int, data: bytes, at: int, count: int, key: str) -> tuple[tuple[Value, ...], int]:
        """The elements of an array whose extent has been checked, and the offset behind them in `data`."""
        self._elements += count
        if self._elements > self._limits.asked_elements:
            raise self.error(f"{key!r} holds more than {self._limits.asked_elements:,} values")
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            values = struct.unpack_from(f"{self.codes}{count}{scalar[1]}", data, at)
            return tuple(map(bool, values)) if kind == BOOL else values, at + count * scalar[2]
        items: list[Value] = []
        for _ in range(count):
            if kind == STRING:
                length = self._u64(data, at)[0]
                items.append(data[at + 8 : at + 8 + length].decode("utf-8", errors="replace"))
                at += 8 + length
            else:
                inner_kind, inner_count = struct.unpack_from(f"{self.codes}IQ", data, at)
                item, at = self._decoded(inner_kind, data, at + 12, inner_count, key)
                items.append(item)
        return tuple(items), at

    def short_string(self, pos: int, what: str, cap: int) -> tuple[str, int]:
        """The short UTF-8 string at `pos` and the offset behind it."""
        length = self.u64(pos)
        if length > cap:
            raise self.error(f"a {what} is {length:,} bytes long; at most {cap:,} are read", pos)
        end = pos + 8 + length
        self._text_bytes += length
        try:
            return self.bytes_at(pos + 8, end).decode("utf-8"), end
        except UnicodeDecodeError:
            raise self.error(f"a {what} is no UTF-8 text", pos + 8) from None

    def error(self, message: str, offset: int | None = None, hint: str | None = None) -> GGUFError:
        """A GGUFError about this file."""
        return GGUFError(message, hint, offset, self.window.where)
