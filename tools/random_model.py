"""A model of random weights, for measuring speed: as large as a real one, and good for nothing else.

    python -m tools.random_model FOLDER [--layers 32] [--quants Q8_0,Q4_0]

A llama of 1,024 wide layers, 16 million weights each (32: 0.5 billion), with the vocabulary and the chat template of
our stand-in model, so that a sweep runs it like any other. All layers hold the same numbers, each in its own place of
the file: what is read for each token is what a real model of this shape reads. Needs the packages gguf and numpy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from quants.sources.local import builtin_root

WIDTH: Final = 1024
FEED_FORWARD: Final = 4096
HEADS: Final = 16
KV_HEADS: Final = 8
CONTEXT: Final = 8192
_HEAD: Final = WIDTH // HEADS
_KV_WIDTH: Final = _HEAD * KV_HEADS


def write(path: Path, quant: str, *, layers: int) -> None:
    """Write the model to `path` with all matrices in the type `quant` (one that gguf's Python code can make)."""
    kind = gguf.GGMLQuantizationType[quant]
    standin = gguf.GGUFReader(next(builtin_root("stand-in").glob("*Q8_0.gguf")))
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=False)
    writer.add_name(f"random {layers} layers")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = 0
    for name, field in standin.fields.items():
        if name.startswith("tokenizer."):
            value = field.contents()
            kinds = field.types
            writer.add_key_value(name, value, kinds[0], sub_type=kinds[-1] if len(kinds) > 1 else None)
            tokens = len(value) if name == "tokenizer.ggml.tokens" else tokens
    matrices = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (_KV_WIDTH, WIDTH),
        "attn_v": (_KV_WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (FEED_FORWARD, WIDTH),
        "ffn_up": (FEED_FORWARD, WIDTH),
        "ffn_down": (WIDTH, FEED_FORWARD),
    }

    def matrix(shape: tuple[int, int]) -> np.ndarray:
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        return gguf.quants.quantize(values, kind)

    made = {name: matrix(shape) for name, shape in matrices.items()}
    ones = np.ones(WIDTH, dtype=np.float32)
    writer.add_tensor("token_embd.weight", matrix((tokens, WIDTH)), raw_dtype=kind)
    for layer in range(layers):
        for name, values in made.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", values, raw_dtype=kind)
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", matrix((tokens, WIDTH)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write one file a quant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--quants", default="Q8_0,Q4_0")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for quant in asked.quants.split(","):
        write(asked.folder / f"random-{quant}.gguf", quant, layers=asked.layers)


if __name__ == "__main__":
    main()
