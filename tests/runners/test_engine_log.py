"""llama.cpp's log: buffers of every kind of model, and the reason a load failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.engines.llama_log import diagnose, parse_buffers, read_log
from runners.vitals import memory_kills

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024

ON_A_GPU = """
0.01.000.000 I load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
0.03.000.000 I load_tensors:   CPU_Mapped model buffer size =   682.03 MiB
0.03.000.000 I load_tensors:        CUDA0 model buffer size =  6776.91 MiB
0.03.100.000 I llama_context: constructing llama_context
0.03.100.000 I llama_context:  CUDA_Host  output buffer size =     0.58 MiB
0.03.200.000 I llama_kv_cache:      CUDA0 KV buffer size =  2176.00 MiB
0.03.300.000 I sched_reserve:      CUDA0 compute buffer size =   304.75 MiB
0.03.300.000 I sched_reserve:  CUDA_Host compute buffer size =    40.01 MiB
"""


def test_a_model_on_a_gpu() -> None:
    buffers = parse_buffers(ON_A_GPU)
    assert buffers is not None
    assert buffers.model_bytes == {"CPU_Mapped": round(682.03 * MIB), "CUDA0": round(6776.91 * MIB)}
    assert buffers.kv_bytes == {"CUDA0": 2176 * MIB}
    assert buffers.compute_bytes == {"CUDA0": round(304.75 * MIB), "CUDA_Host": round(40.01 * MIB)}
    assert buffers.output_bytes == {"CUDA_Host": round(0.58 * MIB)}
    assert buffers.recurrent_bytes is None
    assert buffers.total_bytes()["CUDA0"] == round(6776.91 * MIB) + 2176 * MIB + round(304.75 * MIB)


def test_caches_of_one_context_add_up() -> None:
    """A sliding window: one cache for the layers with it, one for the others. Compute is reserved anew: the last."""
    buffers = parse_buffers("""
llama_context: constructing llama_context
llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells
llama_kv_cache:      CUDA0 KV buffer size =   128.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 1536 cells
llama_kv_cache:      CUDA0 KV buffer size =   144.00 MiB
sched_reserve:      CUDA0 compute buffer size =   500.00 MiB
sched_reserve:      CUDA0 compute buffer size =   517.00 MiB
""")
    assert buffers is not None
    assert buffers.kv_bytes == {"CUDA0": 272 * MIB}
    assert buffers.compute_bytes == {"CUDA0": 517 * MIB}


def test_a_hybrid_has_a_cache_and_a_state() -> None:
    buffers = parse_buffers("""
llama_context: constructing llama_context
llama_kv_cache:        CPU KV buffer size =    96.00 MiB
llama_memory_recurrent:        CPU RS buffer size =    62.81 MiB
""")
    assert buffers is not None
    assert buffers.kv_bytes == {"CPU": 96 * MIB}
    assert buffers.recurrent_bytes == {"CPU": round(62.81 * MIB)}


def test_probes_come_first_and_do_not_count() -> None:
    probe = ON_A_GPU.replace("2176.00", "0.00").replace("304.75", "310.00").replace("6776.91", "0.00")
    assert parse_buffers(probe * 3 + ON_A_GPU) == parse_buffers(ON_A_GPU)


def test_a_draft_model_does_not_take_the_place_of_the_model() -> None:
    draft = ON_A_GPU.replace("2176.00", "64.00").replace("304.75", "90.00").replace("6776.91", "400.00")
    assert parse_buffers(ON_A_GPU + draft) == parse_buffers(ON_A_GPU)


def test_several_gpus() -> None:
    buffers = parse_buffers("""
load_tensors: loading model tensors, this can take a while...
load_tensors:        CUDA0 model buffer size =  5000.00 MiB
load_tensors:        CUDA1 model buffer size =  4000.00 MiB
llama_context: constructing llama_context
llama_kv_cache:      CUDA0 KV buffer size =   100.00 MiB
llama_kv_cache:      CUDA1 KV buffer size =    80.00 MiB
""")
    assert buffers is not None
    assert buffers.total_bytes() == {"CUDA0": 5100 * MIB, "CUDA1": 4080 * MIB}


@pytest.mark.parametrize("log", ["", "nothing of the kind\n", "model buffer size = many MiB"])
def test_a_log_without_buffers(log: str) -> None:
    assert parse_buffers(log) is None


@given(st.text(max_size=300) | st.lists(st.sampled_from(ON_A_GPU.splitlines())).map("\n".join))
@settings(deadline=None)
def test_any_log(log: str) -> None:
    buffers = parse_buffers(log)
    assert buffers is None or all(size >= 0 for size in buffers.total_bytes().values())
    assert diagnose(log, 1).sentence


@pytest.mark.parametrize(
    ("line", "exit_code", "reason"),
    [
        ("0.01.0 E llama_model_load: error loading model: unknown model architecture: 'x'", 1, "unknown_architecture"),
        ("0.01.0 E alloc: allocating 9000 MiB on device 0: cudaMalloc failed: out of memory", 1, "out_of_memory"),
        ("0.01.0 E llama_kv_cache: failed to allocate buffer for kv cache", 1, "out_of_memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", -6, "out_of_memory"),
        ("0.01.0 E gguf_init_from_reader: invalid magic characters: 'garb', expected 'GGUF'", 1, "bad_file"),
        ("error: invalid argument: --foo", 1, "bad_settings"),
        ("0.01.0 E llama_init_from_model: quantized V cache requires flash_attn to be enabled", 1, "refused_here"),
        ("0.01.0 E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 80", 1, "port_taken"),
        ("0.01.0 E gguf_init_from_file: failed to open GGUF file 'm.gguf' (No such file or directory)", 1, "no_file"),
        ('error while handling argument "--device": invalid device: CUDA0', 1, "refused_here"),
        ("ggml_cuda_compute_forward: no kernel image is available for execution on the device", -6, "bad_build"),
        ("./llama-server: error while loading shared libraries: libcudart.so.13: cannot open", 127, "bad_build"),
        ("0.01.0 E llama_model_load: error loading model: missing tensor 'blk.1.x'", 1, "unknown_architecture"),
        ("0.01.0 E srv load_model: failed to load model, 'm.gguf'", 1, "exited"),
        ("0.01.0 E gguf_init_from_reader: tensor 'a' has invalid ggml type 99", 1, "unknown_architecture"),
        ("0.01.0 E something nobody has seen before", 1, "exited"),
        ("", -9, "out_of_memory"),
        ("", -4, "bad_build"),
        ("", -11, "exited"),
        ("", 3, "exited"),
        ("", None, "exited"),
    ],
)  # fmt: skip
def test_why_a_load_failed(line: str, exit_code: int | None, reason: str) -> None:
    log = f"0.00.9 I llama_model_loader: - kv 0: general.description str = out of memory, invalid magic\n{line}\n"
    why = diagnose(log, exit_code)
    assert why.reason == reason
    assert why.hint
    if line:
        assert why.sentence in line
        assert not why.sentence.startswith("0.01")
    else:
        assert "out of memory" not in why.sentence


def test_a_line_without_end_is_cut() -> None:
    why = diagnose("0.01.0 E llama_model_load: unknown model architecture: '" + "x" * 100_000, 1)
    assert why.reason == "unknown_architecture"
    assert len(why.sentence) < 500


@pytest.mark.parametrize(
    ("memory_kills", "reason", "word"),
    [
        (0, "exited", "not by the kernel"),
        (1, "out_of_memory", "want of memory"),
        (None, "out_of_memory", "most likely"),
    ],
)
def test_a_kill_is_put_down_to_memory_only_where_the_kernel_counted_one(
    memory_kills: int | None, reason: str, word: str
) -> None:
    why = diagnose("0.01.0 I load_tensors: loading model tensors\n", -9, memory_kills)
    assert why.reason == reason
    assert word in why.sentence


def test_the_kernel_counts_its_kills(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    assert memory_kills(vmstat) is None
    vmstat.write_text("nr_free_pages 1\noom_kill 28\n", encoding="ascii")
    assert memory_kills(vmstat) == 28
    vmstat.write_text("nr_free_pages 1\n", encoding="ascii")
    assert memory_kills(vmstat) is None


def test_reading_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_log(log) == ""
    log.write_bytes(b"caf\xe9\n" + b"x" * (9 * MIB))
    assert read_log(log).startswith("caf\ufffd\n")
    assert len(read_log(log)) == 8 * MIB
