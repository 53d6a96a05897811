"""From the network to GGUF: one F32 file by the `gguf` package, then one per quant by llama.cpp's `llama-quantize`."""

import subprocess
from pathlib import Path

import gguf
import numpy as np
from bpe import SPECIAL, Vocabulary
from chat import TEMPLATE
from model import Llama

VERSION = "1"
"""Of this training script; raised with every change that makes other files."""

NAME = "quantsweep stand-in"
DESCRIPTION = (
    "A stand-in, no real model: a tiny Llama that quantsweep's own script trained on nothing but short command-line "
    "to-do programs, so that a sweep can be tried anywhere. It can write such programs and nothing else; its scores "
    "say nothing about any real model."
)
QUANTS = ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_S", "Q2_K", "TQ1_0")
"""The quants that ship, best first."""


class QuantizeError(Exception):
    """llama-quantize could not make a file; the text has its last lines."""


def write_f32(net: Llama, vocabulary: Vocabulary, path: Path) -> None:
    """Write the network in full precision, with its vocabulary, chat template and labels."""
    shape = net.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_version(VERSION)
    writer.add_author("the quantsweep project")
    writer.add_license("apache-2.0")
    writer.add_tags(["stand-in", "test"])
    writer.add_string("quantsweep.stand_in.script", f"tools/standin/build.py version {VERSION}")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in vocabulary.tokens]
    )
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.special("<|endoftext|>"))
    writer.add_eos_token_id(vocabulary.special("<|im_end|>"))
    writer.add_pad_token_id(vocabulary.special("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, value in net.state_dict().items():
        writer.add_tensor(name, value.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(tool: Path, source: Path, folder: Path) -> list[Path]:
    """Make every quant of `source` in `folder`.

    `--pure` gives all matrices of a file the same type: at this size the mixes would hide what a type does.

    Raises:
        QuantizeError: The tool could not be run, or failed.
    """
    made: list[Path] = []
    for quant in QUANTS:
        target = folder / f"standin-{quant}.gguf"
        target.unlink(missing_ok=True)
        command = [str(tool), "--pure", str(source), str(target), quant, "1"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise QuantizeError(f"{tool} could not be run: {error}") from error
        if done.returncode != 0 or not target.is_file():
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise QuantizeError(f"{tool} could not make {quant}:\n{tail}")
        made.append(target)
    return made
