"""What one cell takes less than another: bytes of file and memory, and how much faster it generates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from results.figures import size

if TYPE_CHECKING:
    from results.summary import QuantSummary

_WORTH_SAYING: Final = 0.02
"""Of memory or speed: less than this share is within what a measurement repeats to."""


@dataclass(frozen=True, slots=True)
class Saving:
    """One cell beside another; None where one of the two figures is not known.

    Attributes:
        file_bytes, ram_bytes, vram_bytes: What the other takes more.
        decode_ratio: Tokens a second, over the other's; None as well where the two were timed on different hardware, or
            where requests of one of them were disturbed.
    """

    file_bytes: int | None
    ram_bytes: int | None
    vram_bytes: int | None
    decode_ratio: float | None
    ram_share: float | None = None
    vram_share: float | None = None


def saving_of(one: QuantSummary, other: QuantSummary) -> Saving:
    """What `one` saves against `other`."""
    return Saving(
        _less(one.file_bytes, other.file_bytes),
        _less(one.peak_ram_bytes, other.peak_ram_bytes),
        _less(one.peak_vram_bytes, other.peak_vram_bytes),
        _ratio(one, other),
        _share(one.peak_ram_bytes, other.peak_ram_bytes),
        _share(one.peak_vram_bytes, other.peak_vram_bytes),
    )


def saving_text(saving: Saving, than: str) -> str:
    """` It saves ... against F16, and generates 1.8 times as fast.`, or nothing."""
    saved = [
        f"{size(count)} of {what}"
        for what, count, share in (
            ("file", saving.file_bytes, 1.0),
            ("VRAM", saving.vram_bytes, saving.vram_share),
            ("RAM", saving.ram_bytes, saving.ram_share),
        )
        if count is not None and count > 0 and (share or 0.0) >= _WORTH_SAYING
    ]
    said = [f"saves {_enumerated(saved)} against {than}"] if saved else []
    if saving.decode_ratio is not None and abs(saving.decode_ratio - 1) >= _WORTH_SAYING:
        said.append(f"generates {saving.decode_ratio:.2g} times as fast" + ("" if saved else f" as {than}"))
    return f" It {' and '.join(said)}." if said else ""


def _enumerated(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else other - one


def _share(one: int | None, other: int | None) -> float | None:
    return None if one is None or not other else (other - one) / other


def _ratio(one: QuantSummary, other: QuantSummary) -> float | None:
    ours, theirs = one.timings, other.timings
    comparable = ours.clean and theirs.clean and ours.hardware_classes == theirs.hardware_classes
    if not comparable or not ours.decode_tps or not theirs.decode_tps:
        return None
    return ours.decode_tps / theirs.decode_tps
