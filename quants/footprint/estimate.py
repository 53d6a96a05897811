"""The estimate as a whole: header and settings in, the memory on every device out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from quants.errors import GGUFError
from quants.footprint.caches import cache_type, cells, kv_bytes, state_bytes, why_refused
from quants.footprint.compute import TensorSizes, blocks_of, compute_bytes, graph_tokens, per_layer_bytes, sizes_of
from quants.footprint.model import Model, UnknownArchitectureError, read_model
from quants.footprint.overhead import engine_overhead
from quants.footprint.placement import HOST, Placement, place
from quants.footprint.types import Backend, DeviceFootprint, Footprint, FootprintSettings
from quants.footprint.weights import weights
from quants.gguf import Header, combine, read_header

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from quants.footprint.blocks import Block
    from quants.footprint.weights import Weights

F32: Final = 4
# How far the compute buffer is from the engine's at most, over the table of truths.
_PROMISED_BYTES: Final = 32 * 1024 * 1024
_PROMISED_SHARE: Final = 0.05
# Set aside for encoding an image: the graph's size depends on its pixels. A reserve, not a measurement.
_IMAGE_RESERVE_BYTES: Final = 512 * 1024 * 1024
_TILED: Final = (Backend.CUDA, Backend.ROCM)


class Estimator:
    """Estimates for one model: what does not depend on settings is worked out once, so that a search is cheap.

    Args:
        header: of the model, of the whole split set where it is one.
        mmproj: header of its multimodal projector, which is loaded beside it.
        draft: header of a draft model for speculative decoding.

    Attributes:
        reason: why nothing can be said; empty if something can.
    """

    def __init__(self, header: Header, *, mmproj: Header | None = None, draft: Header | None = None) -> None:
        self.header = header
        self.mmproj = mmproj
        self._draft = None if draft is None else Estimator(draft)
        self._model: Model | None = None
        self._blocks: tuple[Block, ...] = ()
        self._sizes: TensorSizes = {}
        self._weights: dict[tuple[Any, ...], Weights] = {}
        self.reason = ""
        try:
            self._model = read_model(header)
            self._blocks = blocks_of(header, self._model)
            self._sizes = sizes_of(header)
        except UnknownArchitectureError as error:
            self.reason = str(error)
        except GGUFError as error:
            self.reason = f"the header is not as llama.cpp wants it: {error}"
        if self._draft is not None and self._draft.reason and not self.reason:
            self.reason = f"draft model: {self._draft.reason}"

    @property
    def model(self) -> Model | None:
        """The model's hyper-parameters; None if it is unknown."""
        return self._model

    def __call__(self, settings: FootprintSettings) -> Footprint:
        """The footprint under `settings`.

        Raises:
            ValueError: settings that contradict themselves or that llama.cpp refuses.
        """
        check(settings)
        model = self._model
        if model is None or self.reason:
            return Footprint(
                method="unknown", architecture=self.header.architecture, settings=settings, reason=self.reason
            )
        refused = why_refused(model, settings)
        if refused:
            return Footprint(method="unknown", architecture=model.architecture, settings=settings, reason=refused)
        try:
            return self._known(model, settings)
        except (KeyError, IndexError) as error:
            # A tensor that every file of the architecture has is missing, or has another number of dimensions.
            what = f" ({error.args[0]})" if isinstance(error, KeyError) else ""
            reason = f"its tensors are not those of {model.architecture}{what}"
            return Footprint(method="unknown", architecture=model.architecture, settings=settings, reason=reason)

    def _known(self, model: Model, settings: FootprintSettings) -> Footprint:
        placement = place(len(model.layers), settings)
        placed = self._placed(model, placement)
        kv = kv_bytes(model, settings, placement)
        state = state_bytes(model, settings, placement)
        compute = compute_bytes(self._blocks, model, settings, placement, self._sizes)
        scratch = scratch_bytes(model, settings, placement)
        draft: dict[str, DeviceFootprint] = {}
        if self._draft is not None:
            beside = self._draft(settings)
            if not beside.known:
                return replace(beside, architecture=model.architecture, reason=f"draft model: {beside.reason}")
            draft = {each.device: each for each in beside.devices}
        projector = placement.gpus[0] if placement.gpus and placement.offloaded else HOST
        devices = [
            DeviceFootprint(
                device=device,
                weights_bytes=placed.bytes_on.get(device, 0),
                kv_bytes=kv.get(device, 0),
                state_bytes=state.get(device, 0),
                compute_bytes=compute.get(device, 0) + scratch.get(device, 0),
                output_bytes=model.vocab * settings.slots * F32 if device == HOST else 0,
                mmproj_bytes=self.mmproj.weight_bytes if self.mmproj and device == projector else 0,
                draft_bytes=_without_engine(draft.get(device)),
                overhead_bytes=engine_overhead(settings.backend, device, vocabulary=model.vocab),
                uncertainty_bytes=self._uncertainty(model, placement, device, compute.get(device, 0))
                + (draft[device].uncertainty_bytes if device in draft else 0)
                + (_IMAGE_RESERVE_BYTES if self.mmproj and device == projector else 0),
            )
            for device in (HOST, *placement.gpus)
        ]
        return Footprint(
            method="estimate",
            architecture=model.architecture,
            settings=settings,
            devices=tuple(devices),
            layers=len(model.layers) + 1,
            trained_context=model.trained_context,
            repacked_bytes=placed.repacked_bytes,
        )

    def _uncertainty(self, model: Model, placement: Placement, device: str, compute: int) -> int:
        """What the compute buffer may take beyond the estimate: as far off as the estimate is promised to be at most.

        Where a GPU computes with what lies in host memory, holes between the copies may cost one copy more.
        """
        settings = placement.settings
        promised = max(_PROMISED_BYTES, int(compute * _PROMISED_SHARE))
        if not settings.flash_attention:
            promised *= 2  # the promise is for flash attention
        if not placement.gpus or device == HOST:
            return promised * (2 if placement.gpus else 1)
        away = [index for index, place in enumerate(placement.layers) if place == HOST]
        experts = [index for index in range(len(placement.layers)) if index < settings.cpu_moe_layers]
        table = per_layer_bytes(self._blocks, model, settings)  # Gemma's inputs for each layer cross devices, too
        if len(placement.gpus) > 1:
            # Batches overlap: what crosses between GPUs is kept four times, and more than the stream may cross.
            promised += 24 * model.width * graph_tokens(settings) * F32 + 4 * table
        if not settings.kv_on_gpu:
            promised *= 4  # states and caches travel back and forth in every layer
        if not away and not experts and settings.kv_on_gpu:
            return promised
        copies = [size for index in away for size in self._sizes.get(index, {}).values()]
        copies += [size for i in experts for name, size in self._sizes.get(i, {}).items() if "_exps." in name]
        if away or not settings.kv_on_gpu:
            extent = cells(model, settings)
            row = cache_type(settings.cache_type_k).row_bytes
            copies += [2 * row(each.k_width) * extent.of(each) * extent.streams for each in model.layers if each.cached]
            copies.append(2 * (model.conv_width + model.state_width) * settings.slots * F32)
        return promised + max(copies, default=0) + 4 * table

    def _placed(self, model: Model, placement: Placement) -> Weights:
        """Where the weights lie; remembered, as a search over contexts asks for the same again and again."""
        settings = placement.settings
        key: tuple[Any, ...] = (
            placement.layers,
            placement.output,
            settings.cpu_moe_layers,
            settings.backend,
            settings.gpus,
        )
        key += (settings.gpus, settings.repack, settings.mmap, settings.mtp)
        found = self._weights.get(key)
        if found is None:
            found = self._weights[key] = weights(self.header, model, placement)
        return found


def estimate(
    header: Header | Sequence[Header],
    settings: FootprintSettings,
    *,
    mmproj: Header | None = None,
    draft: Header | None = None,
) -> Footprint:
    """The memory that llama.cpp takes for a model under `settings`, itemised per device.

    Weights, caches and recurrent state are llama.cpp's own arithmetic to the byte; compute buffers follow its
    allocator. Engine overhead is a constant (see `overhead.py`). An architecture without rules gives a footprint of
    method "unknown". `mmproj` counts with its weights, and with a reserve in `uncertainty_bytes` for encoding images.

    Args:
        header: of the model; the headers of all shards of a split set, in any order.
        settings: of the engine.
        mmproj: header of the multimodal projector.
        draft: header of the draft model, which gets the same settings.

    Raises:
        ValueError: settings that contradict themselves or that llama.cpp refuses.
        GGUFError: the shards make no set.
    """
    whole = header if isinstance(header, Header) else combine(sorted(header, key=_shard))
    return Estimator(whole, mmproj=mmproj, draft=draft)(settings)


def predict(source: Header | str | os.PathLike[str], engine: Any, *, device: str = "cpu", gpus: int = 1) -> Footprint:
    """The footprint of a cell at planning time, from values named as in the engine settings of a sweep.

    Args:
        source: the model's header, or the path of its file.
        engine: anything with `context`, `slots`, `cache_type_k`, `cache_type_v`, `flash_attention` ("on", "off",
            "auto": on), `batch`, `ubatch`, `gpu_layers`, `cpu_moe_layers`, `swa_full` and `mmap`; what is missing
            takes its default.
        device: "cpu", where everything lies in host memory, or a backend of `Backend` ("gpu" means CUDA).
        gpus: how many, if `device` is not "cpu".

    Raises:
        ValueError: as `estimate`.
        GGUFError, OSError: `source` is a path without a sound header.
    """
    header = source if isinstance(source, Header) else read_header(source)
    return estimate(header, settings_for(engine, Backend.CUDA if device == "gpu" else Backend(device), gpus=gpus))


def settings_for(engine: Any, backend: Backend, *, gpus: int = 1) -> FootprintSettings:
    """The settings of an estimate from values named as in the engine settings of a sweep: see `predict`."""
    values: dict[str, Any] = {}
    for name in ("context", "slots", "cache_type_k", "cache_type_v", "batch", "ubatch", "swa_full", "mmap"):
        value = getattr(engine, name, None)
        if value is not None:
            values[name] = value
    values["flash_attention"] = getattr(engine, "flash_attention", "auto") not in {"off", False}
    if backend is not Backend.CPU:
        values |= {"gpus": gpus, "gpu_layers": getattr(engine, "gpu_layers", None)}
        values["cpu_moe_layers"] = getattr(engine, "cpu_moe_layers", None) or 0
    return FootprintSettings(backend=backend, **values)


def check(settings: FootprintSettings) -> None:
    """Refuse settings that llama.cpp would refuse too.

    Raises:
        ValueError: says which, and what would be right.
    """
    for name in ("context", "slots", "batch", "ubatch"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} is {getattr(settings, name)}; at least 1 belongs there")
    cache_type(settings.cache_type_k)
    if cache_type(settings.cache_type_v).block_size > 1 and not settings.flash_attention:
        raise ValueError(f"a {settings.cache_type_v} V cache needs flash attention")
    if settings.gpus and settings.backend is Backend.CPU:
        raise ValueError("backend cpu has no GPUs: name the backend of the GPUs")
    if settings.backend is not Backend.CPU and settings.gpus < 1:
        raise ValueError(f"backend {settings.backend} needs at least one GPU")
    if settings.tensor_split is not None and len(settings.tensor_split) != settings.gpus:
        raise ValueError(f"{len(settings.tensor_split)} shares (tensor_split) for {settings.gpus} GPUs")
    if settings.tensor_split is not None and not (min(settings.tensor_split) >= 0 < sum(settings.tensor_split)):
        raise ValueError("the shares of the GPUs (tensor_split) must not be negative, nor all be zero")
    for name in ("gpu_layers", "cpu_moe_layers", "rollback"):
        if (getattr(settings, name) or 0) < 0:
            raise ValueError(f"{name} is {getattr(settings, name)}; 0 or more belongs there")


def scratch_bytes(model: Model, settings: FootprintSettings, placement: Placement) -> dict[str, int]:
    """What CUDA's attention kernels add to the compute buffer for a quantized cache: an F16 copy of one layer's.

    `ggml_cuda_flash_attn_ext_get_alloc_size` (ggml-cuda/fattn.cu) asks for it in the kernels that prompts use.
    """
    kinds = cache_type(settings.cache_type_k), cache_type(settings.cache_type_v)
    if settings.backend not in _TILED or not settings.flash_attention:
        return {}
    extent = cells(model, settings)
    found: dict[str, int] = {}
    for layer in model.layers:
        if not layer.cached:
            continue
        widths = [width for kind, width in zip(kinds, (layer.k_width, layer.v_width), strict=True) if kind.type_id != 1]
        size = sum(widths) * extent.of(layer) * extent.streams * 2
        device = placement.layers[layer.index]
        if device == HOST:
            device = placement.gpus[0]
        found[device] = max(found.get(device, 0), size)
    return found


def _shard(header: Header) -> int:
    """A header's place in its split set."""
    return header.split.index if header.split else 0


def _without_engine(footprint: DeviceFootprint | None) -> int:
    """Everything of a draft model on one device, without the engine, which runs once."""
    return 0 if footprint is None else footprint.total_bytes - footprint.overhead_bytes
