"""Counters held against what must be so: sampled memory against the log's buffers, energy, what holds clocks down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.doctor.findings import Finding
from runners.devicecheck import gpu_buffer_bytes

if TYPE_CHECKING:
    from profiles.samples import Samples
    from profiles.types import Device
    from runners.engines.base import Served

MIB: Final = 1 << 20
MOST_BESIDE_BYTES: Final = 1536 * MIB
"""What a driver and a backend take on a card beside the buffers of the log, at most, with room to spare: contexts of
450 to 700 MiB have been seen."""
POWER_SHARE: Final = 1.3
"""How far above its limit a card may draw for a moment."""
IDLE: Final = frozenset({"idle", "gpu-idle"})
_WRONG_CARD: Final = "another card is sampled than the one that computes: please report it, with the block below"


def judge_readings(
    about: str,
    device: Device,
    engine_device: str | None,
    served: Served,
    windows: tuple[Samples | None, Samples | None],
) -> list[Finding]:
    """What the samples of the load and of the answer say, held against the server's log."""
    load, answer = windows
    if load is None or answer is None:
        return [Finding("off", about, "its memory and energy were not sampled", "a driver hangs: restart the machine")]
    on_gpu = device.is_gpu and engine_device != "CPU"
    memory = _gpu_memory(about, served, load, answer) if on_gpu else _ram(about, served, load, answer)
    return [memory, _energy(about, device, answer), _throttling(about, answer)]


def _gpu_memory(about: str, served: Served, load: Samples, answer: Samples) -> Finding:
    buffers = gpu_buffer_bytes(served.buffers)
    peaks = [s.peak_vram_bytes for s in (load, answer) if s.peak_vram_bytes is not None]
    mapped = [s.peak_gtt_bytes for s in (load, answer) if s.peak_gtt_bytes is not None]
    if not peaks:
        why = answer.reasons.get("peak_vram_bytes", "no counter tells")
        return Finding("note", about, f"GPU memory is not measured: {why}")
    peak = max(peaks) + max(mapped, default=0)
    source = answer.sources.get("peak_vram_bytes") or load.sources.get("peak_vram_bytes") or "?"
    said = f"GPU memory {peak / MIB:.1f} MiB sampled ({source})"
    if buffers is None:
        return Finding("note", about, f"{said}; its log names no buffers to hold that against")
    said += f", {buffers / MIB:.1f} MiB of buffers in its log"
    if peak < 0.9 * buffers:
        return Finding("off", about, f"{said}: less than it allocated", _WRONG_CARD)
    if peak > buffers + MOST_BESIDE_BYTES:
        cure = "end what else uses the card: its figure counts everybody's memory"
        return Finding("off", about, f"{said}: far more than it allocated", cure)
    return Finding("ok", about, said)


def _ram(about: str, served: Served, load: Samples, answer: Samples) -> Finding:
    peaks = [s.peak_ram_bytes for s in (load, answer) if s.peak_ram_bytes is not None]
    if not peaks:
        why = answer.reasons.get("peak_ram_bytes", "no counter tells")
        return Finding("off", about, f"memory is not measured: {why}", "see whether /proc is mounted")
    said = f"memory {max(peaks) / MIB:.1f} MiB sampled ({answer.sources.get('peak_ram_bytes', '?')})"
    if served.buffers is None:
        return Finding("note", about, f"{said}; its log names no buffers to hold that against")
    # Weights that are mapped count as far as they were read; what was allocated must be there once it was written.
    of = served.buffers.model_bytes or {}
    read = sum(size for name, size in of.items() if name.endswith("Mapped"))
    total = sum(served.buffers.total_bytes().values())
    said += f", {total / MIB:.1f} MiB of buffers in its log"
    if max(peaks) < 0.5 * (total - read):
        return Finding("off", about, f"{said}: less than it allocated", "please report it, with the block below")
    return Finding("ok", about, said)


def _energy(about: str, device: Device, answer: Samples) -> Finding:
    if answer.energy_j is None:
        return Finding("note", about, f"energy is not measured: {answer.reasons.get('energy_j', 'no counter tells')}")
    watts = answer.mean_power_w or 0.0
    said = f"energy {answer.energy_j:.1f} J, {watts:.0f} W ({answer.sources.get('energy_j', '?')})"
    if answer.energy_j <= 0:
        return Finding("off", about, f"{said}: a device that computes takes some", _WRONG_CARD)
    if device.power_limit_w is not None and watts > POWER_SHARE * device.power_limit_w:
        return Finding("off", about, f"{said}: above its limit of {device.power_limit_w:.0f} W", _WRONG_CARD)
    return Finding("ok", about, said)


def _throttling(about: str, answer: Samples) -> Finding:
    if answer.throttle_reasons is None:
        why = answer.reasons.get("throttle_reasons", "no counter tells")
        return Finding("note", about, f"what holds the clocks down is not known: {why}")
    held = [reason for reason in answer.throttle_reasons if reason not in IDLE]
    if held:
        cure = "look at cooling, power limit and supply"
        return Finding("note", about, f"its clocks were held down meanwhile: {', '.join(held)}", cure)
    return Finding("ok", about, "nothing held its clocks down")
