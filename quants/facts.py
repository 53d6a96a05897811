"""What a header says of a model that analysts ask for: its size in parameters, and what it reads for each token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError

if TYPE_CHECKING:
    from quants.gguf import Header

_EXPERTS: Final = "_exps."
# Of these tables a token reads one row.
_LOOKED_UP: Final = ("token_embd.weight", "per_layer_token_embd.weight")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Figures of one quant.

    Attributes:
        architecture: as llama.cpp calls it.
        parameters: elements of all tensors.
        parameters_active: those that take part in one token; fewer only where there are experts.
        bits_per_weight: bits of all tensors together over `parameters`.
        token_bytes: bytes of weights that decoding one token has to read: experts as far as they are used, tables of
            which it reads a row left out.
    """

    architecture: str | None
    parameters: int
    parameters_active: int
    bits_per_weight: float
    token_bytes: int


def facts_of(header: Header) -> ModelFacts:
    """The figures of the model whose header this is; of a split set the header of all its files."""
    try:
        used = header.integer("{arch}.expert_used_count")
    except GGUFError:  # a figure for each layer
        used = None
    parameters = active = size_bytes = token_bytes = 0
    names = {tensor.name for tensor in header.tensors}
    for tensor in header.tensors:
        elements = math.prod(tensor.shape)
        share = 1.0
        if _EXPERTS in tensor.name and used and len(tensor.shape) > 2:
            share = min(1.0, used / tensor.shape[-1])
        parameters += elements
        active += round(elements * share)
        size_bytes += max(tensor.size_bytes, 0)
        # Without an output matrix of its own a model multiplies by the table of its tokens.
        looked_up = tensor.name in _LOOKED_UP and (tensor.name != _LOOKED_UP[0] or "output.weight" in names)
        token_bytes += 0 if looked_up else round(max(tensor.size_bytes, 0) * share)
    bits = 8 * size_bytes / parameters if parameters else 0.0
    return ModelFacts(header.architecture, parameters, active, bits, token_bytes)
