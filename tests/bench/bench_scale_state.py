"""How many events a second the state machine takes in, by the size of the sweep: the cost of one must not grow.

    python -m tests.bench.bench_scale_state [JOBS ...]

Plays whole sweeps by hand: 100 slots of four kinds on 50 nodes, cells of 100 jobs and of many sizes, one load in
a hundred fails, one job in fifty crashes its engine. Prints events a second, and the median, 99th percentile and
maximum of a single event; the ratio is to the smallest sweep. A second table is of an endpoint: 8 places in line, which
all of the 50 nodes have.
"""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from statistics import median

from orchestrator import events as ev
from orchestrator.placement import Slot
from orchestrator.state import SweepState
from quants.fit.verdict import Verdict, VerdictKind

SIZES = (1_000, 10_000, 30_000, 100_000)
JOBS_A_CELL = 100
NODES = 50
PLACES = 8
KINDS = ((16e9, 450e9, "rtx-16"), (24e9, 900e9, "rtx-24"), (32e9, 1800e9, "rtx-32"), (128e9, 250e9, "apu-128"))
FITS = Verdict(VerdictKind.FITS, "fits")
TOO_BIG = Verdict(VerdictKind.TOO_BIG, "too big")


def joined(node: int, cells: list[tuple[str, int]], *, endpoint: bool) -> ev.NodeJoined:
    """A node of two equal devices, or with the places of an endpoint."""
    memory, bandwidth, name = KINDS[node % len(KINDS)]
    if endpoint:
        line = [f"cloud#{number}" for number in range(1, PLACES + 1)]
        slots = tuple(Slot((f"n{node}", place), f"host{node}", "cloud", elsewhere=True) for place in line)
        return ev.NodeJoined(f"n{node}", slots, {cell_id: dict.fromkeys(line, FITS) for cell_id, _ in cells})
    slots = tuple(Slot((f"n{node}", f"gpu{i}"), f"host{node}", name, bandwidth) for i in range(2))
    verdicts = {}
    for cell_id, size in cells:
        verdict = FITS if size < memory else TOO_BIG
        verdicts[cell_id] = {"gpu0": verdict, "gpu1": verdict}
    return ev.NodeJoined(f"n{node}", slots, verdicts)


def play(jobs: int, seed: int = 1, *, endpoint: bool = False) -> list[float]:
    """Runs a sweep to its end; seconds by event."""
    rng = random.Random(seed)
    cells = [(f"c{c}", int(rng.uniform(1e9, 60e9))) for c in range(max(1, jobs // JOBS_A_CELL))]
    pairs = [(f"{cell}j{j}", cell) for cell, _ in cells for j in range(JOBS_A_CELL)]
    state = SweepState(cells, pairs, retries=2)
    events: deque[ev.Event] = deque(joined(node, cells, endpoint=endpoint) for node in range(NODES))
    holds: dict[str, deque[ev.AssignJob]] = {}
    closing: set[str] = set()
    places: dict[str, tuple[str, str]] = {}
    took = []
    while events or holds:
        if not events:
            for lease_id in list(holds):
                events.append(next_of(lease_id, holds, closing, places, rng))
            continue
        event = events.popleft()
        began = time.perf_counter()
        out = state.apply(event)
        took.append(time.perf_counter() - began)
        for order in out:
            match order:
                case ev.StartLease():
                    holds[order.lease_id] = deque()
                    places[order.lease_id] = (order.node_id, order.place_id)
                    if rng.random() < 0.99:
                        events.append(ev.LeaseReady(order.lease_id, rng.uniform(5, 60)))
                case ev.AssignJob():
                    holds[order.lease_id].append(order)
                case ev.CloseLease() | ev.CancelLease():
                    closing.add(order.lease_id)
                case ev.Quarantine():
                    events.append(ev.QuarantineOver(order.hostname, order.place_id))
    assert state.complete, f"{state.jobs_done} of {state.jobs_total}"
    return took


def next_of(
    lease_id: str,
    holds: dict[str, deque[ev.AssignJob]],
    closing: set[str],
    places: dict[str, tuple[str, str]],
    rng: random.Random,
) -> ev.Event:
    """What a lease says next: a row, or that it is over."""
    held = holds[lease_id]
    if not held or rng.random() < 0.0001:
        del holds[lease_id]
        return ev.LeaseEnded(lease_id, "done") if lease_id in closing else ev.LeaseEnded(lease_id, "failed", "x", "x")
    order = held.popleft()
    outcome, kind = ("server_crash", "infrastructure") if rng.random() < 0.02 else ("passed", "model")
    node, device = places[lease_id]
    hostname = node.replace("n", "host")
    hardware = "cloud" if "#" in device else KINDS[int(node[1:]) % len(KINDS)][2]
    return ev.AttemptOffered(
        order.job_id, order.attempt, outcome, kind, rng.uniform(5, 40), hardware, lease_id, hostname, device
    )


def main() -> None:
    """Prints the tables."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    table(sizes)
    print(f"at an endpoint of {PLACES} places:")
    table(sizes, endpoint=True)


def table(sizes: list[int], *, endpoint: bool = False) -> None:
    """A line for each size of a sweep."""
    heads = ("jobs", "cells", "events", "events/s", "us/event", "median us", "p99 us", "max ms", "ratio")
    print("".join(f"{head:>10}" for head in heads))
    first = None
    for jobs in sizes:
        took = play(jobs, endpoint=endpoint)
        mean = sum(took) / len(took)
        first = first or mean
        ordered = sorted(took)
        p99 = ordered[int(len(ordered) * 0.99)]
        cells = max(1, jobs // JOBS_A_CELL)
        figures = (f"{jobs:,}", f"{cells:,}", f"{len(took):,}", f"{1 / mean:,.0f}", f"{mean * 1e6:.1f}")
        singles = (f"{median(took) * 1e6:.1f}", f"{p99 * 1e6:.1f}", f"{ordered[-1] * 1e3:.1f}", f"{mean / first:.2f}")
        print("".join(f"{figure:>10}" for figure in (*figures, *singles)))


if __name__ == "__main__":
    main()
