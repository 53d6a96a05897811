"""The oracle: what is asked of the engine's planner, what is made of its answer, and how it fails."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from quants.fit.oracle import DryLoadError, HeaderFile, dry_load, find_program, header_files
from quants.footprint import Backend, FootprintSettings, estimate
from tools.fit_truth.table import MIB, load
from tools.fit_truth.write import write

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load()
SETTINGS = FootprintSettings(context=4096)

# Stands in for the program: answers as it does, and writes down how it was called.
PROGRAM = """\
#!/usr/bin/env python3
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
if "--version" in sys.argv:
    print("version: 1.2 (build 9, commit abc)", file=sys.stderr)
elif "--help" in sys.argv:
    print("--no-repack --device --n-cpu-moe --tensor-split --swa-full --no-kv-offload")
else:
    path = sys.argv[sys.argv.index("-m") + 1]
    folder = sorted(os.listdir(os.path.dirname(path)))
    calls = os.path.join(here, "calls.jsonl")
    with open(calls, "a") as file:
        state = os.stat(path)
        call = {"argv": sys.argv[1:], "size": state.st_size, "disk": state.st_blocks * 512, "folder": folder}
        file.write(json.dumps(call) + chr(10))
    count = len(open(calls).readlines())
    exec(open(os.path.join(here, "behaviour")).read())
"""


class Planner:
    """A program of our own, with a behaviour for each test."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "llama-fit-params"
        self.path.write_text(PROGRAM)
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.answer("print('Host 100 20 30 ')")

    def answer(self, code: str) -> None:
        (self.path.parent / "behaviour").write_text(code)

    def calls(self) -> list[dict[str, object]]:
        lines = self.path.parent / "calls.jsonl"
        return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Planner(folder)


@pytest.fixture
def model(tmp_path: Path) -> tuple[HeaderFile, ...]:
    header = TABLE.shapes["qwen3-0.6b"].header
    path = tmp_path / "model.gguf"
    write(path, dict(header.metadata), [(t.name, t.shape, t.type_name) for t in header.tensors])
    return header_files([path])


def test_only_the_header_is_kept_of_a_file(model: tuple[HeaderFile, ...]) -> None:
    assert len(model[0].data) < 100_000
    assert model[0].file_bytes > 300_000_000


def test_the_answer_becomes_a_footprint(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    planner.answer("print('Host 100 20 300 ')")
    got = dry_load(model, SETTINGS, program=planner.path)
    host = got.host
    assert got.method == "engine"
    assert "1.2 (build 9, commit abc)" in got.reason
    # Rounded down by the program, so up by us; logits of the whole batch taken off.
    assert (host.weights_bytes, host.kv_bytes) == (101 * MIB, 21 * MIB)
    with_batch = estimate(TABLE.shapes["qwen3-0.6b"].header, replace(SETTINGS, outputs=2048))
    plain = estimate(TABLE.shapes["qwen3-0.6b"].header, SETTINGS)
    assert host.compute_bytes == 301 * MIB - (with_batch.host.compute_bytes - plain.host.compute_bytes)
    assert with_batch.host.compute_bytes - plain.host.compute_bytes > 200 * MIB


def test_the_file_it_reads_is_sparse_and_gone_afterwards(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    dry_load(model, SETTINGS, program=planner.path)
    call = planner.calls()[0]
    assert call["size"] == model[0].file_bytes
    assert isinstance(call["disk"], int)
    assert call["disk"] < 1_000_000
    argv = call["argv"]
    assert isinstance(argv, list)
    assert not os.path.exists(argv[argv.index("-m") + 1])  # noqa: PTH110 - a string from the other process


def test_settings_become_flags(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    planner.answer("print('CUDA0 90 10 40 '); print('Host 10 0 5 ')")
    settings = FootprintSettings(
        context=8192,
        slots=2,
        cache_type_k="q8_0",
        flash_attention=False,
        ubatch=256,
        backend=Backend.CUDA,
        gpus=1,
        gpu_layers=7,
        cpu_moe_layers=3,
    )
    got = dry_load(model, settings, program=planner.path)
    assert [part.device for part in got.devices] == ["host", "gpu0"]
    assert got.gpus[0].weights_bytes == 91 * MIB
    assert got.host.kv_bytes == 0
    text = " ".join(map(str, planner.calls()[0]["argv"]))  # type: ignore[call-overload]  # a list, by construction
    for part in (
        "-c 16384 -np 2",
        "-ub 256",
        "-ctk q8_0 -ctv f16",
        "-fa off",
        "-ngl 7",
        "--n-cpu-moe 3",
        "--no-repack",
    ):
        assert part in text
    assert "--device" not in text


def test_all_shards_lie_beside_each_other(planner: Planner, tmp_path: Path) -> None:
    header = TABLE.shapes["qwen3-0.6b"].header
    tensors = [(t.name, t.shape, t.type_name) for t in header.tensors]
    paths = [tmp_path / f"m-0000{index + 1}-of-00002.gguf" for index in range(2)]
    split = {"split.count": 2, "split.tensors.count": len(tensors)}
    write(paths[0], {**header.metadata, **split, "split.no": 0}, tensors[:50])
    write(paths[1], {**split, "split.no": 1}, tensors[50:])
    dry_load(header_files(paths), SETTINGS, program=planner.path)
    assert planner.calls()[0]["folder"] == [path.name for path in paths]


def test_an_answer_is_asked_for_once(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    first = dry_load(model, SETTINGS, program=planner.path)
    assert dry_load(model, SETTINGS, program=planner.path) == first
    assert len(planner.calls()) == 1
    dry_load(model, replace(SETTINGS, context=8192), program=planner.path)
    dry_load([replace(model[0], file_bytes=model[0].file_bytes + 1)], SETTINGS, program=planner.path)
    assert len(planner.calls()) == 3


def test_a_spoilt_cache_is_asked_again(planner: Planner, model: tuple[HeaderFile, ...], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dry_load(model, SETTINGS, program=planner.path, cache=cache)
    for text in ("", "[]", '{"format": 0}', '{"format": 1, "rows": {"Host": [1]}}'):
        for path in cache.iterdir():
            path.write_text(text)
        dry_load(model, SETTINGS, program=planner.path, cache=cache)
    assert len(planner.calls()) == 5


def test_a_cache_that_cannot_be_written_is_no_error(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    dry_load(model, SETTINGS, program=planner.path, cache=planner.path / "no-folder")


def test_it_is_run_again_when_it_ends_before_it_has_spoken(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    planner.answer("print('Host 100 20 300 ') if count > 2 else None")
    assert dry_load(model, SETTINGS, program=planner.path).known
    assert len(planner.calls()) == 3


def test_it_is_not_run_for_ever(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    planner.answer("pass")
    with pytest.raises(DryLoadError, match="gave no plan"):
        dry_load(model, SETTINGS, program=planner.path)
    assert len(planner.calls()) == 3


def test_the_first_error_of_its_log_is_the_reason(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    lines = ["0.00.001 I hello", "0.00.002 E unknown model architecture: 'novel'", "0.00.003 E failed to load model"]
    planner.answer(f"print({chr(10).join(lines)!r}, file=sys.stderr); sys.exit(1)")
    with pytest.raises(DryLoadError, match="unknown model architecture: 'novel'"):
        dry_load(model, SETTINGS, program=planner.path)
    assert len(planner.calls()) == 1


def test_fewer_gpus_than_wanted_is_said(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    with pytest.raises(DryLoadError, match="sees 0 GPUs"):
        dry_load(model, replace(SETTINGS, backend=Backend.CUDA, gpus=1), program=planner.path)


def test_a_flag_that_the_build_lacks_is_named(planner: Planner, model: tuple[HeaderFile, ...]) -> None:
    with pytest.raises(DryLoadError, match="has no --kv-unified"):
        dry_load(model, replace(SETTINGS, slots=2, unified_kv=True), program=planner.path)


def test_a_program_that_is_not_there_is_explained(
    model: tuple[HeaderFile, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(DryLoadError, match="cannot be used"):
        dry_load(model, SETTINGS, program=tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LLAMA_SERVER", raising=False)
    with pytest.raises(DryLoadError, match=r"llama-fit-params is not here.*install"):
        find_program()


def test_the_program_beside_the_server_is_preferred(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_program(planner.path.with_name("llama-server")) == planner.path
    monkeypatch.delenv("LLAMA_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(planner.path.parent))
    assert find_program() == planner.path


def test_a_program_that_is_something_else_is_not_used(model: tuple[HeaderFile, ...], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(DryLoadError, match="does not say its version"):
        dry_load(model, SETTINGS, program=other)


@pytest.mark.skipif(shutil.which("llama-fit-params") is None, reason="llama-fit-params is not on PATH")
@pytest.mark.parametrize("name", ["qwen3-0.6b", "gemma-3n-e4b", "lfm2-1.2b"])
def test_the_real_program_agrees_with_the_estimate(name: str, tmp_path: Path) -> None:
    header = TABLE.shapes[name].header
    path = tmp_path / "model.gguf"
    write(path, dict(header.metadata), [(t.name, t.shape, t.type_name) for t in header.tensors])
    settings = replace(SETTINGS, mmap=False, repack=False)
    engine = dry_load(header_files([path]), settings).host
    own = estimate(header, settings).host
    assert engine.weights_bytes == pytest.approx(own.weights_bytes, abs=MIB)
    assert engine.kv_bytes == pytest.approx(own.kv_bytes + own.state_bytes, abs=MIB)
    assert engine.compute_bytes == pytest.approx(own.compute_bytes, abs=32 * MIB)
