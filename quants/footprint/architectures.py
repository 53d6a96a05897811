"""Which rules an architecture's layers follow in llama.cpp: windows, recurrence, caches that are shared or missing.

Read from `src/models/*.cpp` (`load_arch_hparams`), `src/llama-model.cpp` (`create_memory`) and `src/llama-arch.cpp`
(`llm_arch_is_recurrent`, `llm_arch_is_hybrid`) of llama.cpp 0.5.0, commit 0c1e570. An architecture that is not in the
table is unknown: no default is assumed, as new ones exist because something about their layers is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Recurrence(StrEnum):
    """Which layers carry recurrent state instead of a KV cache."""

    NEVER = "never"
    ALL = "all"  # purely recurrent: no KV cache at all
    BESIDE = "beside"  # every layer has both
    NO_KV_HEADS = "no_kv_heads"  # where attention.head_count_kv is 0
    NO_KV_HEADS_NO_FF = "no_kv_heads_no_ff"  # and feed_forward_length too; layers with a feed-forward have neither
    INTERVAL = "interval"  # attention.recurrent_layers, else all but every full_attention_interval-th


@dataclass(frozen=True, slots=True)
class Window:
    """How sliding-window layers are told apart.

    Attributes:
        period: every period-th layer is dense (attention.sliding_window_pattern overrides it, by number or by list);
            0: every attention layer has the window; None: the list must be there.
        default: tokens where attention.sliding_window is missing; None: then there is no window.
        fixed: tokens whatever attention.sliding_window says.
        dense_first: the dense layer comes first in each period.
        only_layers: only models of that many layers have windows.
        off_at_zero: attention.sliding_window = 0 switches the default off.
    """

    period: int | None
    default: int | None = None
    fixed: int | None = None
    dense_first: bool = False
    only_layers: int | None = None
    off_at_zero: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """The rules of one architecture.

    Attributes:
        window: sliding windows; None where a `sliding_window` key has no effect.
        recurrence: which layers are recurrent.
        latent: caches the compressed latent of multi-head latent attention alone (K, no V) when the file has the keys
            attention.key_length_mla and attention.value_length_mla.
        cached_layers: only that many layers, from the first, have a cache of their own (gemma3n).
        shared_layers: attention.shared_kv_layers at the end use the caches of earlier layers (gemma4).
        table_twice: asks for the tied output before the token table, so that an engine without a GPU and without mmap
            allocates it twice.
    """

    window: Window | None = None
    recurrence: Recurrence = Recurrence.NEVER
    latent: bool = False
    cached_layers: int | None = None
    shared_layers: bool = False
    table_twice: bool = False


_PLAIN: Final = Architecture()
_INTERVAL: Final = Architecture(recurrence=Recurrence.INTERVAL)
_NO_KV: Final = Architecture(recurrence=Recurrence.NO_KV_HEADS)
_MIXED: Final = Architecture(recurrence=Recurrence.NO_KV_HEADS_NO_FF)
_RECURRENT: Final = Architecture(recurrence=Recurrence.ALL)

ARCHITECTURES: Final[dict[str, Architecture]] = {
    **dict.fromkeys(
        (
            "command-r",
            "gemma",
            "glm4",
            "glm4moe",
            "granite",
            "hunyuan-moe",
            "internlm2",
            "llama",
            "minimax-m2",
            "mistral3",
            "olmoe",
            "phi3",
            "qwen2",
            "qwen2moe",
            "qwen2vl",
            "qwen3",
            "qwen3moe",
            "qwen3vl",
            "qwen3vlmoe",
            "seed_oss",
            "smollm3",
            "starcoder2",
        ),
        _PLAIN,
    ),
    "cohere2": Architecture(window=Window(4)),
    "deepseek2": Architecture(latent=True),
    "exaone4": Architecture(window=Window(4, 4096, only_layers=64)),
    "falcon-h1": Architecture(recurrence=Recurrence.BESIDE),
    "gemma2": Architecture(window=Window(2, 4096)),
    "gemma3": Architecture(window=Window(6)),
    "gemma3n": Architecture(window=Window(5), cached_layers=20, table_twice=True),
    "gemma4": Architecture(window=Window(None), shared_layers=True, table_twice=True),
    "gpt-oss": Architecture(window=Window(2)),
    "granitehybrid": _NO_KV,
    "jamba": _NO_KV,
    "kimi-linear": Architecture(recurrence=Recurrence.NO_KV_HEADS, latent=True),
    "lfm2": Architecture(window=Window(0), recurrence=Recurrence.NO_KV_HEADS),
    "lfm2moe": _NO_KV,
    "llama4": Architecture(window=Window(4, 8192, fixed=8192, off_at_zero=True)),
    "mamba": _RECURRENT,
    "mamba2": _RECURRENT,
    "nemotron_h": _MIXED,
    "nemotron_h_moe": _MIXED,
    "olmo2": Architecture(window=Window(4)),
    "qwen3next": _INTERVAL,
    "qwen35": _INTERVAL,
    "qwen35moe": _INTERVAL,
    "rwkv7": _RECURRENT,
}
