"""How much memory a GGUF takes when llama.cpp loads it, from its header alone, itemised per device.

>>> footprint = estimate(read_header("model.gguf"), FootprintSettings(context=32768, backend=Backend.CUDA, gpus=1))
>>> footprint.gpus[0].kv_bytes, footprint.host.weights_bytes, footprint.total_bytes
"""

from quants.footprint.architectures import ARCHITECTURES
from quants.footprint.estimate import Estimator, estimate, predict, settings_for
from quants.footprint.types import CACHE_TYPES, COMPONENTS, Backend, DeviceFootprint, Footprint, FootprintSettings

__all__ = [
    "ARCHITECTURES",
    "CACHE_TYPES",
    "COMPONENTS",
    "Backend",
    "DeviceFootprint",
    "Estimator",
    "Footprint",
    "FootprintSettings",
    "estimate",
    "predict",
    "settings_for",
]
