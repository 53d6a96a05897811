"""The sampler against a process that allocates a known amount at a known time: its error, its delay and its cost.

    python -m tests.bench.bench_sampler [--mib 512] [--seconds 10]

Prints, for a real allocating process: the error of the peak; how long after the last page was touched the sampler's own
thread had seen it, in samples; a spike shorter than a sample; and the CPU time that sampling costs, as a share of one
core, idle and while a large process is watched (whose smaps_rollup is costly).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiles.samples import Phase

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from profiles.sampler import CPU_SHARE, INTERVALS_S, Sampler  # noqa: E402 - a script: the path comes first

MIB = 1 << 20
ALLOCATOR = ROOT / "tests" / "profiles" / "allocator.py"


class Allocator:
    """The allocating process; each order returns the monotonic time at which it was done."""

    def __init__(self) -> None:
        command = [sys.executable, str(ALLOCATOR)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.tell("ready")

    def tell(self, order: str) -> float:
        """Give an order and wait until it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate("exit\n", timeout=30)


def error_of_peak(size_mib: int) -> tuple[int, int]:
    """Bytes by which the peak of an allocation, and of a spike that is over at once, differ from what was taken."""
    process = Allocator()
    try:
        with Sampler(process.pid) as sampler:
            base = sampler.peek().peak_ram_bytes or 0
            process.tell(f"anon {size_mib}")
            held = sampler.reset().peak_ram_bytes or 0
            process.tell("free")
            sampler.reset("idle")
            process.tell("spike 64")
            spike = sampler.reset().peak_ram_bytes or 0
    finally:
        process.close()
    return held - base - size_mib * MIB, spike - base - 64 * MIB


def delays_in_samples(size_mib: int, rounds: int) -> list[float]:
    """How long after the last page was touched the sampler's thread saw it, as a share of its interval.

    The kernel stamps what it tells with no time, so the moment is the one at which the sampler's thread had it.
    """
    delays = []
    process = Allocator()
    try:
        with Sampler(process.pid, phase="load") as sampler:
            for _ in range(rounds):
                sampler.reset("load")
                level = sampler._window._rss.value or 0
                done = process.tell(f"anon {size_mib}")
                while (sampler._window._rss.value or 0) < level + size_mib * MIB:
                    time.sleep(0.0005)
                delays.append((time.monotonic() - done) / INTERVALS_S["load"])
                process.tell("free")
    finally:
        process.close()
    return delays


def cost(size_mib: int, phase: Phase, seconds: float) -> float:
    """CPU time of this whole process while it does nothing but sample, as a share of one core."""
    process = Allocator()
    try:
        process.tell(f"anon {size_mib}")
        with Sampler(process.pid, phase=phase) as sampler:
            time.sleep(0.5)  # the first looks are dearer: what counts is the steady state
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            time.sleep(seconds)
            after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            sampler.stop()
    finally:
        process.close()
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent / (ended - began)


def main() -> None:
    """Run all of it and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mib", type=int, default=512, help="what is allocated")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each cost is measured")
    given = parser.parse_args()
    held, spike = error_of_peak(given.mib)
    print(f"error of the peak of {given.mib} MiB       {held / MIB:+.2f} MiB ({held / MIB / given.mib:+.3%})")
    print(f"error of a spike of 64 MiB       {spike / MIB:+.2f} MiB (sampled every {INTERVALS_S['idle'] * 1e3:.0f} ms)")
    delays = delays_in_samples(64, 30)
    print(
        f"delay of the sampler's thread    median {statistics.median(delays):.2f}, worst {max(delays):.2f} samples "
        f"of {INTERVALS_S['load'] * 1e3:.0f} ms over {len(delays)} allocations"
    )
    for size, phase in ((16, "load"), (given.mib * 4, "load"), (16, "decode"), (given.mib * 4, "decode")):
        share = cost(size, phase, given.seconds)  # type: ignore[arg-type]  # the literals above
        verdict = "within" if share <= CPU_SHARE else "ABOVE"
        print(f"cost in {phase:7} of {size:5} MiB      {share:.2%} of one core, {verdict} {CPU_SHARE:.0%}")


if __name__ == "__main__":
    main()
