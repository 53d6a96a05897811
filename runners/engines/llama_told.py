"""What a loaded llama.cpp server says that it serves with, by its properties and its log, held against what was asked.

A server adjusts settings by itself: it cuts a context down to what the model was trained on, or switches flash
attention off where the device cannot do it. What it says goes into the row; what makes results another thing than
those that were asked for is no load at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runners.engines.figures import count

if TYPE_CHECKING:
    from runners.engines.settings import LlamaCppSettings

_NUMBER: Final = r"(\d{1,10})(?!\d)"
_LAYERS: Final = re.compile(rf"\boffloaded {_NUMBER}/{_NUMBER} layers to GPU")
_TRAINED: Final = re.compile(rf"\bprint_info: n_ctx_train\s{{1,40}}= {_NUMBER}")
_SLOTS: Final = re.compile(rf"\bn_slots = {_NUMBER}")
_CACHE: Final = re.compile(r"\bllama_kv_cache\w{0,20}: .{0,200}?\bK \((\w{1,16})\):.{0,40}?\bV \((\w{1,16})\):")
_LOAD_MODE: Final = re.compile(r"\bloading model tensors, .{0,80}\(load_mode = (\w{1,16})\)")
# In the order of a load: what was asked for, then what became of it. Builds of before 2026 say it otherwise.
_FLASH: Final = re.compile(
    r"\bflash_attn\s{1,40}= (enabled|disabled|1|0)\b"
    r"|\bFlash Attention (?:was auto, set to )?(enabled|disabled)\b"
    r"|\bFlash Attention not supported, set to (disabled)\b"
    r"|\bflash_attn is not compatible with .{1,40} (forcing off)\b"
    r"|\b(disabling) flash attention\b"
    r"|\b(enabling) flash_attn since\b"
)
_ON: Final = frozenset({"enabled", "1", "enabling"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSettings:
    """What a server serves with; None where it does not say.

    Attributes:
        context: tokens for each slot.
        slots: requests that it serves at once.
        trained: tokens that the model was trained on, as the server reads its file.
        flash_attention: whether it computes with it.
        layers_on_gpu: how many of `layers`, the output layer among them; a build without a GPU backend says nothing.
        cache_type_k, cache_type_v: of the K and V cache.
        load_mode: how the weights came into memory (`mmap`, `read`, ...).
        deviations: sentences on what is not as it was asked for, and changes no answer by itself.
    """

    context: int | None = None
    slots: int | None = None
    trained: int | None = None
    flash_attention: bool | None = None
    layers_on_gpu: int | None = None
    layers: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    load_mode: str | None = None
    deviations: tuple[str, ...] = ()


def read_served(properties: Any, log: str) -> ServedSettings:
    """What the answer of /props and the log of the load tell."""
    layers, cache = _last(_LAYERS, log), _last(_CACHE, log)
    flash, mode = _last(_FLASH, log), _last(_LOAD_MODE, log)
    return ServedSettings(
        context=_property(properties, "default_generation_settings", "n_ctx"),
        slots=_property(properties, "total_slots") or _whole(_last(_SLOTS, log)),
        trained=_whole(_last(_TRAINED, log)),
        flash_attention=None if flash is None else next(word for word in flash.groups() if word) in _ON,
        layers_on_gpu=_whole(layers),
        layers=None if layers is None else int(layers[2]),
        cache_type_k=None if cache is None else cache[1],
        cache_type_v=None if cache is None else cache[2],
        load_mode=None if mode is None else {"none": "read"}.get(mode[1], mode[1]),
    )


def deviations(asked: LlamaCppSettings, served: ServedSettings) -> tuple[str, ...]:
    """What is not as it was asked for and changes no answer by itself, a sentence each.

    A context that is cut down to what the model was trained on is among them: the model has no more to give, and a
    reply that fills it is marked as one that outgrew its context. What `refusal` names is not.
    """
    found = []
    if served.context is not None and served.context < asked.context:
        found.append(
            f"{served.context:,} tokens of context for each slot instead of {asked.context:,}: the server cut it down "
            "to what the model was trained on"
        )
    if served.slots is not None and served.slots != asked.slots:
        found.append(f"{served.slots} slots instead of {asked.slots}")
    return tuple(found)


def refusal(asked: LlamaCppSettings, served: ServedSettings) -> str | None:
    """Why results would not be those that were asked for, as a sentence; None where nothing speaks against it."""
    short = served.context is not None and served.context < asked.context
    if short and (served.trained is None or (served.context or 0) < served.trained):
        return f"it serves {served.context:,} tokens of context for each slot, and not {asked.context:,}"
    for name, wanted, got in (
        ("K", asked.cache_type_k, served.cache_type_k),
        ("V", asked.cache_type_v, served.cache_type_v),
    ):
        if got is not None and got.lower() != wanted.lower():
            return f"its {name} cache is of type {got}, and not {wanted}"
    flash = served.flash_attention
    if flash is None or asked.flash_attention == "auto" or flash == (asked.flash_attention == "on"):
        return None
    return f"it has switched flash attention {'on' if flash else 'off'}, and not {asked.flash_attention}"


def too_few_layers(asked: LlamaCppSettings, served: ServedSettings) -> str | None:
    """What is wrong with the layers of a server that was given a GPU, as a sentence; None where nothing is."""
    if served.layers is None or served.layers_on_gpu is None:
        return None
    wanted = served.layers if asked.gpu_layers is None else min(asked.gpu_layers, served.layers)
    if served.layers_on_gpu >= wanted:
        return None
    return f"it put {served.layers_on_gpu} of {served.layers} layers on the GPU, and not {wanted}"


def _last(pattern: re.Pattern[str], log: str) -> re.Match[str] | None:
    """In the last line that has it: probes of what fits come first."""
    found = None
    for line in log.splitlines():
        if "llama_model_loader: - kv" not in line:  # the file's own words, which may be anything
            found = pattern.search(line) or found
    return found


def _whole(found: re.Match[str] | None) -> int | None:
    return None if found is None else int(found[1])


def _property(properties: Any, *path: str) -> int | None:
    try:
        for key in path:
            properties = properties[key]
    except (KeyError, TypeError):
        return None
    return count(properties)
