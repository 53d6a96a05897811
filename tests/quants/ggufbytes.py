"""Write GGUF files for tests, byte by byte and independent of the parser: any version, byte order, and many faults."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
CODES = {
    UINT8: "B",
    INT8: "b",
    UINT16: "H",
    INT16: "h",
    UINT32: "I",
    INT32: "i",
    FLOAT32: "f",
    BOOL: "B",
    UINT64: "Q",
    INT64: "q",
    FLOAT64: "d",
}


@dataclass(frozen=True)
class Array:
    """A metadata array: element type and elements (themselves `Array` for nested ones)."""

    kind: int
    items: Sequence[Any]


@dataclass(frozen=True)
class Tensor:
    """A row of the tensor table, with the size of its data as the test's author worked it out."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    size_bytes: int
    offset: int | None = None


@dataclass
class GGUF:
    """A file to be written."""

    keys: list[tuple[str, int, Any]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    version: int = 3
    order: Literal["little", "big"] = "little"
    alignment: int = 32

    @property
    def mark(self) -> str:
        return "<" if self.order == "little" else ">"

    def header(self) -> bytes:
        """Magic, metadata and tensor table, without padding."""
        out = [b"GGUF", struct.pack(f"{self.mark}IQQ", self.version, len(self.tensors), len(self.keys))]
        for key, kind, value in self.keys:
            out += [self.string(key), struct.pack(f"{self.mark}I", kind), self.value(kind, value)]
        for tensor, offset in zip(self.tensors, self.offsets(), strict=True):
            dims = len(tensor.shape)
            out += [
                self.string(tensor.name),
                struct.pack(f"{self.mark}I{dims}QIQ", dims, *tensor.shape, tensor.type_id, offset),
            ]
        return b"".join(out)

    def data(self) -> bytes:
        """The whole file; tensor data is a pattern that names its own place."""
        head = self.header()
        if not self.tensors:
            return head
        body = bytearray(self.padded(len(head)))
        body[: len(head)] = head
        for tensor, offset in zip(self.tensors, self.offsets(), strict=True):
            start = self.padded(len(head)) + offset
            if len(body) < start + tensor.size_bytes:
                body += bytes(start + tensor.size_bytes - len(body))
            body[start : start + tensor.size_bytes] = (tensor.name.encode() * tensor.size_bytes)[: tensor.size_bytes]
        return bytes(body)

    def offsets(self) -> list[int]:
        offsets, end = [], 0
        for tensor in self.tensors:
            offsets.append(end if tensor.offset is None else tensor.offset)
            end = self.padded(offsets[-1] + tensor.size_bytes) % 2**63
        return offsets

    def padded(self, size: int) -> int:
        return (size + self.alignment - 1) // self.alignment * self.alignment

    def string(self, text: str | bytes) -> bytes:
        raw = text.encode() if isinstance(text, str) else text
        return struct.pack(f"{self.mark}Q", len(raw)) + raw

    def value(self, kind: int, value: Any) -> bytes:
        if kind == STRING:
            return self.string(value)
        if kind == ARRAY:
            head = struct.pack(f"{self.mark}IQ", value.kind, len(value.items))
            return head + b"".join(self.value(value.kind, item) for item in value.items)
        return struct.pack(self.mark + CODES[kind], value)


def small_model(
    *,
    file_type: int | None = 15,
    architecture: str = "llama",
    tokens: int = 8,
    extra: Sequence[tuple[str, int, Any]] = (),
    tensors: Sequence[Tensor] | None = None,
    order: Literal["little", "big"] = "little",
) -> GGUF:
    """A sound little model: two layers, a vocabulary, four tensors."""
    keys: list[tuple[str, int, Any]] = [
        ("general.architecture", STRING, architecture),
        (f"{architecture}.block_count", UINT32, 2),
        (f"{architecture}.attention.head_count_kv", ARRAY, Array(INT32, (2, 4))),
        ("tokenizer.ggml.tokens", ARRAY, Array(STRING, [f"t{number}" for number in range(tokens)])),
    ]
    if file_type is not None:
        keys.insert(1, ("general.file_type", UINT32, file_type))
    default = (
        Tensor("token_embd.weight", (256, 8), 12, 8 * 144),
        Tensor("blk.0.attn_q.weight", (64, 4), 8, 4 * 2 * 34),
        Tensor("blk.1.attn_q.weight", (64, 4), 0, 4 * 64 * 4),
        Tensor("output_norm.weight", (5,), 0, 20),
    )
    return GGUF([*keys, *extra], list(default if tensors is None else tensors), order=order)


def split_model(count: int, *, tensors_each: int = 2) -> list[GGUF]:
    """The shards of a split set as `llama-gguf-split` makes them: only the first names the architecture."""
    shards: list[GGUF] = []
    for index in range(count):
        split = [
            ("split.no", UINT16, index),
            ("split.count", UINT16, count),
            ("split.tensors.count", INT32, count * tensors_each),
        ]
        tensors = [Tensor(f"blk.{index}.part{number}", (32,), 8, 34) for number in range(tensors_each)]
        if index == 0:
            shards.append(small_model(extra=split, tensors=tensors))
        else:
            shards.append(GGUF(list(split), tensors))
    return shards
