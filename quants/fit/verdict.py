"""Whether a model fits a device: the verdict, the headroom, a sentence, and what would have to change for it to fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from quants.fit.amounts import amounts
from quants.footprint import Backend, Estimator, Footprint, FootprintSettings

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST: Final = 1 << 24  # tokens: where a search for the largest context ends if nothing else ends it
_STEP: Final = 256  # tokens: the engine rounds a context up to a multiple


class VerdictKind(StrEnum):
    """What is known about a model on a device."""

    FITS = "fits"
    FITS_OFFLOADED = "fits_offloaded"
    TOO_BIG = "too_big"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict for one device. `headroom_bytes` is what stays free (negative: what is missing), None if unknown."""

    kind: VerdictKind
    reason: str
    headroom_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of one device, in bytes.

    Attributes:
        total_bytes: all of it; None if the device does not say.
        free_bytes: what nobody uses at present; None if it is not known or not asked about.
        name: how to call it in sentences.
    """

    total_bytes: int | None
    free_bytes: int | None = None
    name: str = "the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet:
    """The memory that one engine may use.

    Attributes:
        host: the machine's own memory. With unified memory (Apple, integrated GPUs) it is the GPU's too.
        gpus: of the GPUs, in the order of the engine's devices.
        unified: GPUs share `host`; `gpus` then only says how much of it they may take.
    """

    host: Memory
    gpus: tuple[Memory, ...] = ()
    unified: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the two answers to "does it fit".

    Attributes:
        kind: fits or not.
        headroom_bytes: the least that any device has left (negative: what is missing); None if unknown.
        device: which device that is.
        needed_bytes: what has to be free there; None if unknown.
        memory_bytes: what there is, so that `headroom_bytes` is this less `needed_bytes`; None if unknown.
    """

    kind: VerdictKind
    headroom_bytes: int | None
    device: str
    needed_bytes: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FitReport:
    """Whether it fits now, and whether it fits the machine at all.

    Attributes:
        verdict: with what is free at present where that is known, else with all there is.
        now: with free memory; kind unknown where that is not known.
        ever: with all memory, as if nothing else ran.
    """

    verdict: Verdict
    now: Answer
    ever: Answer

    @property
    def chosen(self) -> Answer:
        """The answer that the verdict follows."""
        return _chosen(self.now, self.ever)


@dataclass(frozen=True, slots=True)
class Offload:
    """The placement that makes a model fit.

    Attributes:
        settings: with `gpu_layers` or `cpu_moe_layers` set.
        footprint: under them.
        layers_on_gpu: of `layers`, the output layer counted as one.
        layers: of the model.
        expert_layers_on_host: whose experts lie in host memory.
        host_bytes: what it costs in host memory beyond what full offload needs there.
        command: the flags that llama-server wants for it.
    """

    settings: FootprintSettings
    footprint: Footprint
    layers_on_gpu: int
    layers: int
    expert_layers_on_host: int
    host_bytes: int
    command: str


def weights_verdict(file_bytes: int, memory_total_bytes: int | None) -> Verdict:
    """The verdict that the file's size alone allows: weights larger than the whole memory cannot be loaded.

    Smaller ones may still not fit, with their KV cache and compute buffers, so they are `unknown`.
    """
    if memory_total_bytes is None:
        return Verdict(VerdictKind.UNKNOWN, "the device does not say how much memory it has")
    headroom = memory_total_bytes - file_bytes
    _, weights, memory = amounts(headroom, file_bytes, memory_total_bytes)
    sizes = f"{weights} of weights, {memory} of memory"
    if headroom < 0:
        return Verdict(VerdictKind.TOO_BIG, f"the weights alone do not fit ({sizes})", headroom)
    return Verdict(VerdictKind.UNKNOWN, f"the weights fit ({sizes}); cache and buffers were not estimated", headroom)


def verdict(footprint: Footprint, devices: DeviceSet) -> Verdict:
    """Whether that footprint fits those devices: by free memory where it is known, else by all there is.

    "Fits" leaves room for what the engine and its driver take and for the uncertainty of the estimate, as a load that
    fails after a download is worse than a model that was passed over.
    """
    return report(footprint, devices).verdict


def report(footprint: Footprint, devices: DeviceSet) -> FitReport:
    """Both answers, and the verdict with its sentence."""
    if not footprint.known:
        reason = f"cannot be estimated: {footprint.reason}" if footprint.reason else "cannot be estimated"
        unknown = Answer(VerdictKind.UNKNOWN, None, "")
        return FitReport(Verdict(VerdictKind.UNKNOWN, reason), unknown, unknown)
    now = _answer(footprint, devices, lambda memory: _free(memory, devices))
    ever = _answer(footprint, devices, lambda memory: memory.total_bytes)
    chosen = _chosen(now, ever)
    return FitReport(Verdict(chosen.kind, _sentence(footprint, devices, now, ever), chosen.headroom_bytes), now, ever)


def largest_context(estimator: Estimator, settings: FootprintSettings, devices: DeviceSet) -> int | None:
    """The most tokens of context for each slot that fit, at most what the model was trained on; None: none do.

    A multiple of 256 (or the trained context itself), as the engine rounds up anyway.
    """

    def fits(steps: int) -> bool:
        return _fits(estimator(replace(settings, context=steps * _STEP)), devices)

    model = estimator.model
    if model is None:
        return None
    limit = model.trained_context or _LONGEST
    steps = _most(fits, max(limit // _STEP, 1))
    return None if steps is None else min(steps * _STEP, limit)


def cheapest_offload(estimator: Estimator, settings: FootprintSettings, devices: DeviceSet) -> Offload | None:
    """The offload with the least in host memory that fits, experts first; None if none does (or all fits on GPUs).

    Experts are moved before whole layers: each token reads only a few of them, so they cost the least speed there.
    """
    model = estimator.model
    if model is None or not settings.gpus or not devices.gpus:
        return None
    full = replace(settings, gpu_layers=None, cpu_moe_layers=0)
    whole = estimator(full)
    if _fits(whole, devices):
        return None
    layers = len(model.layers)
    moved: FootprintSettings | None = None
    base = full
    if any(model.experts_used):
        count = _least(lambda n: _fits(estimator(replace(full, cpu_moe_layers=n)), devices), layers)
        moved = None if count is None else replace(full, cpu_moe_layers=count)
        base = replace(full, cpu_moe_layers=layers)
    if moved is None:
        kept = _most(lambda n: _fits(estimator(replace(base, gpu_layers=n)), devices), layers)
        if kept is None:
            return None
        moved = replace(base, gpu_layers=kept)
    found = estimator(moved)
    on_gpu = layers + 1 if moved.gpu_layers is None else moved.gpu_layers
    flags = f"-ngl {on_gpu}" + (f" --n-cpu-moe {moved.cpu_moe_layers}" if moved.cpu_moe_layers else "")
    cost = found.host.total_bytes - whole.host.total_bytes
    return Offload(moved, found, on_gpu, layers + 1, moved.cpu_moe_layers, cost, flags)


def _free(memory: Memory, devices: DeviceSet) -> int | None:
    """What is free; for a host beside GPUs that does not say, all it has."""
    if memory.free_bytes is None and memory is devices.host and devices.gpus and not devices.unified:
        return memory.total_bytes
    return memory.free_bytes


def _answer(footprint: Footprint, devices: DeviceSet, room: Callable[[Memory], int | None]) -> Answer:
    """Whether every part of the footprint has room."""
    needs = [(devices.host, footprint.host.safe_bytes)]
    parts = footprint.gpus
    if devices.unified and parts:
        needs = [(devices.host, footprint.host.safe_bytes + sum(part.safe_bytes for part in parts))]
    if len(parts) > len(devices.gpus) and not devices.unified:
        return Answer(VerdictKind.TOO_BIG, None, f"{len(parts)} GPUs")
    needs += list(zip(devices.gpus, (part.safe_bytes for part in parts), strict=False))
    rooms: list[tuple[int, int, int, str]] = []  # left, needed, there, whose
    for memory, needed in needs:
        available = room(memory)
        if available is not None:
            rooms.append((available - needed, needed, available, memory.name))
        elif memory is not devices.host and devices.unified:
            continue  # the host's answer covers it
        elif memory is not devices.host or not parts:
            return Answer(VerdictKind.UNKNOWN, None, memory.name)
    if not rooms:
        return Answer(VerdictKind.UNKNOWN, None, devices.host.name)
    least, needed, there, name = min(rooms, key=lambda each: each[0])
    if least < 0:
        return Answer(VerdictKind.TOO_BIG, least, name, needed, there)
    if parts:
        # What counts for the next model or a longer context is what the GPUs have left, not the host.
        least, needed, there, name = min(rooms[0 if devices.unified else -len(parts) :], key=lambda each: each[0])
    kind = VerdictKind.FITS_OFFLOADED if _offloaded(footprint) else VerdictKind.FITS
    return Answer(kind, least, name, needed, there)


def _chosen(now: Answer, ever: Answer) -> Answer:
    return now if now.kind is not VerdictKind.UNKNOWN else ever


def _offloaded(footprint: Footprint) -> bool:
    """Whether GPUs are used and part of the model is computed from host memory nevertheless."""
    settings = footprint.settings
    if settings.backend is Backend.CPU:
        return False
    fewer = settings.gpu_layers is not None and settings.gpu_layers < footprint.layers
    return fewer or settings.cpu_moe_layers > 0 or not settings.kv_on_gpu


def _fits(footprint: Footprint, devices: DeviceSet) -> bool:
    return verdict(footprint, devices).kind in {VerdictKind.FITS, VerdictKind.FITS_OFFLOADED}


def _sentence(footprint: Footprint, devices: DeviceSet, now: Answer, ever: Answer) -> str:
    """What is needed on the device that decides, what that has, and what stays free there or is missing."""
    chosen = _chosen(now, ever)
    if chosen.kind is VerdictKind.UNKNOWN:
        return f"{chosen.device} does not say how much memory it has"
    if chosen.headroom_bytes is None or chosen.needed_bytes is None or chosen.memory_bytes is None:
        return f"the estimate is for {chosen.device}, more than there are"
    left, needed, there = amounts(chosen.headroom_bytes, chosen.needed_bytes, chosen.memory_bytes)
    several = len(footprint.gpus) > 1 and chosen.device in {memory.name for memory in devices.gpus}
    where = f"{chosen.device}, the fullest of {len(footprint.gpus)}" if several else chosen.device
    need = f"needs {needed} of {where}, which has {there} {'free' if chosen is now else 'to use'}"
    if chosen.kind is VerdictKind.TOO_BIG:
        text = f"{need}: {left} are missing"
        if chosen is now and ever.kind in {VerdictKind.FITS, VerdictKind.FITS_OFFLOADED}:
            text += ", though it would fit if nothing else used it"
        return text
    what = "fits with part of it in host memory" if chosen.kind is VerdictKind.FITS_OFFLOADED else "fits"
    return f"{what}: {need}, so that {left} stay free"


def _most(fits: Callable[[int], bool], limit: int) -> int | None:
    """The largest number from 1 to `limit` that fits, if larger ones need more; None if 1 does not."""
    if not fits(1):
        return None
    low, high = 1, limit + 1  # `low` fits; `high` does not, or is out of bounds
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _least(fits: Callable[[int], bool], limit: int) -> int | None:
    """The smallest number from 1 to `limit` that fits, if larger ones need less; None if `limit` does not."""
    if not fits(limit):
        return None
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high
