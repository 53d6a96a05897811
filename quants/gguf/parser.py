"""The incremental, bounded GGUF header parser: bytes in, a `Header` out, and never more work than the bytes are worth.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is checked before it is used
for anything, and the work done is linear in the bytes given: what a hostile header announces costs nothing.

A parser may be called again with a longer prefix of the same file; it goes on where it stopped, also inside an array
of hundreds of thousands of tokens, so growing the prefix by doubling costs no quadratic time.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Final, Literal

from quants.gguf.header import DEFAULT_ALIGNMENT, Header, TensorInfo
from quants.gguf.limits import LIMITS
from quants.gguf.sniff import not_gguf
from quants.gguf.types import REMOVED_TENSOR_TYPES, TENSOR_TYPES
from quants.gguf.values import ValueReader

if TYPE_CHECKING:
    from collections.abc import Collection

    from quants.gguf.header import Value
    from quants.gguf.limits import ArrayMemo, Limits

MAGIC: Final = b"GGUF"
MAX_DIMS: Final = 4  # GGML_MAX_DIMS in ggml.h
INT64_MAX: Final = 2**63 - 1


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
        self._values = ValueReader(decode=decode, where=where, limits=limits, memo=memo)
        self._where = where
        self._limits = limits
        self._pos = 0  # everything before it is parsed
        self._version = 0
        self._order: Literal["little", "big"] = "little"
        self._tensor_count = -1  # -1 until the preamble was read
        self._key_count = 0
        self._metadata: dict[str, Value] = {}
        self._tensors: list[TensorInfo] = []
        self._names: set[str] = set()

    @property
    def parsed_bytes(self) -> int:
        """How far the file has been parsed: the offset of the first metadata entry or tensor that is not complete."""
        return self._pos

    def parse(self, data: bytes | bytearray) -> Header:
        """The header, from `data`: the file from its first byte on, as far as it was read.

        Raises:
            NeedMoreBytes: the header goes on behind `data`; call again with at least that many bytes.
            GGUFError: these bytes are no sound GGUF header, whatever may follow.
        """
        self._values.set_data(data)
        try:
            if self._tensor_count < 0:
                self._preamble()
            while len(self._metadata) < self._key_count:
                self._entry()
            while len(self._tensors) < self._tensor_count:
                self._tensor()
            return self._finish()
        finally:
            self._values.set_data(b"")  # the caller's buffer may grow or go

    # -- the parts of a header, in file order

    def _preamble(self) -> None:
        head = bytes(self._values.data[:24])
        if head[:4] != MAGIC[: len(head)]:
            raise not_gguf(bytes(self._values.data[:256]), self._where)
        self._values.need(24)
        # Files of the other byte order are told by their version: 3 read backwards is 50,331,648.
        version = int.from_bytes(head[4:8], "little")
        if version & 0xFFFF == 0:
            self._order = "big"
            version = int.from_bytes(head[4:8], "big")
        if version == 1:
            raise self._values.error("GGUF version 1 is no longer read by llama.cpp", 4, "Convert the model again")
        if version not in {2, 3}:
            raise self._values.error(f"GGUF version {version:,} is not known (2 and 3 are)", 4)
        self._version = version
        self._values.set_order(self._order)
        tensors, keys = struct.unpack_from(f"{self._values.codes}QQ", head, 8)
        if tensors > self._limits.tensors:
            raise self._values.error(f"announces {tensors:,} tensors; at most {self._limits.tensors:,} are read", 8)
        if keys > self._limits.keys:
            raise self._values.error(f"announces {keys:,} metadata keys; at most {self._limits.keys:,} are read", 16)
        self._key_count = keys
        self._tensor_count = tensors
        self._pos = 24

    def _entry(self) -> None:
        key, pos = self._values.short_string(self._pos, "metadata key", self._limits.key_bytes)
        if key in self._metadata:
            raise self._values.error(f"metadata key {key!r} appears twice", self._pos)
        self._values.need(pos + 4)
        kind = self._values.u32(self._values.data, pos)[0]
        value, end = self._values.value(kind, pos + 4, key)
        self._metadata[key] = value
        self._pos = end

    def _tensor(self) -> None:
        start = self._pos
        name, pos = self._values.short_string(start, "tensor name", self._limits.name_bytes)
        if name in self._names:
            raise self._values.error(f"tensor {name!r} appears twice", start)
        self._values.need(pos + 4)
        dims = self._values.u32(self._values.data, pos)[0]
        if dims > MAX_DIMS:
            raise self._values.error(f"tensor {name!r} has {dims:,} dimensions; at most {MAX_DIMS} exist", pos)
        shape_at = pos + 4
        type_at = shape_at + 8 * dims
        self._values.need(type_at + 12)
        shape: tuple[int, ...] = struct.unpack_from(f"{self._values.codes}{dims}Q", self._values.data, shape_at)
        type_id, offset = struct.unpack_from(f"{self._values.codes}IQ", self._values.data, type_at)
        elements = 1
        for extent in shape:
            elements *= extent
            if elements > INT64_MAX:
                raise self._values.error(f"tensor {name!r} has more elements than can be counted", shape_at)
        if offset > INT64_MAX:
            raise self._values.error(f"tensor {name!r} lies at byte {offset:,}, which no file reaches", type_at + 4)
        known = TENSOR_TYPES.get(type_id)
        if known is None:
            type_name = REMOVED_TENSOR_TYPES.get(type_id, f"type-{type_id}")
            size_bytes = -1  # settled by _finish, from the room up to the next tensor
        else:
            type_name = known.name
            if shape and shape[0] % known.block_size:
                raise self._values.error(
                    f"tensor {name!r} has rows of {shape[0]:,} elements, no whole number of {known.name} blocks "
                    f"({known.block_size})",
                    shape_at,
                )
            size_bytes = elements // known.block_size * known.block_bytes
            if offset + size_bytes > INT64_MAX:
                raise self._values.error(f"tensor {name!r} ends beyond what any file reaches", type_at + 4)
        self._names.add(name)
        self._tensors.append(TensorInfo(name, shape, type_id, type_name, offset, size_bytes))
        self._pos = type_at + 12

    def _finish(self) -> Header:
        alignment = self._metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**30 or alignment & (alignment - 1):
            raise self._values.error(f"general.alignment is {str(alignment)[:40]}, no power of two", None)
        data_offset = -(-self._pos // alignment) * alignment
        misplaced = next((tensor for tensor in self._tensors if tensor.offset % alignment), None)
        if misplaced is not None:
            raise self._values.error(
                f"tensor {misplaced.name!r} lies at data byte {misplaced.offset:,}, no multiple of {alignment}", None
            )
        unknown = tuple(sorted({tensor.type_id for tensor in self._tensors if tensor.size_bytes < 0}))
        if unknown:
            self._measure_unknown()
        data_end = max((tensor.offset + tensor.size_bytes for tensor in self._tensors), default=0)
        return Header(
            version=self._version,
            byte_order=self._order,
            metadata=self._metadata,  # a dict: headers are pickled
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
