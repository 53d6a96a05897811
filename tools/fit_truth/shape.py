"""What a shape of a model is, and the words that shapes are written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shape:
    """One model: its metadata without the prefix of the architecture, and what its file leaves out.

    Attributes:
        name: of the shape.
        arch: general.architecture.
        keys: metadata under "{arch}.".
        types: "q4_k_m", "q8_0", "mxfp4" ...: which types its weights have (see `write.py`).
        tied: no output.weight, the token table serves as output.
        drop: regular expressions of optional tensors that this model's file does not have.
        fused_qkv: the file has attn_qkv instead of attn_q, attn_k and attn_v.
    """

    name: str
    arch: str
    keys: dict[str, Any]
    types: str = "q4_k_m"
    tied: bool = False
    drop: tuple[str, ...] = (r"\.bias$", r"rope_", r"^cls", r"^dense_")
    fused_qkv: bool = False


def dense(  # noqa: PLR0917 - a row of figures as model cards list them
    layers: int, width: int, ff: Any, heads: int, kv: Any, vocab: int, head: int | None = None, **more: Any
) -> dict[str, Any]:
    """Attention and a feed-forward in every layer; further keys by name, with "__" for a dot."""
    keys: dict[str, Any] = {
        "vocab_size": vocab,
        "context_length": 131072,
        "block_count": layers,
        "embedding_length": width,
        "feed_forward_length": ff,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.layer_norm_epsilon": 1e-5,
    }
    if head is not None:
        keys |= {"attention.key_length": head, "attention.value_length": head, "rope.dimension_count": head}
    return keys | {key.replace("__", "."): value for key, value in more.items()}


def moe(count: int, used: int, ff: int, **more: Any) -> dict[str, Any]:
    """The keys of a mixture of experts."""
    keys: dict[str, Any] = {"expert_count": count, "expert_used_count": used, "expert_feed_forward_length": ff}
    return keys | {key.replace("__", "."): value for key, value in more.items()}


def ssm(conv: int, inner: int, state: int, rank: int, groups: int | None = None) -> dict[str, Any]:
    """The keys of a state-space layer."""
    keys = {"conv_kernel": conv, "inner_size": inner, "state_size": state, "time_step_rank": rank}
    if groups is not None:
        keys["group_count"] = groups
    return {f"ssm.{key}": value for key, value in keys.items()}


def at(layers: int, places: tuple[int, ...] | range, value: int) -> list[int]:
    """`value` for the layers at `places`, 0 for the others."""
    return [value if layer in places else 0 for layer in range(layers)]


def window(tokens: int) -> dict[str, Any]:
    """A sliding window of that many tokens."""
    return {"attention.sliding_window": tokens}


def by_letter(pattern: str, letter: str, value: int) -> list[int]:
    """`value` for the layers that `pattern` names by `letter`, 0 for the others."""
    return [value if each == letter else 0 for each in pattern]


MROPE = {"rope.dimension_sections": [24, 20, 20, 0]}
MLA = {
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "attention.kv_lora_rank": 512,
    "rope.dimension_count": 64,
}
QKV_BIAS = (r"attn_output\.bias$", r"ffn.*\.bias$", r"norm.*\.bias$", r"output\.bias$", r"rope_", r"^cls")
NEMOTRON = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
NEMOTRON_47B = "M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-"
NANO = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
GEMMA4 = {"attention.key_length_swa": 256, "attention.value_length_swa": 256, "rope.dimension_count_swa": 256}


def gemma4_kv(layers: int, period: int, window: int, full: int) -> dict[str, Any]:
    """Gemma 4's layers: every period-th is full, with K and V heads of its own."""
    swa = [(layer + 1) % period != 0 for layer in range(layers)]
    return {
        "attention.sliding_window_pattern": swa,
        "attention.head_count_kv": [window if each else full for each in swa],
        **GEMMA4,
    }
