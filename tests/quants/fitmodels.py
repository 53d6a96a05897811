"""Header-only model files for tests of fitting: real shapes from the table of truths, with a vocabulary if wanted."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quants.gguf import TENSOR_TYPES, Header, read_header
from tests.hubserver.server import Blob, Repo
from tests.quants import ggufbytes as gb
from tools.fit_truth.table import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.hubserver.server import LocalHub

TYPES = {each.name: each for each in TENSOR_TYPES.values()}
# What llama-quantize would make of a matrix, by the label of the quant.
MATRIX_TYPES = {
    "Q2_K": "Q2_K",
    "Q3_K_M": "Q3_K",
    "Q4_0": "Q4_0",
    "Q4_K_M": "Q4_K",
    "Q5_K_M": "Q5_K",
    "Q6_K": "Q6_K",
    "Q8_0": "Q8_0",
    "IQ3_XXS": "IQ3_XXS",
    "IQ4_XS": "IQ4_XS",
    "BF16": "BF16",
}


def model(
    shape: str,
    label: str,
    *,
    vocabulary: int = 0,
    note: str = "",
    keep_every: int = 1,
    architecture: str | None = None,
) -> gb.GGUF:
    """A quant of a real shape.

    Args:
        shape: its name in the table of truths.
        label: a key of `MATRIX_TYPES`.
        vocabulary: tokens in the header, with as many merges.
        note: what makes the header differ from its siblings' (imatrix notes).
        keep_every: only every so many matrices are quantized anew; the others keep the type of the table.
        architecture: a name to give it instead of its own.
    """
    header = load().shapes[shape].header
    own = header.architecture or ""
    renamed = architecture or own
    keys = [
        ("general.architecture", gb.STRING, renamed),
        *(
            (key.replace(f"{own}.", f"{renamed}.", 1), *_kind(value))
            for key, value in header.metadata.items()
            if key != "general.architecture"
        ),
    ]
    if note:
        keys.append(("quantize.imatrix.file", gb.STRING, note))
    if vocabulary:
        keys += vocabulary_keys(vocabulary)
    tensors = []
    for number, tensor in enumerate(header.tensors):
        kind = TYPES[MATRIX_TYPES[label]]
        if len(tensor.shape) < 2 or tensor.shape[0] % kind.block_size or number % keep_every:
            kind = TYPES[tensor.type_name]
        rows = tensor.elements // tensor.shape[0]
        tensors.append(gb.Tensor(tensor.name, tensor.shape, kind.type_id, rows * kind.row_bytes(tensor.shape[0])))
    return gb.GGUF(keys, tensors)


@lru_cache(maxsize=2)
def vocabulary_keys(size: int) -> tuple[tuple[str, int, Any], ...]:
    """A byte-pair vocabulary as tokenizers of today have it: tokens, their types, merges."""
    tokens = [f"tok{number}" for number in range(size)]
    return (
        ("tokenizer.ggml.tokens", gb.ARRAY, gb.Array(gb.STRING, tokens)),
        ("tokenizer.ggml.token_type", gb.ARRAY, gb.Array(gb.INT32, [1] * size)),
        ("tokenizer.ggml.merges", gb.ARRAY, gb.Array(gb.STRING, [f"a{number} b" for number in range(size)])),
    )


def write_sparse(path: Path, file: gb.GGUF) -> int:
    """Write the header, and a hole where the weights would be; the bytes of the header."""
    head = file.header()
    last, offset = file.tensors[-1], file.offsets()[-1]
    with path.open("wb") as target:
        target.write(head)
        target.truncate(file.padded(len(head)) + offset + last.size_bytes)
    return len(head)


@lru_cache
def header_of(shape: str, label: str) -> Header:
    """The header of a quant of a real shape."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_sparse(path, model(shape, label))
        return read_header(path)


def publish(hub: LocalHub, name: str, files: Mapping[str, Path]) -> str:
    """Commit sparse files to a repository without hashing gigabytes of nothing; the commit."""
    tree = {}
    for path, file in files.items():
        size = file.stat().st_size
        with file.open("rb") as opened:
            sha256 = hashlib.sha256(f"{path} {size}".encode() + opened.read(4096)).hexdigest()
        tree[path] = Blob(file, size, sha256, sha256[:40], lfs=True)
        hub.blobs[sha256] = tree[path]
    commit = hashlib.sha1(repr(sorted((path, blob.sha256) for path, blob in tree.items())).encode()).hexdigest()
    hub.repos[name] = replace(Repo(name), commits={commit: tree}, refs={"main": commit})
    return commit


def _kind(value: Any) -> tuple[int, Any]:
    if isinstance(value, tuple):
        return gb.ARRAY, gb.Array(_kind(value[0])[0] if not isinstance(value[0], int) else _whole(value[0]), value)
    if isinstance(value, float):
        return gb.FLOAT32, value
    if isinstance(value, str):
        return gb.STRING, value
    return (gb.BOOL, value) if isinstance(value, bool) else (gb.UINT32, value)


def _whole(value: int) -> int:
    return gb.BOOL if isinstance(value, bool) else gb.INT32
