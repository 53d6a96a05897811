"""What the sampler found in one window of a server's life: peaks, energy, the machine's state, with their sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from profiles.types import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

Phase = Literal["load", "prefill", "decode", "idle"]
"""What the server is doing; load and prefill are sampled every 35 ms, decode and idle more slowly."""


@dataclass(frozen=True, slots=True)
class Samples(Record):
    """The figures of one window (a load, or one job).

    Every figure is either a value with its origin in ``sources[name]`` or None with the cause in ``reasons[name]``;
    ``name`` is the attribute's. Bytes of a tree are sums over the server's process and all of its descendants.

    ``peak_ram_bytes``: the tree's proportional share of RAM (Pss_Anon + Pss_File + Pss_Shmem), or its RSS where the
    kernel has no smaps_rollup; the source says which. ``peak_pss_anon_bytes`` and ``peak_pss_file_bytes`` are their
    own peaks, so their sum may exceed ``peak_ram_bytes``; ``peak_rss_bytes`` counts shared pages in full.
    ``peak_vram_bytes``: sum over the devices of each device's peak.
    ``idle_power_w``: what the devices drew before the server was launched; energy is not reduced by it.
    ``foreign_cpu_share``: of the CPU time that the machine had, all its CPUs together, what others than the server's
    tree and this process took, 0 to 1.
    ``clock_*_hz``: means; ``temperature_c``: the hottest reading; ``throttle_reasons``: every cause seen, ``()`` for
    none.
    """

    duration_s: float
    samples: int
    peak_ram_bytes: int | None = None
    peak_pss_anon_bytes: int | None = None
    peak_pss_file_bytes: int | None = None
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    peak_gtt_bytes: int | None = None
    energy_j: float | None = None
    mean_power_w: float | None = None
    idle_power_w: float | None = None
    clock_core_hz: float | None = None
    clock_memory_hz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    foreign_cpu_share: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    # Seconds of CPU that the sampler itself spent in this window.
    overhead_cpu_s: float = 0.0
