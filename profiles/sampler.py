"""Measure a server's process tree while it loads, prefills and decodes: RAM, GPU memory, energy, the machine's state.

    baseline = take_baseline([device])                  # before the server is started
    with Sampler(pid, [device], baseline=baseline) as sampler:
        ...                                             # it loads
        load = sampler.reset("prefill")                 # the load's figures; the first job's window begins
        ...; sampler.mark("decode")                     # the first token came
        job = sampler.reset("prefill")                  # the first job's figures; the second's window begins

One thread reads every 35 ms in load and prefill and every 200 ms otherwise. A source that proves costly is asked less
often, so that all of it stays within :data:`CPU_SHARE` of one core.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from profiles.counters.cputime import read_cpu
from profiles.counters.gpu import open_counters
from profiles.counters.ram import ram_source
from profiles.types import Device
from profiles.window import Baseline, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from profiles.counters.readings import GpuCounters
    from profiles.samples import Phase, Samples

T = TypeVar("T")

CPU_SHARE = 0.01
"""The most of one core that sampling may take, over any few seconds."""

INTERVALS_S: Mapping[Phase, float] = {"load": 0.035, "prefill": 0.035, "decode": 0.2, "idle": 0.2}
REFRESH_S = 1.0
"""How often new processes of the tree are looked for: a server starts its helpers once, at the beginning."""

STATE_S = 0.5
GROWTH_BYTES = 16 << 20
EDGE_GROWTH_BYTES = 1 << 20
EDGE_GROWTH_SHARE = 1 / 256
"""smaps_rollup is worth its cost again when RSS has moved by this much: within a window, and at its edges the larger of
two, since a walk over a 40 GB model takes 0.4 s and would be due before and after every job."""


def take_baseline(devices: Sequence[Device]) -> Baseline:
    """Read the devices once, before a server is launched onto them; the CPU needs none."""
    used: dict[str, int] = {}
    gtt: dict[str, int] = {}
    power: dict[str, float] = {}
    for device in devices:
        counters = open_counters(device)
        try:
            memory, state = counters.memory(()), counters.state()
        finally:
            counters.close()
        if memory.used_bytes is not None:
            used[device.id] = memory.used_bytes
        if memory.used_gtt_bytes is not None:
            gtt[device.id] = memory.used_gtt_bytes
        if state.power_w is not None:
            power[device.id] = state.power_w
    return Baseline(used, gtt, power)


@dataclass(slots=True)
class _Pace:
    """When a source may be read again: not before its interval, and not beyond its share of a core."""

    interval_s: float
    share: float
    due_s: float = 0.0

    def took(self, now_s: float, cost_s: float) -> None:
        self.due_s = now_s + max(self.interval_s, cost_s / self.share)


class Sampler:
    """Samples the tree of ``pid`` on ``devices`` from :meth:`start` to :meth:`stop`.

    Safe to use from the thread that owns it while its own thread reads. A process or a device that goes away ends no
    sampling; the figures say what could not be had.
    """

    def __init__(
        self,
        pid: int,
        devices: Sequence[Device] | Device | None = None,
        *,
        baseline: Baseline | None = None,
        phase: Phase = "load",
    ) -> None:
        self._pid = pid
        self._devices = _as_list(devices)
        self._counters: dict[str, GpuCounters] = {}
        self._baseline = baseline
        self._ram = ram_source(pid)
        self._phase: Phase = phase
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._window = Window(pid, self._devices, baseline, time.monotonic())
        self._last: Samples | None = None
        self._tree_pace = _Pace(REFRESH_S, 0.001)
        self._exact_pace = _Pace(0.0, 0.002)
        self._exact_at_rss = -1
        self._memory_pace: dict[str, _Pace] = {}
        self._state_pace: dict[str, _Pace] = {}

    def start(self) -> Self:
        """Begin; the first reading is taken before this returns."""
        for device in self._devices:
            self._counters[device.id] = open_counters(device)
            self._memory_pace[device.id] = _Pace(0.0, 0.003 / len(self._devices))
            self._state_pace[device.id] = _Pace(STATE_S, 0.001 / len(self._devices))
        with self._lock:
            self._read(everything=True)
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def mark(self, phase: Phase) -> None:
        """The server does something else now: changes how often it is sampled.

        Takes no lock: called when a token arrives, it must not wait for a reading that is under way.
        """
        self._phase = phase
        self._wake.set()

    def reset(self, phase: Phase = "prefill") -> Samples:
        """Close the window (a load, a job), return its figures and begin the next one in ``phase``."""
        with self._lock:
            samples = self._close_window()
            self._phase = phase
            self._ram.reset_peaks()
            self._window = self._window.successor(time.monotonic())
            self._read(everything=True)
        self._wake.set()
        return samples

    def peek(self) -> Samples:
        """The figures of the window so far; it goes on."""
        with self._lock:
            return self._close_window()

    def stop(self) -> Samples:
        """Close the last window, end the thread and return the figures. A second call returns them again."""
        with self._lock:
            if self._last is not None:
                return self._last
            self._last = self._close_window()
            self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._ram.close()
        for counters in self._counters.values():
            counters.close()
        return self._last

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            with self._lock:
                if not self._stopping:
                    self._read(everything=False)
                interval = INTERVALS_S[self._phase]
            self._wake.wait(max(0.001, began + interval - time.monotonic()))
            self._wake.clear()

    def _close_window(self) -> Samples:
        self._read(everything=True)
        self._window.spike(self._ram.missed_bytes())
        return self._window.samples(time.monotonic())

    def _read(self, *, everything: bool) -> None:
        """Read what is due, or all of it at the edges of a window."""
        cpu_began = time.thread_time()
        now = time.monotonic()
        if everything or now >= self._tree_pace.due_s:
            _timed(self._tree_pace, now, self._ram.refresh)
        ram = self._ram.read()
        if ram is not None and not self._ram.share_refused and self._exact_is_due(now, ram.rss_bytes, edge=everything):
            self._window.exact(_timed(self._exact_pace, now, self._ram.read_exact))
            self._exact_at_rss = ram.rss_bytes
            ram = self._ram.read()  # again, with the corrections just learnt
        self._window.ram(ram)
        self._window.share_refused(self._ram.share_refused)
        pids = self._ram.pids()
        if everything:
            self._window.cpu_times(read_cpu(pids) if pids else None)
        for device_id, counters in self._counters.items():
            memory_pace, state_pace = self._memory_pace[device_id], self._state_pace[device_id]
            if everything or now >= memory_pace.due_s:
                memory = _timed(memory_pace, now, partial(counters.memory, pids))
                self._window.gpu_memory(device_id, memory)
            if everything or now >= state_pace.due_s:
                state = _timed(state_pace, now, counters.state)
                self._window.gpu_state(device_id, now, state)
        self._window.count(time.thread_time() - cpu_began)

    def _exact_is_due(self, now_s: float, rss_bytes: int, *, edge: bool) -> bool:
        """Only when RSS has moved since the last time: the walk holds up the server that is being measured."""
        moved = abs(rss_bytes - self._exact_at_rss)
        if self._exact_at_rss < 0 or (edge and moved > max(EDGE_GROWTH_BYTES, rss_bytes * EDGE_GROWTH_SHARE)):
            return True
        return moved > GROWTH_BYTES and now_s >= self._exact_pace.due_s


def _timed(pace: _Pace, now_s: float, act: Callable[[], T]) -> T:
    began = time.thread_time()
    result = act()
    pace.took(now_s, time.thread_time() - began)
    return result


def _as_list(devices: Sequence[Device] | Device | None) -> list[Device]:
    if devices is None:
        return []
    return [devices] if isinstance(devices, Device) else list(devices)
