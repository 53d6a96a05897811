"""`quantsweep --help` against `python -c pass`, in turn: what the command line costs before it does anything.

Usage: python -m tests.bench.bench_startup [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def seconds(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    seconds("-m", "orchestrator", "--help")
    pairs = [(seconds("-c", "pass"), seconds("-m", "orchestrator", "--help")) for _ in range(rounds)]
    bare, full = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"python -c pass {bare:.3f} s, quantsweep --help {full:.3f} s, ratio {full / bare:.1f} (medians of {rounds})")


if __name__ == "__main__":
    main()
