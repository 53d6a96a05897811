"""The bounded GGUF header parser: a window on a file in, a `Header` out, and never more work than its bytes are worth.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is checked before it is used
for anything; the work done is linear in the bytes of the header, which are capped, and what a hostile header announces
costs nothing. Memory is bounded too (`quants.gguf.limits`): only what is decoded is ever kept, and a vocabulary is not.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from quants.gguf.header import DEFAULT_ALIGNMENT, Deferred, Header, TensorInfo
from quants.gguf.limits import LIMITS
from quants.gguf.sniff import not_gguf
from quants.gguf.types import REMOVED_TENSOR_TYPES, TENSOR_TYPES
from quants.gguf.values import ValueReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quants.gguf.header import Value
    from quants.gguf.limits import Limits
    from quants.gguf.memo import ArrayMemo
    from quants.gguf.window import Window

MAGIC: Final = b"GGUF"
MAX_DIMS: Final = 4  # GGML_MAX_DIMS in ggml.h
INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class KnownEntries:
    """Metadata entries of a sibling that need not be read again (see `quants.sources.splice`).

    Attributes:
        first_key: the key of the first.
        beginning: its first bytes, key included; a file that has the same there is taken to have them all.
        entries: by key, in order; offsets count from the beginning of the first.
        size_bytes: of all of them.
        rest_bytes: how much of a header is left behind them, about.
    """

    first_key: str
    beginning: bytes
    entries: Mapping[str, Value]
    size_bytes: int
    rest_bytes: int


class HeaderParser:
    """Parses the header at the start of one file.

    Attributes:
        starts: where each metadata entry that was read begins in the file, its key included.
        took_known: whether the sibling's entries were taken over.

    Args:
        window: on the file.
        limits: the caps.
        memo: shared between the headers of one listing.
        known: entries of a sibling that are taken over where this file has them too.
    """

    def __init__(
        self,
        window: Window,
        *,
        limits: Limits = LIMITS,
        memo: ArrayMemo | None = None,
        known: KnownEntries | None = None,
    ) -> None:
        self._window = window
        window.header_bytes = limits.header_bytes
        self._values = ValueReader(window, limits=limits, memo=memo)
        self._limits = limits
        self._known = known
        self._pos = 0  # everything before it is parsed
        self._version = 0
        self._order: Literal["little", "big"] = "little"
        self._tensor_count = 0
        self._key_count = 0
        self._metadata: dict[str, Value] = {}
        self.starts: dict[str, int] = {}
        self.took_known = False
        self._tensors: list[TensorInfo] = []
        self._names: set[str] = set()

    def parse(self) -> Header:
        """The header.

        Raises:
            GGUFError: the file does not begin with a sound GGUF header; says what is wrong, and where.
        """
        self._preamble()
        while len(self._metadata) < self._key_count:
            self._entry()
        while len(self._tensors) < self._tensor_count:
            self._tensor()
        self._window.reaches(self._pos)
        return self._finish()

    def value(self, key: str) -> Value:
        """The value of `key`, decoded however large, up to what is read for anybody who asks.

        Raises:
            GGUFError: it is larger than that.
        """
        found = self._metadata[key]
        return self._values.asked_for(found, key) if isinstance(found, Deferred) else found

    # -- the parts of a header, in file order

    def _preamble(self) -> None:
        head = self._head(24)
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

    def _head(self, size_bytes: int) -> bytes:
        """The file's first bytes, if it is a GGUF file."""
        beginning = self._window.first(256)
        if beginning[:4] != MAGIC[: len(beginning)]:
            raise not_gguf(beginning, self._window.where)
        return self._values.bytes_at(0, size_bytes)

    def _entry(self) -> None:
        start = self._pos
        key, pos = self._values.short_string(start, "metadata key", self._limits.key_bytes)
        if key in self._metadata:
            raise self._values.error(f"metadata key {key!r} appears twice", start)
        if self._known is not None and key == self._known.first_key and self._take_known(start):
            return
        kind = self._values.u32(pos)
        self.starts[key] = start
        self._metadata[key], self._pos = self._values.value(kind, pos + 4, key)

    def _take_known(self, start: int) -> bool:
        """Take over the entries of a sibling, if this file's begin as they do."""
        known, self._known = self._known, None
        if known is None or self._key_count < len(self._metadata) + len(known.entries):
            return False
        if self._values.bytes_at(start, start + len(known.beginning)) != known.beginning:
            return False
        for key, value in known.entries.items():
            if key in self._metadata:
                return False
            self._metadata[key] = replace(value, offset=value.offset + start) if isinstance(value, Deferred) else value
        self._pos = start + known.size_bytes
        self._window.jump(self._pos, known.rest_bytes)
        self.took_known = True
        return True

    def _tensor(self) -> None:
        start = self._pos
        name, pos = self._values.short_string(start, "tensor name", self._limits.name_bytes)
        if name in self._names:
            raise self._values.error(f"tensor {name!r} appears twice", start)
        dims = self._values.u32(pos)
        if dims > MAX_DIMS:
            raise self._values.error(f"tensor {name!r} has {dims:,} dimensions; at most {MAX_DIMS} exist", pos)
        shape_at = pos + 4
        type_at = shape_at + 8 * dims
        row = self._values.bytes_at(shape_at, type_at + 12)
        *shape, type_id, offset = struct.unpack(f"{self._values.codes}{dims}QIQ", row)
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
        self._tensors.append(TensorInfo(name, tuple(shape), type_id, type_name, offset, size_bytes))
        self._pos = type_at + 12

    def _finish(self) -> Header:
        alignment = self._metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**30 or alignment & (alignment - 1):
            raise self._values.error(f"general.alignment is {str(alignment)[:40]}, no power of two")
        architecture = self._metadata.get("general.architecture", "")
        if not isinstance(architecture, str):
            raise self._values.error(f"general.architecture is {str(architecture)[:40]} where a text belongs")
        data_offset = -(-self._pos // alignment) * alignment
        misplaced = next((tensor for tensor in self._tensors if tensor.offset % alignment), None)
        if misplaced is not None:
            raise self._values.error(
                f"tensor {misplaced.name!r} lies at data byte {misplaced.offset:,}, no multiple of {alignment}"
            )
        self._check_overlaps()
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

    def _check_overlaps(self) -> None:
        """No two tensors may share bytes: no engine loads such a file, and its size says nothing."""
        end, last = 0, ""
        for tensor in sorted(self._tensors, key=lambda tensor: tensor.offset):
            if tensor.size_bytes <= 0:  # empty, or of a type whose size is not known
                continue
            if tensor.offset < end:
                raise self._values.error(
                    f"tensor {tensor.name!r} begins within {last!r}, at data byte {tensor.offset:,}"
                )
            end, last = tensor.offset + tensor.size_bytes, tensor.name

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
