"""Which cell goes to which device next, and why not where: pure functions over what the driver knows.

The rule is list scheduling for unrelated machines: most constrained cell first, then longest, each to the slot
that would finish it earliest, busy slots included. No polynomial rule is known that does better than 3/2 of the
optimum (Lenstra, Shmoys, Tardos 1990), and at the size of a homelab the greedy rule is as good in practice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quants.fit import Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SlotId = tuple[str, str]
"""Node id and device id."""

ASSUMED_BANDWIDTH = 40e9
"""Bytes per second of a device that does not say: dual-channel DDR4. Only ratios between slots matter."""
ASSUMED_LOAD_BANDWIDTH = 1e9
"""Bytes per second from disk to device while a model loads."""
ASSUMED_TOKENS = 1000
"""Tokens of an answer, before any was seen."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A device that serves one model at a time. `busy_s` is the estimated time until it is free, 0 when it is."""

    slot_id: SlotId
    hostname: str
    hardware_class: str
    bandwidth_bytes_per_s: float | None = None
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """A cell that waits for a slot.

    `job_s` is the measured mean time of its jobs so far, `hardware_class` the class its earlier rows came from,
    `verdicts` say for each slot whether the model fits there.
    """

    cell_id: str
    jobs: int
    file_bytes: int
    verdicts: Mapping[SlotId, Verdict]
    hardware_class: str | None = None
    job_s: float | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """`cell_id` is to be loaded on `slot_id` now."""

    cell_id: str
    slot_id: SlotId


def why_not(need: Need, slot: Slot) -> str | None:
    """The sentence that says why `slot` cannot serve the cell, or None when it can."""
    verdict = need.verdicts.get(slot.slot_id)
    if verdict is None:
        return f"{slot.hostname}/{slot.slot_id[1]}: the engine is not there"
    if verdict.kind is VerdictKind.TOO_BIG:
        return f"{slot.hostname}/{slot.slot_id[1]}: {verdict.reason}"
    return None


def estimate_s(need: Need, slot: Slot) -> float:
    """Seconds to load the cell on `slot` and run its jobs: decoding reads the weights once a token."""
    return need.file_bytes / ASSUMED_LOAD_BANDWIDTH + need.jobs * job_estimate_s(need.job_s, need.file_bytes, slot)


def job_estimate_s(measured_s: float | None, file_bytes: int, slot: Slot) -> float:
    """Seconds for one job: as measured, else for an assumed answer whose every token reads the weights once."""
    if measured_s is not None:
        return measured_s
    return ASSUMED_TOKENS * file_bytes / (slot.bandwidth_bytes_per_s or ASSUMED_BANDWIDTH)


def candidates(need: Need, slots: Sequence[Slot]) -> list[Slot]:
    """The slots that may serve the cell.

    Those of the hardware class that its earlier rows came from, as long as there is one; a cell whose class is
    gone moves, which is better than never finishing, and its rows show the class they were measured on.
    """
    able = [slot for slot in slots if why_not(need, slot) is None]
    same = [slot for slot in able if slot.hardware_class == need.hardware_class]
    return same if need.hardware_class is not None and same else able


def choose(needs: Sequence[Need], slots: Sequence[Slot]) -> list[Assignment]:
    """What to load now on the slots that are free.

    A cell whose earliest finish is on a busy slot waits for it; the time it will take there counts for the cells
    that come after it.
    """
    options = {need.cell_id: candidates(need, slots) for need in needs}
    free_at = {slot.slot_id: slot.busy_s for slot in slots}

    def urgency(need: Need) -> tuple[int, float, str]:
        able = options[need.cell_id]
        return len(able), -min(estimate_s(need, slot) for slot in able), need.cell_id

    chosen = []
    for need in sorted((need for need in needs if options[need.cell_id]), key=urgency):
        best = min(
            options[need.cell_id],
            key=lambda slot: (free_at[slot.slot_id] + estimate_s(need, slot), slot.slot_id),
        )
        if free_at[best.slot_id] == 0:
            chosen.append(Assignment(need.cell_id, best.slot_id))
        free_at[best.slot_id] += max(estimate_s(need, best), 1e-9)
    return chosen


def worth_splitting(*, waiting: int, leases: int, job_s: float | None, load_s: float | None) -> bool:
    """Whether one more server for a cell that is being served saves more time than loading it costs.

    `waiting` jobs shared by `leases + 1` instead of `leases` servers end `waiting x job_s / (leases (leases + 1))`
    earlier. Unknown times mean no: a guess must not load 30 GB.
    """
    if job_s is None or load_s is None or waiting <= leases:
        return False
    return waiting * job_s / (leases * (leases + 1)) > load_s
