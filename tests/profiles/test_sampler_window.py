from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.counters.cputime import CpuReading, foreign_share, read_cpu
from profiles.counters.ram import ExactReading, RamReading
from profiles.counters.readings import GpuMemory, GpuState
from profiles.types import Device
from profiles.window import Baseline, Window

GPU = Device("gpu", "nvidia", "RTX", "discrete", memory_total_bytes=1000)
APU = Device("apu", "amd", "890M", "unified", memory_total_bytes=1000, gtt_total_bytes=800)
CPU = Device("cpu", "cpu", "EPYC", "cpu")


def window(*devices: Device, baseline: Baseline | None = None) -> Window:
    return Window(42, devices, baseline, 0.0)


def test_energy_is_the_difference_of_a_counter() -> None:
    watched = window(GPU, baseline=Baseline(power_w={"gpu": 20.0}))
    for now, joules in ((0.0, 100.0), (2.0, 900.0)):
        watched.gpu_state("gpu", now, GpuState(energy_j=joules, power_w=1.0, source="nvml"))
    samples = watched.samples(2.0)
    assert (samples.energy_j, samples.mean_power_w, samples.idle_power_w) == (800.0, 400.0, 20.0)
    assert samples.sources["energy_j"] == "nvml energy counter"


def test_without_a_counter_power_is_integrated_and_says_so() -> None:
    watched = window(GPU)
    for now, watts in ((0.0, 100.0), (1.0, 200.0), (3.0, 200.0)):
        watched.gpu_state("gpu", now, GpuState(power_w=watts, source="sysfs"))
    samples = watched.samples(3.0)
    assert samples.energy_j == 150.0 + 400.0
    assert samples.sources["energy_j"] == "sysfs power, integrated over 3 readings"
    assert samples.mean_power_w == pytest.approx(550 / 3)


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        ([], "too short"),
        ([(0.0, GpuState(energy_j=1.0))], "too short"),
        ([(0.0, GpuState(energy_j=1.0)), (0.2, GpuState(energy_j=2.0))], "shorter than 0.5 s"),
        ([(0.0, GpuState()), (2.0, GpuState(refused={"energy_j": "NVML: Not Supported"}))], "NVML: Not Supported"),
        ([(0.0, GpuState()), (2.0, GpuState())], "neither"),
    ],
)
def test_energy_that_cannot_be_had_is_none_with_its_reason(readings: list[tuple[float, GpuState]], reason: str) -> None:
    watched = window(GPU)
    for now, state in readings:
        watched.gpu_state("gpu", now, state)
    samples = watched.samples(2.0)
    assert samples.energy_j is None
    assert samples.mean_power_w is None
    assert reason in samples.reasons["energy_j"]


def test_a_counter_that_went_backwards_is_not_believed() -> None:
    watched = window(GPU)
    watched.gpu_state("gpu", 0.0, GpuState(energy_j=900.0, power_w=10.0, source="nvml"))
    watched.gpu_state("gpu", 2.0, GpuState(energy_j=5.0, power_w=10.0, source="nvml"))
    assert watched.samples(2.0).energy_j == 20.0


def test_an_apu_holds_a_model_in_gtt() -> None:
    watched = window(APU)
    watched.gpu_memory("apu", GpuMemory(tree_bytes=5, tree_gtt_bytes=700, source="drm fdinfo"))
    watched.gpu_memory("apu", GpuMemory(tree_bytes=4, tree_gtt_bytes=750, source="drm fdinfo"))
    samples = watched.samples(1.0)
    assert (samples.peak_vram_bytes, samples.peak_gtt_bytes) == (5, 750)


def test_a_card_maps_no_ram_that_is_worth_a_figure() -> None:
    watched = window(GPU)
    watched.gpu_memory("gpu", GpuMemory(tree_bytes=5, source="nvml"))
    samples = watched.samples(1.0)
    assert samples.peak_gtt_bytes is None
    assert samples.reasons["peak_gtt_bytes"]


def test_on_the_cpu_the_model_is_in_ram() -> None:
    watched = window(CPU)
    watched.ram(RamReading(700, 800))
    watched.exact(ExactReading(300, 400))
    watched.spike(50)
    samples = watched.samples(1.0)
    assert (samples.peak_ram_bytes, samples.peak_rss_bytes) == (750, 850)
    assert samples.sources["peak_ram_bytes"].endswith("VmHWM")
    assert "peak_ram_bytes" in samples.reasons["peak_vram_bytes"]


def test_the_next_window_keeps_the_last_proportional_share_and_nothing_else() -> None:
    watched = window(CPU)
    watched.ram(RamReading(900, 900))
    watched.exact(ExactReading(300, 400))
    following = watched.successor(5.0)
    following.ram(RamReading(700, 700))
    samples = following.samples(6.0)
    assert samples.duration_s == 1.0
    assert (samples.peak_ram_bytes, samples.peak_pss_file_bytes) == (700, 400)


def test_throttling_and_heat_of_the_whole_window() -> None:
    watched = window(GPU)
    watched.gpu_state("gpu", 0.0, GpuState(temperature_c=50, throttle_reasons=(), clock_core_hz=2e9, source="nvml"))
    watched.gpu_state("gpu", 1.0, GpuState(temperature_c=83, throttle_reasons=("thermal",), clock_core_hz=1e9))
    samples = watched.samples(1.0)
    assert (samples.temperature_c, samples.throttle_reasons, samples.clock_core_hz) == (83, ("thermal",), 1.5e9)


figures = st.none() | st.floats(0, 1e6)
states = st.builds(GpuState, power_w=figures, energy_j=figures, temperature_c=figures, clock_core_hz=figures)
memories = st.builds(
    GpuMemory, tree_bytes=st.none() | st.integers(0, 2000), used_bytes=st.none() | st.integers(0, 2000)
)


@given(
    readings=st.lists(st.tuples(states, memories), max_size=6),
    ram=st.lists(st.none() | st.builds(RamReading, st.integers(0, 99), st.integers(0, 99)), max_size=4),
    baseline=st.none() | st.builds(Baseline, used_bytes=st.just({"gpu": 10})),
)
def test_every_figure_has_a_value_and_a_source_or_none_and_a_reason(
    readings: list[tuple[GpuState, GpuMemory]], ram: list[RamReading | None], baseline: Baseline | None
) -> None:
    watched = window(GPU, baseline=baseline)
    for reading in ram:
        watched.ram(reading)
    for number, (state, memory) in enumerate(readings):
        watched.gpu_state("gpu", float(number), state)
        watched.gpu_memory("gpu", memory)
    samples = watched.samples(10.0)
    for name in samples.to_dict():
        if name in {"duration_s", "samples", "sources", "reasons", "overhead_cpu_s"}:
            continue
        has_value = getattr(samples, name) is not None
        assert has_value == (name in samples.sources), name
        assert has_value != (name in samples.reasons), name
    assert samples.peak_vram_bytes is None or 0 <= samples.peak_vram_bytes <= 2000


def test_what_others_took_of_the_cpu_is_what_the_server_did_not() -> None:
    watched = window(CPU)
    watched.cpu_times(CpuReading(busy_s=100.0, total_s=1000.0, own_s=10.0))
    watched.cpu_times(CpuReading(busy_s=101.0, total_s=1004.0, own_s=10.9))  # a peek does not move the edges
    watched.cpu_times(CpuReading(busy_s=106.0, total_s=1008.0, own_s=12.0))
    samples = watched.samples(4.0)
    assert samples.foreign_cpu_share == pytest.approx((6 - 2) / 8)
    assert "less that of the server" in samples.sources["foreign_cpu_share"]


@pytest.mark.parametrize(
    ("readings", "seconds", "reason"),
    [
        ([], 2.0, "could not be read"),
        ([CpuReading(1, 1, 0)], 2.0, "could not be read"),
        ([None, CpuReading(1, 1, 0)], 2.0, "could not be read"),
        ([CpuReading(1, 1, 0), None], 2.0, "could not be read"),
        ([CpuReading(1, 1, 0), CpuReading(1, 1, 0)], 2.0, "could not be read"),
        ([CpuReading(1, 1, 0), CpuReading(2, 2, 0)], 0.1, "shorter than 0.2 s"),
    ],
)
def test_a_cpu_time_that_cannot_be_had_is_none_with_its_reason(
    readings: list[CpuReading | None], seconds: float, reason: str
) -> None:
    watched = window(CPU)
    for reading in readings:
        watched.cpu_times(reading)
    samples = watched.samples(seconds)
    assert samples.foreign_cpu_share is None
    assert reason in samples.reasons["foreign_cpu_share"]


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_share_stays_a_share_whatever_the_kernel_counts(busy: float, total: float, own: float) -> None:
    share = foreign_share(CpuReading(0, 0, 0), CpuReading(busy, total, own))
    assert share is None or 0 <= share <= 1


def test_the_machine_s_own_cpu_time_is_read() -> None:
    """A loop in another process is foreign, one in this process is not."""
    import subprocess
    import sys
    import time

    first = read_cpu([])
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass
    last = read_cpu([])
    assert first is not None
    assert last is not None
    assert last.own_s - first.own_s >= 0.3
    assert last.total_s > first.total_s
    with subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 5: pass"]) as other:
        try:
            before, deadline = read_cpu([other.pid]), time.monotonic() + 30
            while (after := read_cpu([other.pid])) and before and after.own_s - before.own_s < 0.2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            other.kill()
    assert read_cpu([other.pid]) is None  # gone, and reaped
