"""The estimate against the table of truths: what llama.cpp itself would allocate (tools/fit_truth)."""

from __future__ import annotations

from functools import cache

import pytest

from quants.footprint import ARCHITECTURES, Backend, Footprint, FootprintSettings
from tools.fit_truth.table import MIB, Row, Table, load

TABLE = load()
ASKED_FOR = (
    *(
        "llama",
        "qwen2",
        "qwen3",
        "qwen3moe",
        "qwen3next",
        "qwen35",
        "qwen35moe",
        "gemma2",
        "gemma3",
        "gemma3n",
        "gemma4",
    ),
    *(
        "gpt-oss",
        "deepseek2",
        "glm4",
        "glm4moe",
        "phi3",
        "mistral3",
        "granitehybrid",
        "nemotron_h",
        "mamba2",
        "falcon-h1",
    ),
    *("jamba", "rwkv7", "lfm2", "lfm2moe", "command-r", "olmo2"),
)
TOLERANCE_BYTES = 32 * MIB
TOLERANCE_SHARE = 0.05
PRINTED_MIB = 0.0051  # figures are printed with two digits behind the point


@cache
def estimate(name: str, settings: FootprintSettings) -> Footprint:
    """What three tests ask of each row."""
    return TABLE.shapes[name].estimate(settings)


@pytest.fixture(scope="module")
def table() -> Table:
    return TABLE


def test_the_table_is_as_large_as_promised(table: Table) -> None:
    architectures = {shape.architecture for shape in table.shapes.values()}
    asked = {*ASKED_FOR}
    assert asked <= architectures
    assert set(ARCHITECTURES) == architectures, "rules that were never held against the engine are guesses"
    rows = [row for shape in table.shapes.values() for row in shape.rows]
    grid = {
        (row.settings.context, row.settings.cache_type_k, row.settings.slots, row.settings.backend)
        for row in rows
        if row.settings.cache_type_k == row.settings.cache_type_v
    }
    for context in (4096, 32768, 131072):
        for kind in ("f16", "q8_0", "q4_0"):
            for slots in (1, 4):
                assert (context, kind, slots, Backend.CPU) in grid
                assert (context, kind, slots, Backend.CUDA) in grid
    assert len(rows) > 2900


@pytest.mark.parametrize("name", sorted(TABLE.shapes))
def test_weights_caches_and_state_are_llama_cpps_own(table: Table, name: str) -> None:
    shape = table.shapes[name]
    wrong: list[tuple[object, ...]] = []
    for row in shape.rows:
        got = estimate(name, row.settings)
        for part in got.devices:
            weights, context = row.weights.get(part.device, 0), row.context.get(part.device, 0)
            if part.weights_bytes != weights:
                wrong.append((row.settings, part.device, "weights", part.weights_bytes, weights))
            if part.kv_bytes + part.state_bytes != context:
                wrong.append((row.settings, part.device, "context", part.kv_bytes, part.state_bytes, context))
        # Apart, at the precision that llama.cpp prints.
        for component, printed_mib, parts in (
            ("kv_bytes", row.kv_mib, 2 + _padding_mib(row) / PRINTED_MIB),
            ("state_bytes", row.state_mib, max(1, row.state_parts)),
            ("output_bytes", row.output_mib, 1),
        ):
            bytes_estimated = got.total(component)
            assert bytes_estimated is not None
            if abs(bytes_estimated / MIB - printed_mib) > PRINTED_MIB * parts:
                wrong.append((row.settings, component, bytes_estimated / MIB, printed_mib))
    assert wrong == []


def _padding_mib(row: Row) -> float:
    """The log adds up tensors, the buffers pad them: rows of quantized caches on CUDA to 512 elements."""
    quantized = row.settings.cache_type_k != "f16" or row.settings.cache_type_v != "f16"
    return 0.25 if quantized and row.settings.gpus else 0.0


@pytest.mark.parametrize("name", sorted(TABLE.shapes))
def test_compute_with_flash_attention_and_f16_is_within_5_percent_or_32_mib(table: Table, name: str) -> None:
    shape = table.shapes[name]
    wrong = []
    for row in shape.rows:
        if not row.plain:
            continue
        got = estimate(name, row.settings)
        for part in got.devices:
            truth = row.compute.get(part.device, 0)
            if abs(part.compute_bytes - truth) > max(TOLERANCE_BYTES, TOLERANCE_SHARE * truth):
                wrong.append((row.settings, part.device, part.compute_bytes / MIB, truth / MIB))
    assert wrong == []


def test_what_is_set_aside_for_uncertainty_covers_every_other_setting(table: Table) -> None:
    wrong = []
    for shape in table.shapes.values():
        for row in shape.rows:
            if row.plain or not row.settings.gpus:
                continue
            wrong += [
                (shape.name, row.settings, part, row.compute)
                for part in estimate(shape.name, row.settings).gpus
                if part.compute_bytes + part.uncertainty_bytes < row.compute.get(part.device, 0)
            ]
    assert wrong == []


def test_figures_do_not_depend_on_what_they_should_not(table: Table) -> None:
    shape = table.shapes["qwen3.5-9b"]
    short = shape.estimate(FootprintSettings(context=4096))
    long = shape.estimate(FootprintSettings(context=131072, cache_type_k="q8_0", cache_type_v="q8_0"))
    assert short.total("state_bytes") == long.total("state_bytes")
    assert short.total("weights_bytes") == long.total("weights_bytes")
