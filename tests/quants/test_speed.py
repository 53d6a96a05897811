"""Predicted rates: what they say before any row, and what rows of the same hardware change."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.catalogue import find_card
from quants.speed.conditioning import Known
from quants.speed.history import published
from quants.speed.observation import Hardware, Load, Observation, hardware_of_card
from quants.speed.predictor import Predictor, Rate

CARD = hardware_of_card(find_card("rtx-3080-ti"))
UNKNOWN = Hardware("other-8g-01234567", "other")


def load(ideal_ms: float = 10.0, *, bits: float = 4.8, hardware: Hardware = CARD, quant: str = "Q4_K_M") -> Load:
    return Load(ideal_ms / 1e3, bits, False, quant, hardware)


def width(rate: Rate) -> float:
    return math.log(rate.high / rate.low)


def test_every_published_rate_is_possible_and_of_a_card_that_is_known() -> None:
    assert len(published()) > 80
    for each in published():
        assert each.decode_tps * each.load.ideal_s <= 1.05


def test_cards_that_were_left_out_are_predicted_within_a_tenth_after_one_row() -> None:
    """In the median; `python -m tests.bench.bench_predict` has all figures."""
    known = published()
    errors = []
    for asked in known[::4]:
        key = asked.load.hardware.key
        others = [each for each in known if each.load.hardware.key != key and each.series != asked.series]
        local = [e for e in known if e.load.hardware.key == key and e.series == asked.series and e is not asked]
        if local:
            rate = Predictor(others, [local[0]]).decode(asked.load)
            errors.append(abs(rate.tps / asked.decode_tps - 1))
    assert len(errors) > 15
    assert median(errors) < 0.10


def test_rows_of_the_same_hardware_narrow_the_interval_and_others_hardly_do() -> None:
    here = [Observation(load(10.0 * factor, hardware=UNKNOWN), 40.0 / factor, None, "run") for factor in (1, 2, 3)]
    widths = [width(Predictor(published(), here[:number]).decode(load(15, hardware=UNKNOWN))) for number in range(4)]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] < 0.6 * widths[0]
    elsewhere = [replace(each, load=replace(each.load, hardware=CARD)) for each in here]
    assert width(Predictor(published(), elsewhere).decode(load(15, hardware=UNKNOWN))) > 0.6 * widths[0]


def test_a_local_row_counts_as_much_as_its_distance_says() -> None:
    slow = Observation(load(10.0, hardware=UNKNOWN), 40.0, 200.0, "run")  # 40% of the bus
    found = Predictor(published(), [slow]).decode(load(10.0, hardware=UNKNOWN))
    assert found.tps == pytest.approx(40, rel=0.1)
    assert found.local == 1
    assert Predictor(published(), [slow]).prefill(load(10.0, hardware=UNKNOWN)).tps == pytest.approx(200, rel=0.4)
    assert Predictor(published()).decode(load(10.0, hardware=UNKNOWN)).local == 0


def test_no_rate_above_what_the_bus_allows_is_predicted() -> None:
    fast = [Observation(load(10.0, hardware=UNKNOWN), 104.0, None, "run")] * 3
    found = Predictor(published(), fast).decode(load(50.0, hardware=UNKNOWN))
    assert found.high <= 1.05 * 20 + 1e-9
    assert found.low <= found.tps <= found.high


def test_a_part_in_host_memory_is_known_less_well() -> None:
    predictor = Predictor(published())
    assert width(predictor.decode(replace(load(), split=True))) > width(predictor.decode(load()))


@settings(deadline=None)
@given(
    ideal=st.floats(1e-5, 10.0),
    bits=st.floats(1.5, 32.0),
    moe=st.booleans(),
    family=st.sampled_from(["nvidia", "apple", "cpu", "amd discrete", "other"]),
    share=st.floats(0.01, 1.05),
)
def test_any_load_has_a_finite_rate_in_its_interval(
    ideal: float, bits: float, moe: bool, family: str, share: float
) -> None:
    asked = Load(ideal, bits, moe, "Q", Hardware("x", family))
    local = Observation(replace(asked, quant="R"), share / ideal, 1.0, "run")
    for rate in (PLAIN.decode(asked), PLAIN.prefill(asked), Predictor(published()[:10], [local]).decode(asked)):
        assert 0 < rate.low <= rate.tps <= rate.high < math.inf


PLAIN = Predictor(published())


def test_conditioning_agrees_with_two_variables_by_hand() -> None:
    mean, variance = Known([[4.0]], [2.0]).about([2.0], 9.0)
    assert mean == pytest.approx(1.0)
    assert variance == pytest.approx(8.0)


def test_conditioning_agrees_with_the_inverse_of_a_matrix() -> None:
    numpy = pytest.importorskip("numpy")
    rng = random.Random(3)
    roots = [[rng.gauss(0, 1) for _ in range(6)] for _ in range(6)]
    full = numpy.array(roots) @ numpy.array(roots).T + numpy.eye(6)
    values, cross = [rng.gauss(0, 1) for _ in range(5)], full[5, :5]
    mean, variance = Known([list(full[i, : i + 1]) for i in range(5)], values).about(list(cross), full[5, 5])
    solved = numpy.linalg.solve(full[:5, :5], cross)
    assert mean == pytest.approx(float(solved @ values))
    assert variance == pytest.approx(float(full[5, 5] - solved @ cross))
