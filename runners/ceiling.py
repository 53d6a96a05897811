"""What the memory bus allows: the highest decode rate that a device can have with a model, whatever computes.

The rule is `profiles.bus`; here is what a cell on a place reads for each token:

    ceiling = bandwidth / (bytes of weights a token + bytes of KV cache at the depth)

with the least that is read, as the ceiling must not be too low: the depth is that of the prompt, when decoding begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiles.bus import ceiling_tps
from quants.fit.devices import footprint_key
from quants.models import FileModel
from runners.engines.settings import LlamaCppSettings

if TYPE_CHECKING:
    from runners.orders import Place
    from runners.work import Cell

CACHES_BYTES: Final = 256 << 20
"""Weights below this may stay in the caches of a processor, which are faster than the bus by far."""


def decode_ceiling_tps(cell: Cell, place: Place, prompt_tokens: int | None) -> float | str:
    """The ceiling in tokens a second, or why there is none."""
    model, engine = cell.model, cell.engine
    if not isinstance(model, FileModel) or not isinstance(engine, LlamaCppSettings):
        return "what serves the model is not known"
    if model.facts is None or not model.facts.token_bytes:
        return "the model's header could not be read"
    if place.bandwidth_bytes_per_s is None:
        return "the memory bandwidth of the device is not known"
    if model.facts.token_bytes < CACHES_BYTES:
        return "the model is so small that it may lie in the processor's caches"
    if place.backend != "cpu" and (engine.gpu_layers is not None or engine.cpu_moe_layers):
        return "a part of the model lies in host memory"
    kv_bytes = 0.0
    footprint = model.footprints.get(footprint_key(place.backend or "", len(place.devices)))
    if footprint is not None and footprint.known and prompt_tokens:
        held = sum(device.kv_bytes for device in footprint.devices)
        kv_bytes = held * min(1.0, prompt_tokens / (engine.context * engine.slots))
    return ceiling_tps(place.bandwidth_bytes_per_s, model.facts.token_bytes + kv_bytes)
