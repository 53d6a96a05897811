"""Bounds of the header parser: caps on what a file may announce, and the memory of arrays already walked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MiB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps far above what real files have, far below what would hurt; together they keep a parse under 64 MB.

    Attributes:
        header_bytes: the whole header (the largest real ones are about 30 MB).
        keys: metadata entries (real files: under 100).
        tensors: rows of the tensor table (real files: under 10,000; 48,000 for DeepSeek V3 with every expert apart).
        key_bytes: one key.
        name_bytes: one tensor name (ggml's own cap, GGML_MAX_NAME in ggml.h).
        text_bytes: one string; a longer one is deferred.
        total_text_bytes: all decoded strings and keys; strings beyond it are deferred.
        array_elements: one array; a longer one is deferred.
        total_elements: all decoded array elements; arrays beyond it are deferred.
        depth: arrays inside arrays.
    """

    header_bytes: int = 512 * MiB
    keys: int = 8_192
    tensors: int = 49_152
    key_bytes: int = 256
    name_bytes: int = 64
    text_bytes: int = MiB // 2
    total_text_bytes: int = MiB
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
