"""The incremental, bounded GGUF header parser: bytes in, a `Header` out, and never more work than the bytes are worth.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is checked before it is used
for anything, and the work done is linear in the bytes given: what a hostile header announces costs nothing.

A parser may be called again with a longer prefix of the same file; it goes on where it stopped, also inside an array
of hundreds of thousands of tokens, so growing the prefix by doubling costs no quadratic time.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from quants.errors import GGUFError, NeedMoreBytes
from quants.gguf.header import DEFAULT_ALIGNMENT, Deferred, Header, TensorInfo, Value
from quants.gguf.sniff import not_gguf
from quants.gguf.types import ARRAY, BOOL, REMOVED_TENSOR_TYPES, SCALAR_TYPES, STRING, TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Collection

MAGIC: Final = b"GGUF"
MAX_DIMS: Final = 4  # GGML_MAX_DIMS in ggml.h
INT64_MAX: Final = 2**63 - 1
MiB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps far above what real files have, far below what would hurt; together they keep a parse under 64 MiB.

    Attributes:
        header_bytes: the whole header (the largest real ones are about 30 MB).
        keys: metadata entries (real files: under 100).
        tensors: rows of the tensor table (real files: under 10,000).
        key_bytes: one key.
        name_bytes: one tensor name (ggml's own cap, GGML_MAX_NAME, is 64).
        text_bytes: one string; a longer one is deferred.
        total_text_bytes: all decoded strings and keys; strings beyond it are deferred.
        array_elements: one array; a longer one is deferred.
        total_elements: all decoded array elements; arrays beyond it are deferred.
        depth: arrays inside arrays.
    """

    header_bytes: int = 512 * MiB
    keys: int = 16_384
    tensors: int = 65_536
    key_bytes: int = 1_024
    name_bytes: int = 127
    text_bytes: int = 1 * MiB
    total_text_bytes: int = 2 * MiB
    array_elements: int = 16_384
    total_elements: int = 131_072
    depth: int = 4


LIMITS: Final = Limits()


class ArrayMemo:
    """Large string arrays seen before, byte for byte: sixty quants of one model share one tokenizer.

    Comparing five megabytes is one `memcmp`; walking their 150,000 length prefixes is not. At most
    `capacity_bytes` are held.
    """

    def __init__(self, capacity_bytes: int = 64 * MiB) -> None:
        self._capacity_bytes = capacity_bytes
        self._held_bytes = 0
        self._blobs: dict[int, list[bytes]] = {}

    def find(self, data: bytes | bytearray, offset: int, count: int) -> int | None:
        """The size in bytes of the `count` strings at `offset` if just these were seen before."""
        for blob in self._blobs.get(count, ()):
            if data.startswith(blob, offset):
                return len(blob)
        return None

    def keep(self, data: bytes | bytearray, offset: int, size_bytes: int, count: int) -> None:
        """Remember an array that was walked."""
        if self._held_bytes + size_bytes <= self._capacity_bytes:
            self._held_bytes += size_bytes
            self._blobs.setdefault(count, []).append(bytes(data[offset : offset + size_bytes]))


class HeaderParser:
    """Parses one header from successive, ever longer prefixes of its file.

    Args:
        decode: keys of large arrays or strings to decode instead of deferring them.
        where: the file or URL, for error texts.
        limits: the caps.
        memo: shared between the headers of one listing.
    """

    def __init__(
        self,
        *,
        decode: Collection[str] = (),
        where: str | None = None,
        limits: Limits = LIMITS,
        memo: ArrayMemo | None = None,
    ) -> None:
        self._decode = frozenset(decode)
        self._where = where
        self._limits = limits
        self._memo = memo
        self._data: bytes | bytearray = b""
        self._end = 0
        self._pos = 0  # everything before it is parsed
        self._version = 0
        self._codes = "<"
        self._u32 = struct.Struct("<I").unpack_from
        self._u64 = struct.Struct("<Q").unpack_from
        self._order: Literal["little", "big"] = "little"
        self._tensor_count = -1  # -1 until the preamble was read
        self._key_count = 0
        self._metadata: dict[str, Value] = {}
        self._tensors: list[TensorInfo] = []
        self._names: set[str] = set()
        self._text_bytes = 0
        self._elements = 0
        self._walk = (0, 0, 0)  # array start, strings walked, offset reached

    def parse(self, data: bytes | bytearray) -> Header:
        """The header, from `data`: the file from its first byte on, as far as it was read.

        Raises:
            NeedMoreBytes: the header goes on behind `data`; call again with at least that many bytes.
            GGUFError: these bytes are no sound GGUF header, whatever may follow.
        """
        self._data = data
        self._end = len(data)
        try:
            if self._tensor_count < 0:
                self._preamble()
            while len(self._metadata) < self._key_count:
                self._entry()
            while len(self._tensors) < self._tensor_count:
                self._tensor()
            return self._finish()
        finally:
            self._data = b""  # the caller's buffer may grow or go

    # -- the parts of a header, in file order

    def _preamble(self) -> None:
        head = bytes(self._data[:24])
        if head[:4] != MAGIC[: len(head)]:
            raise not_gguf(bytes(self._data[:256]), self._where)
        self._need(24)
        # Files of the other byte order are told by their version: 3 read backwards is 50,331,648.
        version = int.from_bytes(head[4:8], "little")
        if version & 0xFFFF == 0:
            self._order = "big"
            version = int.from_bytes(head[4:8], "big")
        if version == 1:
            raise self._error("GGUF version 1 is no longer read by llama.cpp", 4, "Convert the model again")
        if version not in {2, 3}:
            raise self._error(f"GGUF version {version:,} is not known (2 and 3 are)", 4)
        self._version = version
        self._codes = "<" if self._order == "little" else ">"
        self._u32 = struct.Struct(f"{self._codes}I").unpack_from
        self._u64 = struct.Struct(f"{self._codes}Q").unpack_from
        tensors, keys = struct.unpack_from(f"{self._codes}QQ", head, 8)
        if tensors > self._limits.tensors:
            raise self._error(f"announces {tensors:,} tensors; at most {self._limits.tensors:,} are read", 8)
        if keys > self._limits.keys:
            raise self._error(f"announces {keys:,} metadata keys; at most {self._limits.keys:,} are read", 16)
        self._key_count = keys
        self._tensor_count = tensors
        self._pos = 24

    def _entry(self) -> None:
        key, pos = self._string(self._pos, "metadata key", self._limits.key_bytes)
        if key in self._metadata:
            raise self._error(f"metadata key {key!r} appears twice", self._pos)
        self._need(pos + 4)
        kind = self._u32(self._data, pos)[0]
        value, end = self._value(kind, pos + 4, key)
        self._text_bytes += len(key)
        self._metadata[key] = value
        self._pos = end

    def _tensor(self) -> None:
        start = self._pos
        name, pos = self._string(start, "tensor name", self._limits.name_bytes)
        if name in self._names:
            raise self._error(f"tensor {name!r} appears twice", start)
        self._need(pos + 4)
        dims = self._u32(self._data, pos)[0]
        if dims > MAX_DIMS:
            raise self._error(f"tensor {name!r} has {dims:,} dimensions; at most {MAX_DIMS} exist", pos)
        shape_at = pos + 4
        type_at = shape_at + 8 * dims
        self._need(type_at + 12)
        shape: tuple[int, ...] = struct.unpack_from(f"{self._codes}{dims}Q", self._data, shape_at)
        type_id, offset = struct.unpack_from(f"{self._codes}IQ", self._data, type_at)
        elements = 1
        for extent in shape:
            elements *= extent
            if elements > INT64_MAX:
                raise self._error(f"tensor {name!r} has more elements than can be counted", shape_at)
        if offset > INT64_MAX:
            raise self._error(f"tensor {name!r} lies at byte {offset:,}, which no file reaches", type_at + 4)
        known = TENSOR_TYPES.get(type_id)
        if known is None:
            type_name = REMOVED_TENSOR_TYPES.get(type_id, f"type-{type_id}")
            size_bytes = -1  # settled by _finish, from the room up to the next tensor
        else:
            type_name = known.name
            if shape and shape[0] % known.block_size:
                raise self._error(
                    f"tensor {name!r} has rows of {shape[0]:,} elements, no whole number of {known.name} blocks "
                    f"({known.block_size})",
                    shape_at,
                )
            size_bytes = elements // known.block_size * known.block_bytes
            if offset + size_bytes > INT64_MAX:
                raise self._error(f"tensor {name!r} ends beyond what any file reaches", type_at + 4)
        self._names.add(name)
        self._tensors.append(TensorInfo(name, shape, type_id, type_name, offset, size_bytes))
        self._pos = type_at + 12

    def _finish(self) -> Header:
        alignment = self._metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**30 or alignment & (alignment - 1):
            raise self._error(f"general.alignment is {str(alignment)[:40]}, no power of two", None)
        data_offset = -(-self._pos // alignment) * alignment
        misplaced = next((tensor for tensor in self._tensors if tensor.offset % alignment), None)
        if misplaced is not None:
            raise self._error(
                f"tensor {misplaced.name!r} lies at data byte {misplaced.offset:,}, no multiple of {alignment}", None
            )
        unknown = tuple(sorted({tensor.type_id for tensor in self._tensors if tensor.size_bytes < 0}))
        if unknown:
            self._measure_unknown()
        data_end = max((tensor.offset + tensor.size_bytes for tensor in self._tensors), default=0)
        return Header(
            version=self._version,
            byte_order=self._order,
            metadata=MappingProxyType(self._metadata),
            tensors=tuple(self._tensors),
            alignment=alignment,
            header_bytes=self._pos,
            data_offset=data_offset,
            file_bytes=data_offset + data_end if self._tensors else self._pos,
            unknown_types=unknown,
        )

    def _measure_unknown(self) -> None:
        """Give tensors of unknown types the room up to the next tensor; the last one of a file gets none."""
        starts = sorted({tensor.offset for tensor in self._tensors})
        following = dict(itertools.pairwise(starts))
        self._tensors = [
            tensor
            if tensor.size_bytes >= 0
            else TensorInfo(
                tensor.name,
                tensor.shape,
                tensor.type_id,
                tensor.type_name,
                tensor.offset,
                following.get(tensor.offset, tensor.offset) - tensor.offset,
            )
            for tensor in self._tensors
        ]

    # -- values

    def _value(self, kind: int, pos: int, key: str) -> tuple[Value, int]:
        """The metadata value of type `kind` at `pos`, and the offset behind it."""
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            self._need(pos + scalar[2])
            value = struct.unpack_from(self._codes + scalar[1], self._data, pos)[0]
            if kind == BOOL:
                if value > 1:
                    raise self._error(f"{key!r} is a bool of value {value}", pos)
                value = bool(value)
            return value, pos + scalar[2]
        if kind == STRING:
            return self._text(pos, key)
        if kind == ARRAY:
            return self._array(pos, key)
        raise self._error(f"{key!r} has value type {kind:,}, which does not exist", pos - 4)

    def _text(self, pos: int, key: str) -> tuple[Value, int]:
        start, end = self._span(pos, f"value of {key!r}")
        self._need(end)
        length = end - start
        if key not in self._decode:
            if length > self._limits.text_bytes or self._text_bytes + length > self._limits.total_text_bytes:
                return Deferred("string", length, start, length), end
            self._text_bytes += length
        # Descriptions with broken characters are met in the wild and harm nobody.
        return bytes(self._data[start:end]).decode("utf-8", errors="replace"), end

    def _array(self, pos: int, key: str) -> tuple[Value, int]:
        kind, count, start = self._array_head(pos, key)
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            end = start + count * scalar[2]
            self._need(end)
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
        self._need(pos + 12)
        kind = self._u32(self._data, pos)[0]
        count = self._u64(self._data, pos + 4)[0]
        scalar = SCALAR_TYPES.get(kind)
        if scalar is None and kind not in {STRING, ARRAY}:
            raise self._error(f"{key!r} is an array of value type {kind:,}, which does not exist", pos)
        least = scalar[2] if scalar else (8 if kind == STRING else 12)
        if pos + 12 + count * least > self._limits.header_bytes:
            raise self._error(f"{key!r} announces an array of {count:,} elements, more than any header holds", pos + 4)
        return kind, count, pos + 12

    def _strings_end(self, start: int, count: int, key: str) -> int:
        """The offset behind `count` strings at `start`: the hot loop, as it runs over every token and merge."""
        memo = self._memo
        if memo is not None:
            size_bytes = memo.find(self._data, start, count)
            if size_bytes is not None:
                return start + size_bytes
        data = self._data
        unpack = self._u64
        index, pos = self._walk[1:] if self._walk[0] == start else (0, start)
        try:
            for index in range(index, count):  # noqa: B007, B020 - resumes at `index`, which says how far it got
                pos += 8 + unpack(data, pos)[0]
        except (struct.error, OverflowError):
            reached, needed = index, pos + 8  # the length of string `index` lies behind the data
        else:
            reached, needed = count, pos
        if needed > self._end:
            if needed > self._limits.header_bytes:
                raise self._error(f"string {reached - 1:,} of {key!r} is longer than any header", start)
            self._walk = (start, reached, pos)
            self._need(needed)
        if memo is not None and count > self._limits.array_elements:
            memo.keep(data, start, pos - start, count)
        return pos

    def _nested_end(self, start: int, count: int, key: str, depth: int) -> int:
        """The offset behind `count` arrays at `start`."""
        if depth > self._limits.depth:
            raise self._error(f"{key!r} nests arrays more than {self._limits.depth} deep", start)
        pos = start
        for _ in range(count):
            kind, inner, pos = self._array_head(pos, key)
            scalar = SCALAR_TYPES.get(kind)
            if scalar is not None:
                pos += inner * scalar[2]
                self._need(pos)
            elif kind == STRING:
                pos = self._strings_end(pos, inner, key)
            else:
                pos = self._nested_end(pos, inner, key, depth + 1)
        return pos

    def _decoded(self, kind: int, pos: int, count: int) -> tuple[tuple[Value, ...], int]:
        """The elements of an array whose extent has been checked, and the offset behind them."""
        scalar = SCALAR_TYPES.get(kind)
        if scalar is not None:
            values = struct.unpack_from(f"{self._codes}{count}{scalar[1]}", self._data, pos)
            return tuple(map(bool, values)) if kind == BOOL else values, pos + count * scalar[2]
        items: list[Value] = []
        for _ in range(count):
            if kind == STRING:
                length = self._u64(self._data, pos)[0]
                items.append(bytes(self._data[pos + 8 : pos + 8 + length]).decode("utf-8", errors="replace"))
                pos += 8 + length
            else:
                inner_kind, inner_count, start = self._array_head(pos, "array")
                item, pos = self._decoded(inner_kind, start, inner_count)
                items.append(item)
        return tuple(items), pos

    # -- bytes

    def _string(self, pos: int, what: str, cap: int) -> tuple[str, int]:
        """The short UTF-8 string at `pos` and the offset behind it."""
        self._need(pos + 8)
        length = self._u64(self._data, pos)[0]
        if length > cap:
            raise self._error(f"a {what} is {length:,} bytes long; at most {cap:,} are read", pos)
        end = pos + 8 + length
        self._need(end)
        try:
            return bytes(self._data[pos + 8 : end]).decode("utf-8"), end
        except UnicodeDecodeError:
            raise self._error(f"a {what} is no UTF-8 text", pos + 8) from None

    def _span(self, pos: int, what: str) -> tuple[int, int]:
        """First byte and end of the string at `pos`; its bytes may not have arrived yet."""
        self._need(pos + 8)
        length = self._u64(self._data, pos)[0]
        if pos + 8 + length > self._limits.header_bytes:
            raise self._error(f"the {what} is {length:,} bytes long, more than any header holds", pos)
        return pos + 8, pos + 8 + length

    def _need(self, end: int) -> None:
        if end > self._end:
            if end > self._limits.header_bytes:
                raise self._error(f"the header is longer than {self._limits.header_bytes:,} bytes", self._pos)
            raise NeedMoreBytes(end, self._where)

    def _error(self, message: str, offset: int | None, hint: str | None = None) -> GGUFError:
        return GGUFError(message, hint, offset, self._where)
