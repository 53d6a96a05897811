"""Verdicts, both questions about memory, and the answers that run the other way round."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from quants.fit.verdict import (
    DeviceSet,
    Memory,
    VerdictKind,
    cheapest_offload,
    largest_context,
    report,
    verdict,
    weights_verdict,
)
from quants.footprint import Backend, Estimator, FootprintSettings
from tools.fit_truth.table import load

TABLE = load()
GIB = 1024**3
ONE_GPU = FootprintSettings(context=8192, backend=Backend.CUDA, gpus=1)


def qwen() -> Estimator:
    return TABLE.shapes["qwen3-8b"].estimate


def card(gib: float, free_gib: float | None = None, host_gib: float = 64) -> DeviceSet:
    free = None if free_gib is None else int(free_gib * GIB)
    gpu = Memory(total_bytes=int(gib * GIB), free_bytes=free, name="the card")
    return DeviceSet(host=Memory(total_bytes=int(host_gib * GIB), name="host memory"), gpus=(gpu,))


def test_a_model_fits_with_headroom_or_it_is_too_big_by_so_much() -> None:
    footprint = qwen()(ONE_GPU)
    needed = footprint.gpus[0].safe_bytes
    fits = verdict(footprint, card(needed / GIB + 1))
    assert fits.kind is VerdictKind.FITS
    assert fits.headroom_bytes == pytest.approx(GIB, abs=2)
    assert "of the card, which has" in fits.reason
    assert fits.reason.endswith("so that 1.0 GiB stay free")
    too_big = verdict(footprint, card(needed / GIB - 1))
    assert too_big.kind is VerdictKind.TOO_BIG
    assert too_big.headroom_bytes == pytest.approx(-GIB, abs=2)
    assert too_big.reason.endswith(": 1.0 GiB are missing")
    assert verdict(footprint, card((needed - 2) / GIB)).kind is VerdictKind.TOO_BIG


@pytest.mark.parametrize("short_bytes", [1, 40_000, 41_600_000, GIB - 1, 3 * GIB])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_figures_of_a_sentence_add_up_and_none_is_nothing(short_bytes: int, sign: int) -> None:
    """It said "needs 1.0 GiB in all; 0.0 GiB too much for a 0.6 GB card": the host's memory was in the sum."""
    footprint = qwen()(ONE_GPU)
    needed = footprint.gpus[0].safe_bytes
    memory = Memory(total_bytes=needed + sign * short_bytes, name="the card")
    devices = DeviceSet(host=Memory(total_bytes=64 * GIB, name="host memory"), gpus=(memory,))
    answer = report(footprint, devices).chosen
    assert (answer.device, answer.needed_bytes, answer.memory_bytes) == ("the card", needed, memory.total_bytes)
    reason = verdict(footprint, devices).reason
    found = re.findall(r"([\d.,]+) (GiB|MiB|bytes)", reason)
    assert len({unit for _, unit in found}) == 1
    needs, has, left = (float(figure.replace(",", "")) for figure, _ in found)
    assert left > 0
    assert sign * (has - needs) == pytest.approx(left, abs=0.1001)
    assert {1: "stay free", -1: "are missing"}[sign] in reason


def test_the_margin_covers_the_engine_and_the_uncertainty() -> None:
    part = qwen()(ONE_GPU).gpus[0]
    buffers = part.weights_bytes + part.kv_bytes + part.compute_bytes
    assert part.safe_bytes - buffers >= 600 * 1024**2 + 32 * 1024**2


def test_free_and_total_memory_are_both_answered() -> None:
    footprint = qwen()(ONE_GPU)
    both = report(footprint, card(16, free_gib=6))
    assert both.now.kind is VerdictKind.TOO_BIG
    assert both.ever.kind is VerdictKind.FITS
    assert both.verdict.kind is VerdictKind.TOO_BIG
    assert "would fit if nothing else used it" in both.verdict.reason
    unasked = report(footprint, card(16))
    assert (unasked.now.kind, unasked.verdict.kind) == (VerdictKind.UNKNOWN, VerdictKind.FITS)


def test_a_device_that_does_not_say_gets_no_verdict() -> None:
    devices = DeviceSet(host=Memory(total_bytes=64 * GIB), gpus=(Memory(total_bytes=None, name="the card"),))
    got = verdict(qwen()(ONE_GPU), devices)
    assert (got.kind, got.headroom_bytes) == (VerdictKind.UNKNOWN, None)
    assert "the card does not say" in got.reason


def test_an_unknown_architecture_gets_no_verdict() -> None:
    header = replace(qwen().header, metadata={"general.architecture": "novel"})
    got = verdict(Estimator(header)(ONE_GPU), card(1000))
    assert got.kind is VerdictKind.UNKNOWN
    assert "novel" in got.reason


def test_host_memory_counts_when_part_of_the_model_lies_there() -> None:
    footprint = qwen()(replace(ONE_GPU, gpu_layers=4))
    assert verdict(footprint, card(16, host_gib=64)).kind is VerdictKind.FITS_OFFLOADED
    short = verdict(footprint, card(16, host_gib=4))
    assert short.kind is VerdictKind.TOO_BIG
    assert "host memory" in short.reason


def test_on_the_cpu_everything_is_host_memory() -> None:
    footprint = qwen()(FootprintSettings(context=8192))
    assert verdict(footprint, DeviceSet(host=Memory(total_bytes=32 * GIB))).kind is VerdictKind.FITS
    assert verdict(footprint, DeviceSet(host=Memory(total_bytes=8 * GIB))).kind is VerdictKind.TOO_BIG


def test_unified_memory_is_counted_once() -> None:
    footprint = qwen()(replace(ONE_GPU, backend=Backend.METAL))
    needed = footprint.host.safe_bytes + footprint.gpus[0].safe_bytes
    for size, kind in ((needed + GIB, VerdictKind.FITS), (needed - GIB, VerdictKind.TOO_BIG)):
        memory = Memory(total_bytes=size, name="unified memory")
        assert verdict(footprint, DeviceSet(host=memory, gpus=(memory,), unified=True)).kind is kind
        silent = Memory(total_bytes=None, name="the GPU")
        assert verdict(footprint, DeviceSet(host=memory, gpus=(silent,), unified=True)).kind is kind


def test_more_gpus_than_there_are_do_not_fit() -> None:
    got = verdict(qwen()(replace(ONE_GPU, gpus=2)), card(80))
    assert got.kind is VerdictKind.TOO_BIG
    assert "2 GPUs" in got.reason


def test_every_gpu_needs_its_own_room() -> None:
    footprint = qwen()(replace(ONE_GPU, gpus=2))
    large, small = (Memory(total_bytes=size * GIB, name=f"the {size} GiB card") for size in (24, 4))
    got = verdict(footprint, DeviceSet(host=Memory(total_bytes=64 * GIB), gpus=(large, small)))
    assert got.kind is VerdictKind.TOO_BIG
    assert "of the 4 GiB card, the fullest of 2, which has 4.0 GiB to use" in got.reason


@pytest.mark.parametrize("name", ["qwen3-8b", "gemma-3-12b", "gpt-oss-20b", "qwen3.5-9b", "deepseek-v2-lite"])
def test_the_largest_context_fits_and_the_next_does_not(name: str) -> None:
    estimator = TABLE.shapes[name].estimate
    devices = card(14)
    found = largest_context(estimator, ONE_GPU, devices)
    assert found is not None
    assert verdict(estimator(replace(ONE_GPU, context=found)), devices).kind is VerdictKind.FITS
    if found < 131072:
        assert verdict(estimator(replace(ONE_GPU, context=found + 256)), devices).kind is VerdictKind.TOO_BIG


def test_the_largest_context_stops_at_the_trained_one_and_may_be_none() -> None:
    assert largest_context(qwen(), ONE_GPU, card(1000)) == 131072
    assert largest_context(qwen(), ONE_GPU, card(4)) is None


def test_experts_are_offloaded_before_layers() -> None:
    estimator = TABLE.shapes["qwen3.5-35b-a3b"].estimate
    devices = card(16)
    found = cheapest_offload(estimator, ONE_GPU, devices)
    assert found is not None
    assert found.layers_on_gpu == found.layers == 41
    assert found.command == f"-ngl 41 --n-cpu-moe {found.expert_layers_on_host}"
    assert verdict(found.footprint, devices).kind is VerdictKind.FITS_OFFLOADED
    less = replace(found.settings, cpu_moe_layers=found.expert_layers_on_host - 1)
    assert verdict(estimator(less), devices).kind is VerdictKind.TOO_BIG
    moved = estimator(ONE_GPU).gpus[0].weights_bytes - found.footprint.gpus[0].weights_bytes
    assert found.host_bytes == pytest.approx(moved, rel=0.05)


def test_a_dense_model_is_offloaded_by_layers() -> None:
    estimator = TABLE.shapes["gemma-4-31b"].estimate
    found = cheapest_offload(estimator, ONE_GPU, card(16))
    assert found is not None
    assert 0 < found.layers_on_gpu < found.layers
    assert found.command == f"-ngl {found.layers_on_gpu}"
    assert verdict(found.footprint, card(16)).kind is VerdictKind.FITS_OFFLOADED


def test_no_offload_where_none_is_needed_or_none_helps() -> None:
    assert cheapest_offload(qwen(), ONE_GPU, card(80)) is None
    assert cheapest_offload(TABLE.shapes["deepseek-v3"].estimate, ONE_GPU, card(16, host_gib=64)) is None
    assert cheapest_offload(qwen(), FootprintSettings(context=8192), card(16)) is None


def test_the_size_of_the_file_alone_can_only_refuse() -> None:
    assert weights_verdict(20 * GIB, 16 * GIB).kind is VerdictKind.TOO_BIG
    assert weights_verdict(8 * GIB, 16 * GIB).kind is VerdictKind.UNKNOWN
    assert weights_verdict(8 * GIB, None).kind is VerdictKind.UNKNOWN
    assert "(16,384.0 MiB of weights, 16,383.0 MiB of memory)" in weights_verdict(16 * GIB, 16 * GIB - 1024**2).reason


def test_no_card_is_promised_a_model_that_would_not_load() -> None:
    """Over the whole table of truths: a card one MiB too small for what llama.cpp takes is never said to fit."""
    wrong = []
    for name, shape in TABLE.shapes.items():
        for row in shape.rows[::5]:  # all of them in tests/bench/bench_fit.py
            footprint = shape.estimate(row.settings)
            gpus = [f"gpu{index}" for index in range(row.settings.gpus)]
            sizes = [
                row.weights.get(device, 0)
                + row.context.get(device, 0)
                + row.compute.get(device, 0)
                + part.overhead_bytes
                - 1024**2
                for device, part in zip(gpus, footprint.gpus, strict=True)
            ]
            if not gpus:
                continue
            memories = tuple(Memory(total_bytes=size) for size in sizes)
            devices = DeviceSet(host=Memory(total_bytes=1 << 50), gpus=memories)
            if verdict(footprint, devices).kind is not VerdictKind.TOO_BIG:
                wrong.append((name, row.settings))
    assert wrong == []
