"""Whether a model fits a device: the verdict, the headroom, and a sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


def weights_verdict(file_bytes: int, memory_total_bytes: int | None) -> Verdict:
    """The verdict that the file's size alone allows: weights larger than the whole memory cannot be loaded.

    Smaller ones may still not fit, with their KV cache and compute buffers, so they are `unknown`.
    """
    if memory_total_bytes is None:
        return Verdict(VerdictKind.UNKNOWN, "the device does not say how much memory it has")
    headroom = memory_total_bytes - file_bytes
    sizes = f"{file_bytes / 1e9:.2f} GB of weights, {memory_total_bytes / 1e9:.2f} GB of memory"
    if headroom < 0:
        return Verdict(VerdictKind.TOO_BIG, f"the weights alone do not fit ({sizes})", headroom)
    return Verdict(VerdictKind.UNKNOWN, f"the weights fit ({sizes}); cache and buffers were not estimated", headroom)
