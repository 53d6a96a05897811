"""Writes GGUF files that hold a header and a hole where the weights would be (a sparse file takes no disk)."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final

from quants.gguf import TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tools.fit_truth.shape import Shape

ALIGNMENT: Final = 32
_TYPE_IDS: Final = {each.name: each.type_id for each in TENSOR_TYPES.values()}

Tensor = tuple[str, tuple[int, ...], str]
"""Name, shape in file order, type name."""


def metadata(shape: Shape) -> dict[str, Any]:
    """All metadata of a shape; "no_vocab" spares us a tokenizer."""
    own = {f"{shape.arch}.{key}": value for key, value in shape.keys.items()}
    return {"general.architecture": shape.arch, "general.name": shape.name, "tokenizer.ggml.model": "no_vocab"} | own


def tensor_type(name: str, extents: tuple[int, ...], types: str) -> str:
    """The type that llama-quantize gives a tensor of that name, near enough: every kind of placement occurs."""
    if (
        len(extents) < 2
        or "norm" in name
        or "_inp" in name
        or re.search(r"ssm_(conv1d|a|d|x|dt)|shortconv\.conv", name)
    ):
        return "F32"
    if re.search(r"time_mix|channel_mix_lerp|altup|laurel|per_layer_(inp_gate|proj)|conv|attn_(k|v)_b", name):
        return "F16"
    if types == "mxfp4":
        return "MXFP4" if "_exps" in name else "Q8_0"
    wanted = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k_m": "Q4_K"}[types]
    if types == "q4_k_m" and re.search(r"^output|^token_embd|attn_v|ffn_down", name):
        wanted = "Q6_K"
    if extents[0] % TENSOR_TYPES[_TYPE_IDS[wanted]].block_size:
        wanted = "Q8_0" if extents[0] % 32 == 0 else "F16"
    return wanted


def unnumbered(name: str) -> str:
    """A tensor's name with "#" for the number of its layer."""
    return re.sub(r"\.\d+\.", ".#.", name)


def tensors(shape: Shape, listed: Iterable[tuple[str, tuple[int, ...]]], required: Iterable[str] = ()) -> list[Tensor]:
    """What the engine would create, less what this model's file does not have, with types.

    `required` names tensors that the engine turned out not to do without, with "#" for the number of the layer.
    """
    dropped = [re.compile(each) for each in (*shape.drop, r"scale$")]
    wanted = set(required)
    seen: set[str] = set()
    kept: list[tuple[str, tuple[int, ...]]] = []
    for name, full in listed:
        extents = full
        while len(extents) > 1 and extents[-1] == 1:
            extents = extents[:-1]
        if name in seen or (shape.tied and name == "output.weight"):
            continue
        seen.add(name)
        if any(pattern.search(name) for pattern in dropped) and unnumbered(name) not in wanted:
            continue
        if shape.fused_qkv and (found := re.fullmatch(r"(blk\.\d+\.)attn_([qkv])\.weight", name)):
            fused = f"{found[1]}attn_qkv.weight"
            if kept and kept[-1][0] == fused:
                extents = (extents[0], kept.pop()[1][1] + extents[1])
            kept.append((fused, extents))
            continue
        kept.append((name, extents))
    return [(name, extents, tensor_type(name, extents, shape.types)) for name, extents in kept]


def write(path: Path, meta: dict[str, Any], table: Iterable[Tensor] = ()) -> int:
    """Write a GGUF of version 3 with that header and a hole for the data; the bytes of a complete file."""
    infos, offset = bytearray(), 0
    count = 0
    for name, extents, kind in table:
        count += 1
        infos += _text(name) + struct.pack("<I", len(extents)) + struct.pack(f"<{len(extents)}Q", *extents)
        infos += struct.pack("<IQ", _TYPE_IDS[kind], offset)
        each = TENSOR_TYPES[_TYPE_IDS[kind]]
        size = each.row_bytes(extents[0])
        for extent in extents[1:]:
            size *= extent
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(meta))
    head += b"".join(_text(key) + _value(value) for key, value in meta.items()) + infos
    start = -(-len(head) // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as file:
        file.write(head)
        file.truncate(start + offset)
    return start + offset


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    kind, code = (7, "B") if isinstance(value[0], bool) else (5, "i")
    return struct.pack("<IIQ", 9, kind, len(value)) + struct.pack(f"<{len(value)}{code}", *value)
