"""Whether a slot can serve a cell, and when a second one pays: pure functions over what the driver knows.

Which cell goes where next is `orchestrator.schedule`'s: list scheduling for unrelated machines, most constrained cell
first, then longest, each to the slot that would finish it earliest, busy slots included. No polynomial rule is known
that does better than 3/2 of the optimum (Lenstra, Shmoys, Tardos 1990), and at the size of a homelab the greedy rule
is as good in practice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quants.fit.verdict import VerdictKind

if TYPE_CHECKING:
    from quants.fit.verdict import Verdict

SlotId = tuple[str, str]
"""Node id and place id."""

ASSUMED_BANDWIDTH = 40e9
"""Bytes per second of a device that does not say: dual-channel DDR4. Only ratios between slots matter."""
ASSUMED_LOAD_BANDWIDTH = 1e9
"""Bytes per second from disk to device while a model loads."""
ASSUMED_TOKENS = 1000
"""Tokens of an answer, before any was seen: decoding reads the weights once a token."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that serves one model at a time: a device, or several devices together.

    `devices` are their ids; where it is empty, the place is a device of the same id. Places that have a device in
    common cannot be used at once. `elsewhere`: it is a place in line at an endpoint, whose capacity is that of its
    provider: on whichever node, it is the same place, and is used by one at a time.
    """

    slot_id: SlotId
    hostname: str
    hardware_class: str
    bandwidth_bytes_per_s: float | None = None
    devices: tuple[str, ...] = ()
    elsewhere: bool = False

    def is_rival_of(self, other: Slot) -> bool:
        """Whether only one of both can be used at a time."""
        if self.elsewhere or other.elsewhere:
            return self.elsewhere and other.elsewhere and self.slot_id[1] == other.slot_id[1]
        if self.slot_id[0] != other.slot_id[0]:
            return False
        ours, theirs = self.devices or self.slot_id[1:], other.devices or other.slot_id[1:]
        return not set(ours).isdisjoint(theirs)


def whose_doing(hostname: str, place_id: str) -> tuple[str, str]:
    """The host name and the id by which failures on a place are remembered.

    Places in line at an endpoint have one between them, the provider's name: the same server answers in all of them.
    """
    return hostname, place_id.rpartition("#")[0] or place_id


def why_not(verdict: Verdict | None, slot: Slot) -> str | None:
    """The sentence that says why `slot` cannot serve a cell, or None when it can.

    `verdict` is None where the cell's engine is not on the slot's node, or computes on another device of it.
    """
    if verdict is None:
        return f"{slot.hostname}/{slot.slot_id[1]}: its engine does not use this device"
    if verdict.kind is VerdictKind.TOO_BIG:
        return f"{slot.hostname}/{slot.slot_id[1]}: {verdict.reason}"
    return None


def worth_splitting(*, waiting: int, leases: int, job_s: float | None, load_s: float | None) -> bool:
    """Whether one more server for a cell that is being served saves more time than loading it costs.

    `waiting` jobs shared by `leases + 1` instead of `leases` servers end `waiting x job_s / (leases (leases + 1))`
    earlier. Unknown times mean no: a guess must not load 30 GB.
    """
    if job_s is None or load_s is None or waiting <= leases:
        return False
    return waiting * job_s / (leases * (leases + 1)) > load_s
