"""Which device each layer goes to, and how buffers there are padded.

Follows `llama_model_base::load_tensors` (src/llama-model.cpp, "calculate the split points") and
`ggml_backend_cuda_buffer_type_get_alloc_size` (ggml-cuda.cu).
"""

from __future__ import annotations

import bisect
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.footprint.types import Backend, FootprintSettings

if TYPE_CHECKING:
    from quants.gguf import TensorType

HOST: Final = "host"
# GGML_MEM_ALIGN / TENSOR_ALIGNMENT of the CPU's buffers; the CUDA backend's alignment.
_CPU_ALIGNMENT: Final = 32
_GPU_ALIGNMENT: Final = 128
_CUDA_ROW_PADDING: Final = 512  # MATRIX_ROW_PADDING in ggml-cuda/common.cuh, in elements
_PADDED: Final = (Backend.CUDA, Backend.ROCM)


def pad(value: int, to: int) -> int:
    """`value` rounded up to a multiple of `to`."""
    return -(-value // to) * to


@dataclass(frozen=True, slots=True)
class Placement:
    """Where layers lie.

    Attributes:
        layers: the device of each layer, in order.
        output: the device of the output layer.
        gpus: the names of all GPUs.
        settings: they follow from.
    """

    layers: tuple[str, ...]
    output: str
    gpus: tuple[str, ...]
    settings: FootprintSettings

    @property
    def offloaded(self) -> bool:
        """Whether any layer lies on a GPU."""
        return self.output != HOST or any(device != HOST for device in self.layers)

    def cache_device(self, layer: int) -> str:
        """Where the cache or the state of a layer lies."""
        return self.layers[layer] if self.settings.kv_on_gpu else HOST

    def tensor_bytes(self, device: str, kind: TensorType, shape: tuple[int, ...]) -> int:
        """The room a tensor takes in a buffer of that device: padded rows, aligned end."""
        rows = 1
        for extent in shape[1:]:
            rows *= extent
        size = kind.row_bytes(shape[0]) * rows
        if device == HOST:
            return pad(size, _CPU_ALIGNMENT)
        if kind.block_size > 1 and self.settings.backend in _PADDED and shape[0] % _CUDA_ROW_PADDING:
            size += kind.row_bytes(_CUDA_ROW_PADDING - shape[0] % _CUDA_ROW_PADDING)
        return pad(size, _GPU_ALIGNMENT)


def place(layers: int, settings: FootprintSettings) -> Placement:
    """The device of each of `layers` layers and of the output layer, which comes after them."""
    gpus = tuple(f"gpu{index}" for index in range(settings.gpus))
    wanted = layers + 1 if settings.gpu_layers is None else settings.gpu_layers
    first = max(layers + 1 - wanted, 0)
    active = min(wanted, layers + 1) if gpus else 0
    shares = settings.tensor_split or (1.0,) * len(gpus)
    bounds = _bounds(shares)

    def device(layer: int) -> str:
        if layer < first or layer - first >= active:
            return HOST
        return gpus[min(bisect.bisect_right(bounds, _single((layer - first) / active)), len(gpus) - 1)]

    return Placement(tuple(device(each) for each in range(layers)), device(layers), gpus, settings)


def _bounds(shares: tuple[float, ...]) -> list[float]:
    """The cumulative shares, in single precision as the engine sums them."""
    total, sums = 0.0, []
    for share in shares:
        total = _single(total + share)
        sums.append(total)
    return [_single(each / total) for each in sums]


def _single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
