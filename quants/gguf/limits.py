"""Bounds of the header parser: what a file may announce, and how much of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quants.gguf.header import Header

MiB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps far above what real files have, far below what would hurt.

    Together they keep the parsing of one header under 64 MB of memory, all told, and a few seconds: whatever its length
    and whatever it announces. What a header goes beyond, it is refused for, in words, or (texts and arrays) it is kept
    as a `Deferred`.

    Attributes:
        header_bytes: the whole header (the largest real ones are about 30 MB).
        keys: metadata entries (real files: under 100).
        tensors: rows of the tensor table, of a split set as of a file (real ones: under 10,000; 48,000 for DeepSeek V3
            with every expert apart).
        key_bytes: one key.
        name_bytes: one tensor name (ggml's own cap, GGML_MAX_NAME in ggml.h).
        text_bytes: one string; a longer one is deferred.
        total_text_bytes: all decoded strings and keys; strings beyond it are deferred.
        array_elements: one array; a longer one is deferred.
        total_elements: all decoded array elements; arrays beyond it are deferred.
        walked_strings: strings in all arrays, deferred ones too (the largest real vocabularies have 260,000 tokens and
            500,000 merges).
        nested_arrays: arrays inside arrays, all together (llama.cpp reads none).
        depth: arrays inside arrays.
        asked_bytes, asked_elements: a deferred value that is decoded because somebody asks for it by key.
    """

    header_bytes: int = 64 * MiB
    keys: int = 8_192
    tensors: int = 49_152
    key_bytes: int = 256
    name_bytes: int = 64
    text_bytes: int = MiB // 2
    total_text_bytes: int = MiB
    array_elements: int = 16_384
    total_elements: int = 131_072
    walked_strings: int = 4 * MiB
    nested_arrays: int = 65_536
    depth: int = 4
    asked_bytes: int = 64 * MiB
    asked_elements: int = 4 * MiB


LIMITS: Final = Limits()

# The headers of all files of a split set together; that of DeepSeek V3 with every expert apart takes 25 MB.
SET_BYTES: Final = 48 * MiB
# All headers of a source together: those of sixty quants of a large model take a tenth of it.
LISTING_BYTES: Final = 256 * MiB
_TENSOR_BYTES, _KEY_BYTES, _ELEMENT_BYTES = 512, 256, 48  # as Python objects, measured and rounded up


def held_bytes(header: Header) -> int:
    """About how much memory a parsed header takes, in bytes."""
    total = len(header.tensors) * _TENSOR_BYTES
    for value in header.metadata.values():
        total += _KEY_BYTES
        if isinstance(value, str):
            total += 4 * len(value)
        elif isinstance(value, tuple):
            total += sum(_ELEMENT_BYTES + (4 * len(item) if isinstance(item, str) else 0) for item in value)
    return total
