"""Where each tensor of the file goes, and the room it takes there.

Follows `llama_model_loader::create_tensor` (src/llama-model-loader.cpp), the table of layers that tensors belong to
(`LLM_TENSOR_INFOS` in src/llama-arch.cpp), and the choice of buffer types in src/llama-model.cpp and
ggml-cpu/repack.cpp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.footprint.architectures import ARCHITECTURES
from quants.footprint.placement import HOST, Placement
from quants.gguf import TENSOR_TYPES

if TYPE_CHECKING:
    from quants.footprint.model import Model
    from quants.gguf import Header, TensorInfo

# Tables that rows are looked up in: never worth a GPU (LLM_TENSOR_LAYER_INPUT).
_INPUT: Final = frozenset({"token_embd", "position_embd", "token_types", "per_layer_token_embd"})
# Named without a layer, but kept where the first layer is.
_FIRST_LAYER: Final = frozenset({"token_embd_norm", "per_layer_model_proj", "per_layer_proj_norm"})
# Where token_embd_norm is the norm behind the last layer (LLM_TENSOR_OUTPUT_NORM_LFM2); elsewhere the first layer's.
_NORM_AT_END: Final = frozenset({"lfm2", "lfm2moe"})
# One copy on each device that has a layer: every layer asks for them under the same name.
_EVERYWHERE: Final = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
_BLOCK: Final = re.compile(r"blk\.(\d+)\.")
# llm_ffn_exps_block_regex in common/common.h: what --n-cpu-moe keeps in host memory
_EXPERTS: Final = re.compile(r"\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps")
# Types with an interleaved layout for AVX2 or NEON (ggml_repack_get_optimal_repack_type).
_REPACKED: Final = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})


@dataclass(frozen=True, slots=True)
class Weights:
    """The model's weights on each device.

    Attributes:
        bytes_on: of model buffers, by device.
        experts_bytes: of expert weights alone, by device (what more --n-cpu-moe would move).
        repacked_bytes: of weights that the CPU backend copies into an order of its own: they lie in host memory, and
            for as long as the file stays mapped its pages of them may too.
    """

    bytes_on: dict[str, int]
    experts_bytes: dict[str, int]
    repacked_bytes: int


def weights(header: Header, model: Model, placement: Placement) -> Weights:
    """Place every tensor of the file."""
    settings = placement.settings
    trunk = sum(not layer.nextn for layer in model.layers)
    found: dict[str, int] = {}
    experts: dict[str, int] = {}
    repacked = 0
    names = {tensor.name for tensor in header.tensors}
    # Without GPUs the CPU backend may repack; with one, host weights lie in pinned memory in their own order.
    repacks = settings.repack and not settings.gpus
    for tensor in header.tensors:
        block = _BLOCK.match(tensor.name)
        if block is not None and int(block[1]) >= trunk and not settings.mtp:
            continue
        for device in _devices(tensor, block, model, placement, names):
            size = _bytes(tensor, device, placement)
            found[device] = found.get(device, 0) + size
            if _EXPERTS.search(tensor.name):
                experts[device] = experts.get(device, 0) + size
            if repacks and device == HOST and _repackable(tensor):
                repacked += size
    if "output.weight" not in names and placement.output == HOST:
        twice = ARCHITECTURES[model.architecture].table_twice and not settings.mmap
        for tensor in header.tensors:
            if tensor.name != "token_embd.weight":
                continue
            # The tied table is looked up in as it is, and multiplied with as a repacked copy.
            copied = repacks and _type_repacked(tensor)
            if copied or twice:
                size = _bytes(tensor, HOST, placement)
                found[HOST] = found.get(HOST, 0) + size
                repacked += size if copied else 0
    return Weights(found, experts, repacked)


def _devices(
    tensor: TensorInfo, block: re.Match[str] | None, model: Model, placement: Placement, names: set[str]
) -> set[str]:
    """The devices that hold a copy of `tensor`."""
    settings = placement.settings
    if block is not None:
        index = int(block[1])
        if index < settings.cpu_moe_layers and _EXPERTS.search(tensor.name):
            return {HOST}
        return {placement.layers[index] if index < len(placement.layers) else HOST}
    if tensor.name in _EVERYWHERE:
        return {placement.layers[layer.index] for layer in model.layers if not layer.nextn}
    if tensor.name == "token_embd.weight" and "output.weight" not in names:
        return {HOST, placement.output}
    stem = tensor.name.partition(".")[0]
    if stem in _INPUT:
        return {HOST}
    if stem in _FIRST_LAYER and not (stem == "token_embd_norm" and model.architecture in _NORM_AT_END):
        return {placement.layers[0]}
    return {placement.output}


def _bytes(tensor: TensorInfo, device: str, placement: Placement) -> int:
    kind = TENSOR_TYPES.get(tensor.type_id)
    return tensor.size_bytes if kind is None else placement.tensor_bytes(device, kind, tensor.shape)


def _type_repacked(tensor: TensorInfo) -> bool:
    return tensor.type_name in _REPACKED and len(tensor.shape) > 1 and tensor.shape[1] % 8 == 0


def _repackable(tensor: TensorInfo) -> bool:
    """Whether the CPU backend multiplies with a repacked copy: matrices, and stacks of experts."""
    if not _type_repacked(tensor) or tensor.name.partition(".")[0] in _INPUT:
        return False
    return len(tensor.shape) == (3 if _EXPERTS.search(tensor.name) else 2)
