"""How fast a CPU reads its memory, for the ceiling of decode rates: no table knows which modules were put in.

It is measured where it matters, before a model is loaded that is larger than the caches: the device's lock is held then
and nothing of ours is being timed. Takes up to half a second of every core, once for each agent.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from quants.models import FileModel
from runners.bounded import HungError, within
from runners.ceiling import CACHES_BYTES

if TYPE_CHECKING:
    from runners.orders import Place
    from runners.work import Cell

MEASURE_S: Final = 10.0
"""A machine that takes so long has no figure."""

_one_at_a_time = threading.Lock()
_known: list[float] = []


def with_bandwidth(cell: Cell, place: Place, *, alone: bool) -> Place:
    """`place` with the bandwidth of the CPU, where it is the one that serves, and its bandwidth decides anything.

    `alone`: nothing else of ours runs on the node. A figure that could not be had now is tried at the next lease.
    """
    model = cell.model
    if place.backend != "cpu" or place.bandwidth_bytes_per_s is not None or not isinstance(model, FileModel):
        return place
    if model.facts is None or model.facts.token_bytes < CACHES_BYTES:
        return place  # there will be no ceiling, whatever the bandwidth
    with _one_at_a_time:
        if not _known and alone and (found := _measure()) is not None:
            _known.append(found)
        return replace(place, bandwidth_bytes_per_s=_known[0]) if _known else place


def _measure() -> float | None:
    from profiles.probe import host
    from profiles.probe.bandwidth import measure_read_bandwidth
    from profiles.probe.system import System

    def measure() -> float | None:
        system = System()
        cores, free_bytes = host.processor(system).usable, host.memory(system).free_bytes
        return measure_read_bandwidth(system, cores=cores, free_bytes=free_bytes)

    try:
        return within(MEASURE_S, "measuring the memory's bandwidth", measure)
    except (HungError, OSError):
        return None
