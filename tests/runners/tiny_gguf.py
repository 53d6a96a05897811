"""Writes a tiny Llama with random weights as a GGUF file: enough for a real llama.cpp to load, serve and stream.

The hidden state keeps one constant component (dimension 0: every embedding has it, no layer writes to it), so the
first column of the output matrix is a bias for each token. It silences everything but printable ASCII, the end of
text included: replies are readable nonsense of exactly `max_tokens` tokens, whatever the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# In the manner of Qwen3, with the opening tag in the prompt; llama.cpp finds the tags by trying the template out.
THINKING = (
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if m.reasoning_content is defined and m.reasoning_content is not none %}"
    "{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}{{- m.content + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- else %}{{- '<think>\\n' }}{%- endif %}{%- endif %}"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else 256 and up in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    symbols: list[str] = []
    extra = 0
    for byte in range(256):
        if byte in printable:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(256 + extra))
            extra += 1
    return symbols


def write_tiny_llama(
    path: Path,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 2,
    kv_heads: int = 1,
    context: int = 8192,
    architecture: str = "llama",
    chat_template: str = CHATML,
    seed: int = 7,
) -> Path:
    """Write the model to `path` (F32, about 0.5 MB at the default size) and return it."""
    rng = np.random.default_rng(seed)
    head_size = width // heads
    feed_forward = 3 * width
    tokens = [*_byte_symbols(), "he", *_SPECIAL]
    kinds = [gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.USER_DEFINED] * 2

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny random llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head_size)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(259)
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat_template)

    def random(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))

    embedding = random(len(tokens), width) * np.float32(np.sqrt(width))
    embedding[:, 0] = 4.0
    output = random(len(tokens), width) * np.float32(4.0)
    output[:, 0] = [0.0 if 0x20 <= index < 0x7F else -50.0 for index in range(len(tokens))]
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(layers):
        prefix = f"blk.{layer}."
        into_residual = {"attn_output": random(width, heads * head_size), "ffn_down": random(width, feed_forward)}
        for name, tensor in into_residual.items():
            tensor[0, :] = 0.0
            writer.add_tensor(f"{prefix}{name}.weight", tensor)
        writer.add_tensor(f"{prefix}attn_norm.weight", np.ones(width, dtype=np.float32))
        writer.add_tensor(f"{prefix}ffn_norm.weight", np.ones(width, dtype=np.float32))
        writer.add_tensor(f"{prefix}attn_q.weight", random(heads * head_size, width))
        writer.add_tensor(f"{prefix}attn_k.weight", random(kv_heads * head_size, width))
        writer.add_tensor(f"{prefix}attn_v.weight", random(kv_heads * head_size, width))
        writer.add_tensor(f"{prefix}ffn_gate.weight", random(feed_forward, width))
        writer.add_tensor(f"{prefix}ffn_up.weight", random(feed_forward, width))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
