"""What a device tells while a model runs on it: memory often, state now and then, energy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of one device at one moment. ``tree_bytes`` is what the given processes hold, ``used_bytes`` everybody's.

    ``tree_refused`` says why the driver does not tell ``tree_bytes``. GTT is the machine's RAM mapped by the GPU.
    """

    tree_bytes: int | None = None
    used_bytes: int | None = None
    tree_gtt_bytes: int | None = None
    used_gtt_bytes: int | None = None
    tree_refused: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class GpuState:
    """Power, clocks, temperature and throttling of one device at one moment; ``refused`` says why a figure is None."""

    power_w: float | None = None
    energy_j: float | None = None
    clock_core_hz: float | None = None
    clock_memory_hz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    source: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


class GpuCounters(Protocol):
    """The counters of one device. Nothing here raises: what cannot be read is None with its reason."""

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """Memory now."""
        ...

    def state(self) -> GpuState:
        """Power, clocks, temperature now. ``energy_j`` is a counter: only differences mean anything."""
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...
