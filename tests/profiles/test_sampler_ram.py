from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from profiles.counters.ram import TreeMemory, TreeRss
from profiles.sampler import INTERVALS_S, Sampler, _Pace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.profiles.conftest import Allocator

MIB = 1 << 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLACK = 1.5 * MIB
"""What the allocating interpreter itself may take meanwhile: page tables, a line of text."""


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the sampler's own thread will do; a minute is never reached unless it died."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the sampler's thread does nothing"
        time.sleep(0.005)


@linux_only
def test_a_known_amount_is_measured_and_each_window_has_its_own_peak(allocator: Allocator) -> None:
    with Sampler(allocator.pid) as sampler:
        base = sampler.peek().peak_ram_bytes
        assert base is not None
        allocator.tell("anon 120")
        load = sampler.reset()
        allocator.tell("free")
        sampler.reset()
        allocator.tell("anon 30")
        job = sampler.stop()
    assert load.peak_ram_bytes == pytest.approx(base + 120 * MIB, abs=SLACK)
    assert load.peak_pss_anon_bytes is not None
    assert load.peak_pss_anon_bytes >= 120 * MIB
    assert load.sources["peak_ram_bytes"].startswith("PSS: smaps_rollup")
    assert job.peak_ram_bytes == pytest.approx(base + 30 * MIB, abs=SLACK)
    assert load.samples >= 2
    assert load.overhead_cpu_s > 0


@linux_only
def test_a_spike_between_two_readings_is_not_missed(allocator: Allocator) -> None:
    # In "idle" the thread reads every 200 ms; the kernel's own peak tells what rose and fell in between.
    with Sampler(allocator.pid, phase="idle") as sampler:
        base = sampler.peek().peak_ram_bytes
        assert base is not None
        sampler.reset("idle")
        allocator.tell("spike 90")
        samples = sampler.stop()
    assert samples.peak_ram_bytes == pytest.approx(base + 90 * MIB, abs=SLACK)
    assert samples.peak_rss_bytes is not None
    assert samples.peak_rss_bytes >= 90 * MIB


@linux_only
def test_the_next_window_starts_at_the_level_of_its_own(allocator: Allocator) -> None:
    with Sampler(allocator.pid) as sampler:
        base = sampler.peek().peak_ram_bytes
        assert base is not None
        allocator.tell("spike 90")
        sampler.reset()
        samples = sampler.stop()
    assert samples.peak_ram_bytes == pytest.approx(base, abs=SLACK)


@linux_only
def test_memory_that_a_child_shares_is_counted_once(allocator: Allocator) -> None:
    with Sampler(allocator.pid) as sampler:
        base = sampler.peek().peak_ram_bytes
        assert base is not None
        allocator.tell("anon 60")
        allocator.tell("fork")
        samples = sampler.reset()
    assert samples.peak_rss_bytes is not None
    assert samples.peak_rss_bytes >= 120 * MIB
    assert samples.peak_ram_bytes == pytest.approx(base + 60 * MIB, abs=4 * MIB)


@linux_only
def test_a_mapped_file_is_file_memory(allocator: Allocator, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(os.urandom(MIB) * 40)
    with Sampler(allocator.pid) as sampler:
        before = sampler.reset()
        allocator.tell(f"file {model}")
        samples = sampler.reset()
    assert before.peak_pss_file_bytes is not None
    assert samples.peak_pss_file_bytes == pytest.approx(before.peak_pss_file_bytes + 40 * MIB, abs=SLACK)
    assert samples.peak_pss_anon_bytes == pytest.approx(before.peak_pss_anon_bytes, abs=SLACK)


@linux_only
def test_the_thread_reads_by_itself_and_a_mark_changes_its_pace(allocator: Allocator) -> None:
    with Sampler(allocator.pid) as sampler:
        until(lambda: sampler._window._readings > 3)
        sampler.mark("decode")
        assert INTERVALS_S[sampler._phase] > INTERVALS_S["prefill"]
        seen = sampler._window._readings
        until(lambda: sampler._window._readings > seen + 1)


@linux_only
def test_a_process_that_ends_ends_no_sampling(allocator: Allocator) -> None:
    with Sampler(allocator.pid) as sampler:
        before = sampler.reset()
        allocator.close()
        sampler.reset()
        after = sampler.stop()
        assert sampler.stop() is after
    assert before.peak_ram_bytes is not None
    assert after.peak_ram_bytes is None
    assert "was not running" in after.reasons["peak_ram_bytes"]


def test_without_a_device_every_figure_says_why_it_is_missing(allocator: Allocator) -> None:
    with Sampler(allocator.pid) as sampler:
        samples = sampler.stop()
    for name in ("peak_vram_bytes", "peak_gtt_bytes", "energy_j", "mean_power_w", "clock_core_hz", "throttle_reasons"):
        assert getattr(samples, name) is None
        assert samples.reasons[name]
        assert name not in samples.sources


@linux_only
def test_where_smaps_may_not_be_read_rss_stands_in_and_is_named(tmp_path: Path) -> None:
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    (folder / "statm").write_text("5000 1000 200 1 0 300 0\n")
    tree = TreeMemory(os.getpid(), proc=tmp_path)
    tree.refresh()
    reading = tree.read()
    assert reading is not None
    assert reading.rss_bytes == reading.share_bytes == 1000 * os.sysconf("SC_PAGE_SIZE")
    assert tree.read_exact() is None
    assert tree.share_refused is not None
    assert "smaps_rollup" in tree.share_refused
    tree.reset_peaks()
    assert tree.missed_bytes() == 0
    (folder / "statm").write_text("")
    assert tree.read() is None
    tree.close()


def test_other_systems_have_rss_by_psutil(allocator: Allocator) -> None:
    tree = TreeRss(allocator.pid)
    assert tree.read() is None
    tree.refresh()
    before = tree.read()
    allocator.tell("anon 50")
    after = tree.read()
    assert before is not None
    assert after is not None
    assert after.rss_bytes == pytest.approx(before.rss_bytes + 50 * MIB, abs=SLACK)
    assert tree.pids() == (allocator.pid,)
    assert tree.read_exact() is None


def test_a_costly_source_is_asked_less_often() -> None:
    pace = _Pace(interval_s=0.5, share=0.01)
    pace.took(10.0, 0.001)
    assert pace.due_s == 10.5
    pace.took(10.0, 0.05)
    assert pace.due_s == 15.0
