"""What an estimate is asked for and what it says: settings in, memory per device and component out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Method = Literal["estimate", "engine", "unknown"]

# Tensor type ids of the names that llama.cpp takes for --cache-type-k and --cache-type-v (common/arg.cpp,
# kv_cache_types).
CACHE_TYPES: Final[dict[str, int]] = {
    "f32": 0,
    "f16": 1,
    "bf16": 30,
    "q8_0": 8,
    "q4_0": 2,
    "q4_1": 3,
    "iq4_nl": 20,
    "q5_0": 6,
    "q5_1": 7,
}


class Backend(StrEnum):
    """What computes: the CPU alone, or GPUs by one of llama.cpp's backends."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    METAL = "metal"


# The parts of a device's footprint, in the order they are shown in.
COMPONENTS: Final = (
    "weights_bytes",
    "kv_bytes",
    "state_bytes",
    "compute_bytes",
    "output_bytes",
    "mmproj_bytes",
    "draft_bytes",
    "overhead_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintSettings:
    """What, besides the file, decides how much memory a llama.cpp server takes.

    Attributes:
        context: tokens of context for each slot (llama-server's --ctx-size is this times `slots`).
        slots: requests served at once (--parallel).
        unified_kv: one cache for all slots (--kv-unified) instead of one each.
        cache_type_k: type of the K cache, a key of `CACHE_TYPES`.
        cache_type_v: type of the V cache; a quantized one needs flash attention.
        flash_attention: whether it is on.
        batch: prompt tokens handed over at once (--batch-size).
        ubatch: prompt tokens computed at once (--ubatch-size).
        outputs: tokens of a batch whose logits are kept; None: one for each slot, as llama-server asks for.
        swa_full: a full-size cache for sliding-window layers (--swa-full).
        backend: what computes.
        gpus: how many GPUs; 0 for `Backend.CPU`.
        tensor_split: the share of each GPU (--tensor-split); None: equal shares.
        gpu_layers: layers on GPUs, the output layer counted as one; None: all.
        cpu_moe_layers: layers, from the first, whose expert weights stay in host memory (--n-cpu-moe).
        kv_on_gpu: whether caches follow their layers to the GPU (False: --no-kv-offload).
        mmap: whether the file is mapped (the default) instead of read into memory of its own.
        repack: whether the CPU backend may store weights in an order of its own (the default; False: --no-repack).
        mtp: whether the weights of nextn (multi-token prediction) layers are loaded.
        rollback: tokens of speculation that recurrent state must be able to take back.
    """

    context: int = 4096
    slots: int = 1
    unified_kv: bool = False
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: bool = True
    batch: int = 2048
    ubatch: int = 512
    outputs: int | None = None
    swa_full: bool = False
    backend: Backend = Backend.CPU
    gpus: int = 0
    tensor_split: tuple[float, ...] | None = None
    gpu_layers: int | None = None
    cpu_moe_layers: int = 0
    kv_on_gpu: bool = True
    mmap: bool = True
    repack: bool = True
    mtp: bool = False
    rollback: int = 0

    @property
    def total_context(self) -> int:
        """Tokens of context of all slots together: llama.cpp's `n_ctx` before padding."""
        return self.context * self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFootprint:
    """The memory a model takes on one device, in bytes, itemised.

    Attributes:
        device: "host", "gpu0", "gpu1" ...
        weights_bytes: model buffers, in the layout of that device.
        kv_bytes: K and V caches.
        state_bytes: recurrent state.
        compute_bytes: the scheduler's buffer for the largest graph.
        output_bytes: logits and embeddings handed back to the program.
        mmproj_bytes: weights of the multimodal projector.
        draft_bytes: everything of the draft model.
        overhead_bytes: what the engine and its driver take besides (CUDA context, program).
        uncertainty_bytes: how much more than `compute_bytes` the compute buffer may take; not part of the total.
    """

    device: str
    weights_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0
    mmproj_bytes: int = 0
    draft_bytes: int = 0
    overhead_bytes: int = 0
    uncertainty_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All components together."""
        return sum(getattr(self, name) for name in COMPONENTS)

    @property
    def safe_bytes(self) -> int:
        """The total with the uncertainty: what must be free for a load to be sure."""
        return self.total_bytes + self.uncertainty_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The memory a model takes, per device.

    Attributes:
        method: "estimate" (this package), "engine" (the engine's own planner), or "unknown": then there are no devices
            and every size is None.
        architecture: of the model, None where the header does not say.
        settings: what it holds for.
        devices: host first, then the GPUs.
        layers: how many layers could go to a GPU, the output layer counted as one.
        trained_context: tokens the model was trained on; None if the header does not say.
        repacked_bytes: of the host's weights, what the CPU backend copies into an order of its own. With mmap, as many
            pages of the file may stay in memory besides, until something else needs the room.
        reason: why it is unknown, or what is special about the figures; empty otherwise.
    """

    method: Method
    architecture: str | None
    settings: FootprintSettings
    devices: tuple[DeviceFootprint, ...] = ()
    layers: int = 0
    trained_context: int | None = None
    repacked_bytes: int = 0
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there are figures."""
        return self.method != "unknown"

    @property
    def host(self) -> DeviceFootprint:
        """What lies in host memory."""
        return next((device for device in self.devices if device.device == "host"), DeviceFootprint(device="host"))

    @property
    def gpus(self) -> tuple[DeviceFootprint, ...]:
        """What lies on each GPU, in order."""
        return tuple(device for device in self.devices if device.device != "host")

    @property
    def peak_bytes(self) -> int | None:
        """What measuring the loaded engine may show at most: with mmap, pages of the file behind repacked weights too.

        The system takes those pages back when it needs them, so they count against no verdict. None if unknown.
        """
        if not self.known:
            return None
        return (self.total_bytes or 0) + (self.repacked_bytes if self.settings.mmap else 0)

    def total(self, component: str) -> int | None:
        """One component, e.g. "kv_bytes", over all devices; None where it is unknown."""
        return sum(getattr(device, component) for device in self.devices) if self.known else None

    @property
    def total_bytes(self) -> int | None:
        """Everything on every device; None where it is unknown."""
        return sum(device.total_bytes for device in self.devices) if self.known else None
