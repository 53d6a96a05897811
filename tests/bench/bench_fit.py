"""The estimate's error against the engine, by architecture, and what its verdicts would have cost.

    python -m tests.bench.bench_fit

Reads the table of truths (`make fit-truth` makes it anew). A false fit is a verdict "fits" for a card on which the
engine's own buffers, with the overhead set aside for its driver, would not fit; a false refusal is the opposite.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from quants.fit.verdict import DeviceSet, Memory, VerdictKind, verdict
from tools.fit_truth.table import MIB, Row, TruthShape, load

if TYPE_CHECKING:
    from quants.footprint import Footprint, FootprintSettings

GIB: Final = 1024 * MIB
CARDS_GIB: Final = (6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 141)
ENDLESS: Final = 1 << 50


@dataclass
class Errors:
    """What was seen of one architecture."""

    rows: int = 0
    exact: int = 0
    plain: int = 0
    within: int = 0
    worst_plain: float = 0.0
    other: int = 0
    other_within: int = 0
    worst_other: float = 0.0


@dataclass
class Cost:
    """Verdicts that were right and wrong."""

    verdicts: int = 0
    false_fits: int = 0
    false_refusals: int = 0
    examples: list[str] = field(default_factory=list)


def compare(shape: TruthShape, row: Row, errors: Errors) -> Footprint:
    """One row of the table against the estimate."""
    got = shape.estimate(row.settings)
    scratch = _scratch(shape, row)
    errors.rows += 1
    exact, worst, within = True, 0.0, True
    for part in got.devices:
        exact &= part.weights_bytes == row.weights.get(part.device, 0)
        exact &= part.kv_bytes + part.state_bytes == row.context.get(part.device, 0)
        truth = row.compute.get(part.device, 0)
        error = (part.compute_bytes - scratch.get(part.device, 0) - truth) / MIB
        within &= abs(error) <= max(32.0, 0.05 * truth / MIB)
        worst = max(worst, error, key=abs)
    errors.exact += exact
    if row.plain:
        errors.plain += 1
        errors.within += within
        errors.worst_plain = max(errors.worst_plain, worst, key=abs)
    else:
        errors.other += 1
        errors.other_within += within
        errors.worst_other = max(errors.worst_other, worst, key=abs)
    return got


def _scratch(shape: TruthShape, row: Row) -> dict[str, int]:
    """What the estimate adds for the kernels of real GPUs, which the planner's stand-ins do not have."""
    from quants.footprint.estimate import scratch_bytes
    from quants.footprint.placement import place

    model = shape.estimate.model
    if model is None:
        return {}
    return scratch_bytes(model, row.settings, place(len(model.layers), row.settings))


def judge(name: str, row: Row, got: Footprint, cards: Cost, edge: Cost) -> None:
    """The verdicts on real cards, and on one that is a MiB too small for what the engine takes."""
    settings: FootprintSettings = row.settings
    gpus = [f"gpu{index}" for index in range(settings.gpus)]
    # What drivers and programs take is no part of the truth: both sides count the reserve that the estimate makes.
    overhead = {part.device: part.overhead_bytes for part in got.devices}
    needs = {
        device: row.weights.get(device, 0)
        + row.context.get(device, 0)
        + row.compute.get(device, 0)
        + (int(row.output_mib * MIB) if device == "host" else 0)
        + overhead.get(device, 0)
        for device in ("host", *gpus)
    }
    limiting = [needs[device] for device in gpus] or [needs["host"]]
    for size in CARDS_GIB:
        _count(cards, name, row, got, [size * GIB] * len(limiting), all(need <= size * GIB for need in limiting))
    _count(edge, name, row, got, [need - MIB for need in limiting], loads=False)


def _count(cost: Cost, name: str, row: Row, got: Footprint, sizes: list[int], loads: bool) -> None:
    if row.settings.gpus:
        gpus = tuple(Memory(total_bytes=size, name=f"gpu{index}") for index, size in enumerate(sizes))
        devices = DeviceSet(host=Memory(total_bytes=ENDLESS), gpus=gpus)
    else:
        devices = DeviceSet(host=Memory(total_bytes=sizes[0], name="host"))
    fits = verdict(got, devices).kind in {VerdictKind.FITS, VerdictKind.FITS_OFFLOADED}
    cost.verdicts += 1
    if fits and not loads:
        cost.false_fits += 1
        cost.examples.append(f"{name} {row.settings}")
    elif loads and not fits:
        cost.false_refusals += 1


def main() -> None:
    """Print both tables."""
    table = load()
    by_architecture: dict[str, Errors] = defaultdict(Errors)
    shapes: dict[str, int] = defaultdict(int)
    cards, edge = Cost(), Cost()
    refused = 0
    started = time.perf_counter()
    for name, shape in table.shapes.items():
        shapes[shape.architecture] += 1
        refused += len(shape.refused)
        for row in shape.rows:
            judge(name, row, compare(shape, row, by_architecture[shape.architecture]), cards, edge)
    elapsed_s = time.perf_counter() - started
    print(
        f"engine: llama.cpp {table.engine}; {refused} settings that the engine itself refused or died of are left out"
    )
    print(
        f"{'architecture':15} {'models':>6} {'settings':>8} {'exact':>6}   "
        f"{'compute, FA + f16':>20} {'worst MiB':>10}   {'compute, others':>16} {'worst MiB':>10}"
    )
    total = Errors()
    for name, seen in sorted(by_architecture.items()):
        print(
            f"{name:15} {shapes[name]:6} {seen.rows:8} {seen.exact:6}   "
            f"{seen.within:9} of {seen.plain:7} {seen.worst_plain:10.1f}   "
            f"{seen.other_within:6} of {seen.other:6} {seen.worst_other:10.1f}"
        )
        for key in ("rows", "exact", "plain", "within", "other", "other_within"):
            setattr(total, key, getattr(total, key) + getattr(seen, key))
    print(
        f"weights, KV cache and recurrent state equal the engine's, byte for byte: {total.exact} of {total.rows}\n"
        f"compute within 5% or 32 MiB, flash attention and f16 cache: {total.within} of {total.plain}\n"
        f"the same for quantized caches, no flash attention, partial offload, two GPUs: "
        f"{total.other_within} of {total.other}"
    )
    for what, cost in (("cards of 6 to 141 GiB", cards), ("a card 1 MiB too small", edge)):
        print(
            f"verdicts on {what}: {cost.verdicts}, false fits {cost.false_fits}, false refusals {cost.false_refusals}"
        )
        for example in cost.examples[:5]:
            print(f"    false fit: {example}")
    print(f"{elapsed_s / total.rows * 1000:.1f} ms for an estimate and its {len(CARDS_GIB) + 1} verdicts")


if __name__ == "__main__":
    main()
