"""When the bandwidth of a CPU is measured, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quants.models import FileModel
from runners import bandwidth
from runners.bandwidth import with_bandwidth
from runners.ceiling import decode_ceiling_tps
from tests.runners.test_ceiling import CARD, GB, cell

CPU = replace(CARD, engine_device="CPU", backend="cpu", bandwidth_bytes_per_s=None)
LARGE = cell(token_bytes=10 * GB)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Counts measurements: 40 GB/s, each."""
    found: list[float] = []

    def measure() -> float:
        found.append(40.0 * GB)
        return found[-1]

    monkeypatch.setattr(bandwidth, "_known", [])
    monkeypatch.setattr(bandwidth, "_measure", measure)
    return found


def test_a_large_model_on_a_cpu_has_a_ceiling_by_what_was_measured_once(measured: list[float]) -> None:
    for _ in range(2):
        place = with_bandwidth(LARGE, CPU, alone=True)
        assert decode_ceiling_tps(replace(LARGE), place, 10) == pytest.approx(4.0)
    assert len(measured) == 1
    assert with_bandwidth(LARGE, CPU, alone=False).bandwidth_bytes_per_s == 40 * GB  # as it is known


def test_nothing_is_measured_where_it_decides_nothing_or_would_disturb(measured: list[float]) -> None:
    model = LARGE.model
    assert isinstance(model, FileModel)
    unread = replace(LARGE, model=replace(model, facts=None))
    for one, place, alone in (
        (LARGE, CARD, True),
        (LARGE, replace(CPU, bandwidth_bytes_per_s=1.0), True),
        (cell(token_bytes=2_000_000), CPU, True),
        (unread, CPU, True),
        (LARGE, CPU, False),
    ):
        assert with_bandwidth(one, place, alone=alone) == place
    assert measured == []


def test_a_busy_machine_has_no_figure_and_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([None, 30.0 * GB])
    monkeypatch.setattr(bandwidth, "_known", [])
    monkeypatch.setattr(bandwidth, "_measure", lambda: next(said))
    assert with_bandwidth(LARGE, CPU, alone=True) == CPU
    assert with_bandwidth(LARGE, CPU, alone=True).bandwidth_bytes_per_s == 30 * GB


def test_the_machine_is_really_measured_or_says_nothing() -> None:
    found = bandwidth._measure()
    assert found is None or 1e8 < found < 1e13
