"""Rates before they are measured: what the memory bus allows, less what measured rates say is lost.

A token takes longer than the bus needs for it (`Load.ideal_s`) by a factor that is taken to be

    loss = reading + launches / ideal + weights / bits + experts

reading: the bus is never used whole; launches: a time of its own for each token, which counts where the model is small
and the bus fast; weights: computing with each weight, which counts where weights have few bits; experts: choosing them.
Each coefficient has an expectation, and deviates from it by what all devices share, those of a family, and those of
one product. Rates of one series deviate together (build, way of measuring), and so do those of one quant on one
product. Given that, the loss of a model on a device is a Gaussian conditional (`quants.speed.conditioning`) on all
rates that are known: published ones and those measured here. So intervals narrow with rows of the same hardware, at
once and by so much as the sizes of the deviations say. These were set by hand, rounded, to what published rates show;
`python -m tests.bench.bench_predict` says how the predictions do on cards and reports that were left out.

Prefill is bound by computing: 2 FLOP for each weight that takes part in a token. The catalogue has no figure for that,
so what is learned is FLOP a byte of bandwidth, in logarithms, in the same way. Prompts of some hundred tokens are
meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from profiles.bus import SLACK
from quants.speed.conditioning import Known
from quants.speed.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quants.speed.observation import Load

DEPTH: Final = 1024
"""Tokens in the cache that rates are predicted for unless more is known: a prompt and half an answer."""
LEVEL: Final = 0.9
"""Of the intervals."""
_Z: Final = 1.645
_LEAST_LOSS: Final = 1 / SLACK
_HERE: Final = "measured by this tool"
"""The series of all local rates, and of those that are asked for."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A coefficient: its expectation, and how far it deviates for all devices, for a family and for a product (sd)."""

    expected: float
    everywhere: float
    family: float
    product: float


_TERMS: Final = (
    _Term(1.1, 0.1, 0.1, 0.1),  # reading
    _Term(0.9e-3, 0.5e-3, 1.0e-3, 0.5e-3),  # launches, in seconds
    _Term(0.96, 0.8, 0.96, 0.8),  # weights, in bits
    _Term(0.15, 0.15, 0.1, 0.15),  # experts
)
_SERIES: Final = 0.08
_QUANT: Final = 0.03
_NOISE: Final = 0.06
_MOE_NOISE: Final = 0.15
"""Shares of the loss. How many bytes experts are is known less well, and how they are computed differs by build."""
_SPLIT_NOISE: Final = 0.25
"""The same with a part in host memory: no published rate says how the two parts add up."""

_FLOP_PER_BYTE: Final = _Term(math.log(50), 0.4, 0.8, 0.4)
_PREFILL_SERIES: Final = 0.3
_PREFILL_NOISE: Final = 0.2
"""Logarithms."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A predicted rate in tokens a second, with an interval at LEVEL.

    Attributes:
        local: how many of the rates behind it are of the same hardware and were measured by this tool.
    """

    tps: float
    low: float
    high: float
    local: int


class Predictor:
    """Predicts rates from those that are known.

    Args:
        published: what others measured (`quants.speed.history`).
        local: what this tool measured.
    """

    def __init__(self, published: Sequence[Observation], local: Sequence[Observation] = ()) -> None:
        self._known = (*published, *(replace(each, series=_HERE) for each in local))
        self._measured = [each.load.hardware.key for each in local]
        self._prefilled = [each.load.hardware.key for each in local if each.prefill_tps is not None]

    def decode(self, load: Load) -> Rate:
        """The decode rate."""
        asked = Observation(load, 0.0, None, _HERE)
        deviation, variance = self._decoding.about([_together(asked, each) for each in self._known], _own(asked))
        loss = max(_expected(load) + deviation, _LEAST_LOSS)
        # The noise is a share of the loss, which may be far from what was expected of it.
        more = _noise(load) ** 2 * max(loss**2 - _expected(load) ** 2, 0.0)
        spread = _Z * math.sqrt(variance + more)
        losses = (loss, loss + spread, max(loss - spread, _LEAST_LOSS))
        tps, low, high = (1 / (each * load.ideal_s) for each in losses)
        return Rate(tps, low, high, self._measured.count(load.hardware.key))

    def prefill(self, load: Load) -> Rate:
        """The rate at which a prompt of some hundred tokens is read."""
        asked = Observation(load, 0.0, None, _HERE)
        known = [_together_in_prefill(asked, each) for each in self._known if each.prefill_tps is not None]
        deviation, variance = self._prefilling.about(known, _own_in_prefill(asked))
        value, spread = _FLOP_PER_BYTE.expected + deviation, _Z * math.sqrt(variance)
        tps, low, high = (
            math.exp(each) / _flop_per_byte(load, 1.0) for each in (value, value - spread, value + spread)
        )
        return Rate(tps, low, high, self._prefilled.count(load.hardware.key))

    @cached_property
    def _decoding(self) -> Known:
        losses = [1 / (each.decode_tps * each.load.ideal_s) for each in self._known]
        deviations = [loss - _expected(each.load) for loss, each in zip(losses, self._known, strict=True)]
        return Known(_covariance(self._known, _together, _own), deviations)

    @cached_property
    def _prefilling(self) -> Known:
        told = [(each, each.prefill_tps) for each in self._known if each.prefill_tps is not None]
        found = [math.log(_flop_per_byte(each.load, tps)) - _FLOP_PER_BYTE.expected for each, tps in told]
        return Known(_covariance([each for each, _ in told], _together_in_prefill, _own_in_prefill), found)


def _features(load: Load) -> tuple[float, ...]:
    return 1.0, 1 / load.ideal_s, 1 / load.bits_per_weight, float(load.moe)


def _expected(load: Load) -> float:
    """The loss where nothing is known."""
    return sum(term.expected * feature for term, feature in zip(_TERMS, _features(load), strict=True))


def _together(a: Observation, b: Observation) -> float:
    """How the losses of two rates vary together."""
    one, other = a.load, b.load
    scale = _expected(one) * _expected(other)
    pairs = zip(_TERMS, _features(one), _features(other), strict=True)
    found = sum(x * y * _shared(term, one, other) for term, x, y in pairs)
    found += _SERIES**2 * scale if a.series == b.series else 0.0
    return found + (_QUANT**2 * scale if one.hardware.key == other.hardware.key and one.quant == other.quant else 0.0)


def _own(each: Observation) -> float:
    """The variance of one, with what it shares with none."""
    measured = 1 / (each.decode_tps * each.load.ideal_s) if each.decode_tps else 0.0
    return _together(each, each) + (_noise(each.load) * max(measured, _expected(each.load))) ** 2


def _noise(load: Load) -> float:
    return _SPLIT_NOISE if load.split else _MOE_NOISE if load.moe else _NOISE


def _together_in_prefill(a: Observation, b: Observation) -> float:
    return _shared(_FLOP_PER_BYTE, a.load, b.load) + (_PREFILL_SERIES**2 if a.series == b.series else 0.0)


def _own_in_prefill(each: Observation) -> float:
    return _together_in_prefill(each, each) + _PREFILL_NOISE**2


def _shared(term: _Term, a: Load, b: Load) -> float:
    return (
        term.everywhere**2
        + (term.family**2 if a.hardware.family == b.hardware.family else 0.0)
        + (term.product**2 if a.hardware.key == b.hardware.key else 0.0)
    )


def _flop_per_byte(load: Load, prefill_tps: float) -> float:
    """FLOP a second of a prefill over bytes a second of the bus: weights cancel out but for their bits."""
    return 2 * prefill_tps * load.ideal_s * 8 / load.bits_per_weight


def _covariance(
    known: Sequence[Observation],
    together: Callable[[Observation, Observation], float],
    own: Callable[[Observation], float],
) -> list[list[float]]:
    """The lower triangle of the covariance of what is known."""
    return [[*(together(one, other) for other in known[:number]), own(one)] for number, one in enumerate(known)]
