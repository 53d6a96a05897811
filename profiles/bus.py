"""The memory bus as a limit: how fast a model can decode at most, and which rates are therefore impossible.

Decoding a token reads every weight that takes part in it, and the KV cache as far as it is filled, once (roofline
model: Williams, Waterman, Patterson 2009; decoding one sequence is bound by memory). This is the one place of the rule:
rows, tables, comparisons and published reports all ask here.
"""

from __future__ import annotations

from typing import Final

SLACK: Final = 1.05
"""A rate so far above the ceiling is impossible: bandwidths are what makers say, and clocks are not exact."""


def ceiling_tps(bandwidth_bytes_per_s: float, token_bytes: float) -> float:
    """The highest decode rate, in tokens a second, where a token reads so many bytes."""
    return bandwidth_bytes_per_s / token_bytes


def is_impossible(tps: float, ceiling: float) -> bool:
    """Whether a decode rate is further above its ceiling (both in tokens a second) than the figures may be wrong."""
    return tps > SLACK * ceiling


def utilisation(tps: float | None, ceiling: float | None) -> float | None:
    """The share of the ceiling that a decode rate has; None where one of them is not known."""
    return None if tps is None or not ceiling else tps / ceiling
