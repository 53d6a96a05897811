"""KV caches and recurrent state, byte for byte as llama.cpp allocates them.

Follows the constructors in src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp and src/llama-memory-recurrent.cpp, and
the context sizes in src/llama-context.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.footprint.placement import pad
from quants.footprint.types import CACHE_TYPES
from quants.gguf import TENSOR_TYPES

if TYPE_CHECKING:
    from quants.footprint.model import Layer, Model
    from quants.footprint.placement import Placement
    from quants.footprint.types import FootprintSettings
    from quants.gguf import TensorType

_CELLS: Final = 256  # the context of a sequence and a window cache are multiples of it
_F32: Final = TENSOR_TYPES[0]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cache's extent.

    Attributes:
        streams: caches beside each other: one for all slots (unified) or one each.
        full: cells of each for a layer that attends to everything.
        window: cells of each for a sliding-window layer.
    """

    streams: int
    full: int
    window: int

    def of(self, layer: Layer) -> int:
        """Cells of a layer's cache in each stream."""
        return self.window if layer.windowed else self.full


def cache_type(name: str) -> TensorType:
    """The tensor type behind a --cache-type-k or -v name.

    Raises:
        ValueError: llama.cpp has no such cache type.
    """
    type_id = CACHE_TYPES.get(name)
    if type_id is None:
        raise ValueError(f"{name!r} is no cache type; llama.cpp has {', '.join(CACHE_TYPES)}")
    return TENSOR_TYPES[type_id]


def why_refused(model: Model, settings: FootprintSettings) -> str:
    """Why llama.cpp does not load this model with these cache types (`llama_init_from_model`); empty if it does."""
    if model.latent and settings.cache_type_k != settings.cache_type_v:
        kinds = f"{settings.cache_type_k} and {settings.cache_type_v}"
        return f"llama.cpp refuses different types for K and V ({kinds}) with this model's latent attention"
    if not settings.flash_attention:
        return ""
    for name, which in ((settings.cache_type_k, "K"), (settings.cache_type_v, "V")):
        block = cache_type(name).block_size
        for layer in model.layers:
            size = layer.head_size if which == "K" else layer.v_width // max(layer.kv_heads, 1)
            if layer.cached and size % block:
                return f"llama.cpp refuses a {name} {which} cache: its blocks of {block} do not divide heads of {size}"
    return ""


def padded_context(settings: FootprintSettings) -> int:
    """`n_ctx` as the engine uses it: all slots together, in tokens."""
    total = pad(settings.total_context, _CELLS)
    if settings.unified_kv:
        return total
    return pad(total // settings.slots, _CELLS) * settings.slots


def cells(model: Model, settings: FootprintSettings) -> Cells:
    """How many tokens each cache holds."""
    context = padded_context(settings)
    streams = 1 if settings.unified_kv else settings.slots
    full = context // streams
    if model.window is None or settings.swa_full:
        return Cells(streams, full, full)
    sequences = settings.slots if settings.unified_kv else 1
    ubatch = min(settings.ubatch, settings.batch, context)
    return Cells(streams, full, pad(min(full, model.window * sequences + ubatch), _CELLS))


def kv_bytes(model: Model, settings: FootprintSettings, placement: Placement) -> dict[str, int]:
    """The bytes of K and V on each device."""
    kind_k, kind_v = cache_type(settings.cache_type_k), cache_type(settings.cache_type_v)
    extent = cells(model, settings)
    found: dict[str, int] = {}
    for layer in model.layers:
        if not layer.cached:
            continue
        device = placement.cache_device(layer.index)
        # Without flash attention V is stored transposed, which needs the same width in every layer.
        v_width = layer.v_width if settings.flash_attention or not layer.v_width else model.v_width_max
        size = 0
        for kind, width in ((kind_k, layer.k_width), (kind_v, v_width)):
            if width:
                size += placement.tensor_bytes(device, kind, (width, extent.of(layer), extent.streams))
        found[device] = found.get(device, 0) + size
    return found


def state_bytes(model: Model, settings: FootprintSettings, placement: Placement) -> dict[str, int]:
    """The bytes of recurrent state on each device; always F32, whatever the cache types."""
    rows = max(1, settings.slots) * (1 + settings.rollback)
    found: dict[str, int] = {}
    for layer in model.layers:
        if not layer.recurrent:
            continue
        device = placement.cache_device(layer.index)
        size = sum(
            placement.tensor_bytes(device, _F32, (width, rows))
            for width in (model.conv_width, model.state_width)
            if width
        )
        found[device] = found.get(device, 0) + size
    return found
