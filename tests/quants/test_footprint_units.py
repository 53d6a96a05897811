"""The estimator's parts: the allocator, placement, rules, refusals, and headers that mean harm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quants.footprint import Backend, Estimator, Footprint, FootprintSettings, estimate, predict
from quants.footprint.placement import HOST, place
from quants.footprint.tape import Tape
from quants.gguf import Header, combine, read_header
from tools.fit_truth.shapes import SHAPES
from tools.fit_truth.table import header_of, load
from tools.fit_truth.write import metadata, write

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load()
ONE_GPU = FootprintSettings(context=8192, backend=Backend.CUDA, gpus=1)


def qwen() -> Header:
    return TABLE.shapes["qwen3-8b"].header


# --- the allocator ---------------------------------------------------------------------------------------------------


def test_a_tensor_is_freed_after_its_last_reader() -> None:
    tape = Tape()
    first = tape.op(1024)
    second = tape.op(1024, first)
    tape.op(1024, second)
    assert tape.peak() == 2048


def test_an_elementwise_result_takes_its_operands_place_only_if_nobody_else_reads_it() -> None:
    alone, shared = Tape(), Tape()
    alone.over(alone.op(1024))
    assert alone.peak() == 1024
    node = shared.op(1024)
    shared.use(shared.over(node), node)
    assert shared.peak() == 2048


def test_a_hole_is_taken_if_it_is_large_enough_and_the_smallest_of_those() -> None:
    tape = Tape()
    holes = [tape.op(size) for size in (4096, 128, 1024, 128)]
    tape.use(holes[0])
    tape.use(holes[2])
    tape.op(1024, holes[1], holes[3])  # fits the hole of 1024 exactly
    assert tape.peak() == 4096 + 128 + 1024 + 128


def test_a_kept_input_is_never_freed() -> None:
    tape = Tape()
    tape.use(tape.leaf(1024, kept=True))
    tape.op(1024)
    assert tape.peak() == 2048


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(0, 8)), max_size=40))
@settings(deadline=None, max_examples=60)
def test_the_peak_lies_between_the_largest_sum_alive_and_the_sum_of_all(ops: list[tuple[int, int]]) -> None:
    tape = Tape()
    nodes: list[int] = []
    for size, back in ops:
        nodes.append(tape.op(size, *nodes[len(nodes) - min(back, len(nodes)) :][:1]))
    sizes = [tape.size(node) for node in nodes]
    assert max(sizes, default=0) <= tape.peak() <= sum(sizes)


# --- placement -------------------------------------------------------------------------------------------------------


def test_the_last_layers_and_the_output_go_to_the_gpu_first() -> None:
    placed = place(4, replace(ONE_GPU, gpu_layers=2))
    assert placed.layers == (HOST, HOST, HOST, "gpu0")
    assert placed.output == "gpu0"
    assert place(4, replace(ONE_GPU, gpu_layers=1)).layers == (HOST,) * 4
    assert not place(4, replace(ONE_GPU, gpu_layers=0)).offloaded
    assert place(4, ONE_GPU).layers == ("gpu0",) * 4


def test_gpus_share_layers_by_their_shares() -> None:
    placed = place(9, replace(ONE_GPU, gpus=2, tensor_split=(3, 1)))
    assert placed.layers.count("gpu0") == 8
    assert (placed.layers[-1], placed.output) == ("gpu1", "gpu1")


def test_offloading_moves_weights_and_cache_and_keeps_their_sum() -> None:
    estimator = Estimator(qwen())
    whole = estimator(ONE_GPU)
    half = estimator(replace(ONE_GPU, gpu_layers=18))
    assert half.gpus[0].weights_bytes < whole.gpus[0].weights_bytes
    assert half.total("weights_bytes") == whole.total("weights_bytes")
    assert half.total("kv_bytes") == whole.total("kv_bytes")


def test_experts_stay_in_host_memory_layer_by_layer() -> None:
    estimator = TABLE.shapes["qwen3-30b-a3b"].estimate
    sizes = [estimator(replace(ONE_GPU, cpu_moe_layers=n)).gpus[0].weights_bytes for n in (0, 1, 24, 48)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[2] == pytest.approx(24 * (sizes[0] - sizes[1]), rel=0.2)
    assert sizes[3] < sizes[0] / 8


# --- what is estimated besides ---------------------------------------------------------------------------------------


def test_projector_and_draft_model_lie_beside_the_model_on_the_gpu() -> None:
    draft = TABLE.shapes["qwen3-0.6b"].header
    plain = estimate(qwen(), ONE_GPU)
    both = estimate(qwen(), ONE_GPU, mmproj=draft, draft=draft)
    assert both.gpus[0].mmproj_bytes == draft.weight_bytes
    assert both.gpus[0].draft_bytes == estimate(draft, ONE_GPU).gpus[0].total_bytes - plain.gpus[0].overhead_bytes
    assert both.host.overhead_bytes == plain.host.overhead_bytes
    assert both.gpus[0].uncertainty_bytes > plain.gpus[0].uncertainty_bytes
    latent = TABLE.shapes["deepseek-v2-lite"].header
    assert "draft model" in estimate(qwen(), replace(ONE_GPU, cache_type_k="q8_0"), draft=latent).reason
    unknown = replace(draft, metadata={})
    assert "draft model" in estimate(qwen(), ONE_GPU, draft=unknown).reason


def test_nextn_layers_are_loaded_only_when_asked_for() -> None:
    estimator = TABLE.shapes["qwen3.5-27b-mtp"].estimate
    without, with_them = estimator(ONE_GPU), estimator(replace(ONE_GPU, mtp=True))
    assert with_them.gpus[0].weights_bytes > without.gpus[0].weights_bytes
    assert with_them.total("kv_bytes") == without.total("kv_bytes")


def test_a_quantized_cache_on_cuda_needs_room_for_an_f16_copy() -> None:
    plain = estimate(qwen(), replace(ONE_GPU, cache_type_k="q8_0", backend=Backend.VULKAN))
    cuda = estimate(qwen(), replace(ONE_GPU, cache_type_k="q8_0"))
    assert cuda.gpus[0].compute_bytes - plain.gpus[0].compute_bytes == 8192 * 1024 * 2


def test_a_larger_setting_never_needs_less() -> None:
    for name in ("qwen3-8b", "gemma-3-12b", "qwen3.5-35b-a3b", "gpt-oss-20b", "mamba2-2.7b"):
        estimator = TABLE.shapes[name].estimate
        totals = [estimator(replace(ONE_GPU, context=1024 * n)).total_bytes or 0 for n in (4, 8, 32, 128)]
        assert totals == sorted(totals)
        totals = [estimator(replace(ONE_GPU, slots=n)).total_bytes or 0 for n in (1, 2, 4)]
        assert totals == sorted(totals)


def test_split_sets_are_estimated_as_one(tmp_path: Path) -> None:
    shape = next(each for each in SHAPES if each.name == "qwen3-0.6b")
    tensors = [(t.name, t.shape, t.type_name) for t in TABLE.shapes[shape.name].header.tensors]
    meta = metadata(shape) | {"split.count": 2, "split.no": 0, "split.tensors.count": len(tensors)}
    first, second = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    write(first, meta, tensors[:100])
    write(second, {"split.count": 2, "split.no": 1, "split.tensors.count": len(tensors)}, tensors[100:])
    headers = [read_header(second), read_header(first)]
    whole = estimate(headers, ONE_GPU)
    assert whole.devices == TABLE.shapes[shape.name].estimate(ONE_GPU).devices
    assert whole.devices == estimate(combine(headers[::-1]), ONE_GPU).devices


@dataclass
class Engine:
    """Settings as a sweep has them."""

    context: int = 16384
    slots: int = 2
    cache_type_k: str = "q8_0"
    cache_type_v: str = "f16"
    flash_attention: str = "auto"
    gpu_layers: int | None = None
    cpu_moe_layers: int | None = None
    batch: int = 2048
    ubatch: int = 256
    mmap: bool = True
    swa_full: bool = False


def test_a_cell_is_predicted_from_its_engine_settings(tmp_path: Path) -> None:
    on_cpu = predict(qwen(), Engine())
    assert on_cpu.gpus == ()
    assert on_cpu.settings == FootprintSettings(context=16384, slots=2, cache_type_k="q8_0", ubatch=256)
    on_gpu = predict(qwen(), Engine(gpu_layers=10), device="gpu")
    assert on_gpu.settings.gpu_layers == 10
    assert on_gpu.gpus[0].weights_bytes > 0
    assert not predict(qwen(), Engine(flash_attention="off")).settings.flash_attention
    path = tmp_path / "model.gguf"
    tensors = [(t.name, t.shape, t.type_name) for t in qwen().tensors]
    write(path, {key: qwen().get(key) for key in qwen().metadata}, tensors)
    assert predict(path, Engine()).devices == on_cpu.devices


def test_repacked_weights_may_be_in_memory_twice_while_the_file_is_mapped() -> None:
    estimator = TABLE.shapes["llama-3.1-8b"].estimate
    mapped, read = estimator(FootprintSettings()), estimator(FootprintSettings(mmap=False))
    assert mapped.repacked_bytes > 2 * 1024**3
    assert mapped.peak_bytes == (mapped.total_bytes or 0) + mapped.repacked_bytes
    assert read.peak_bytes == read.total_bytes == mapped.total_bytes
    assert estimator(FootprintSettings(repack=False)).repacked_bytes == 0
    assert estimator(ONE_GPU).repacked_bytes == 0


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_unknown_architecture_is_unknown_never_a_guess() -> None:
    header = replace(qwen(), metadata={**qwen().metadata, "general.architecture": "qwen9"})
    got = estimate(header, ONE_GPU)
    assert (got.method, got.known, got.devices, got.total_bytes) == ("unknown", False, (), None)
    assert got.total("kv_bytes") is None
    assert "qwen9" in got.reason
    nameless = replace(qwen(), metadata={})
    assert estimate(nameless, ONE_GPU).method == "unknown"
    strange = replace(qwen(), unknown_types=(77,))
    assert "77" in estimate(strange, ONE_GPU).reason


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qwen3.block_count", 0),
        ("qwen3.block_count", 100_000),
        ("qwen3.block_count", "many"),
        ("qwen3.embedding_length", None),
        ("qwen3.embedding_length", -4096),
        ("qwen3.attention.head_count_kv", (8, 8)),
        ("qwen3.attention.head_count_kv", float("nan")),
        ("qwen3.nextn_predict_layers", 36),
    ],
)
def test_a_header_that_makes_no_sense_is_unknown_with_a_reason(key: str, value: Any) -> None:
    changed = dict(qwen().metadata)
    changed[key] = value
    if value is None:
        del changed[key]
    got = estimate(replace(qwen(), metadata=changed), ONE_GPU)
    assert got.method == "unknown"
    assert key.partition(".")[2] in got.reason


def test_missing_tensors_make_it_unknown() -> None:
    kept = tuple(tensor for tensor in qwen().tensors if "attn_output" not in tensor.name)
    assert estimate(replace(qwen(), tensors=kept), ONE_GPU).known
    mamba = TABLE.shapes["mamba2-2.7b"].header
    kept = tuple(tensor for tensor in mamba.tensors if "ssm_conv1d" not in tensor.name)
    got = estimate(replace(mamba, tensors=kept), ONE_GPU)
    assert "ssm_conv1d" in got.reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"context": 0}, "context is 0"),
        ({"slots": 0}, "slots is 0"),
        ({"ubatch": -1}, "ubatch is -1"),
        ({"cache_type_k": "q3_k"}, "no cache type"),
        ({"cache_type_v": "q8_0", "flash_attention": False}, "needs flash attention"),
        ({"backend": Backend.CPU}, "name the backend"),
        ({"gpus": 0}, "at least one GPU"),
        ({"tensor_split": (1.0, 1.0)}, "2 shares"),
        ({"tensor_split": (0.0,)}, "all be zero"),
        ({"gpu_layers": -1}, "gpu_layers is -1"),
    ],
)
def test_settings_that_llama_cpp_refuses_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        estimate(qwen(), replace(ONE_GPU, **change))


def test_cache_types_that_the_engine_refuses_for_a_model_are_never_said_to_fit() -> None:
    latent = TABLE.shapes["deepseek-v2-lite"]
    assert any("different K" in text for text in latent.refused)
    got = latent.estimate(replace(ONE_GPU, cache_type_k="q8_0"))
    assert not got.known
    assert "refuses different types for K and V" in got.reason
    assert latent.estimate(replace(ONE_GPU, cache_type_k="q8_0", cache_type_v="q8_0")).known
    odd = replace(qwen(), metadata={**qwen().metadata, "qwen3.attention.key_length": 80})
    assert "do not divide heads of 80" in estimate(odd, replace(ONE_GPU, cache_type_k="q8_0")).reason
    assert estimate(odd, ONE_GPU).known


VALUES = st.one_of(
    st.none(),
    st.integers(-(1 << 40), 1 << 40),
    st.integers(0, 64),
    st.floats(),
    st.booleans(),
    st.text(max_size=4),
    st.lists(st.integers(-2, 1 << 33), max_size=70).map(tuple),
)


@given(
    name=st.sampled_from(sorted(TABLE.shapes)),
    changes=st.lists(st.tuples(st.integers(0, 60), VALUES), min_size=1, max_size=4),
    dropped=st.sets(st.integers(0, 40), max_size=3),
    gpus=st.integers(0, 2),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_header_brings_the_estimator_down(
    name: str, changes: list[tuple[int, Any]], dropped: set[int], gpus: int
) -> None:
    header = TABLE.shapes[name].header
    changed = dict(header.metadata)
    keys = sorted(key for key in changed if key != "general.architecture")
    for index, value in changes:
        changed[keys[index % len(keys)]] = value
    tensors = tuple(tensor for index, tensor in enumerate(header.tensors) if index not in dropped)
    hostile = replace(header, metadata=changed, tensors=tensors)
    backend = Backend.CUDA if gpus else Backend.CPU
    got = estimate(hostile, FootprintSettings(context=4096, backend=backend, gpus=gpus))
    assert isinstance(got, Footprint)
    assert got.reason or got.total_bytes is not None


def test_the_table_reads_headers_as_the_parser_does(tmp_path: Path) -> None:
    header = qwen()
    tensors = [(t.name, list(t.shape), t.type_name) for t in header.tensors]
    path = tmp_path / "q.gguf"
    size = write(path, dict(header.metadata), [(name, tuple(shape), kind) for name, shape, kind in tensors])
    parsed = read_header(path)
    assert parsed.file_bytes == size
    assert parsed.tensors == header_of(dict(header.metadata), tensors).tensors
