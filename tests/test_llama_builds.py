"""Builds of llama.cpp of ours: what a backend needs is told before anything is fetched, and the best one is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiles.programs import find_llama_server
from tools import llama_backends
from tools.build_llama_cpp import PROGRAMS, destination
from tools.llama_backends import BACKENDS, compilers, lacking

ROOT = Path(__file__).parent.parent


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without compilers and headers; the folder is the only place where they are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("CUDA_PATH", "CUDA_HOME", "ROCM_PATH", "VULKAN_SDK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(llama_backends, "_HEADERS", (str(tmp_path / "include"),))
    monkeypatch.setattr(llama_backends, "_MORE_HEADERS", ())
    return tmp_path


def install(path: Path, mode: int = 0o644, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def test_each_backend_says_what_it_lacks_and_how_to_get_it(bare: Path) -> None:
    said = lacking("vulkan", system="linux")
    assert ["glslc" in said[0], "libvulkan-dev" in said[1], "spirv-headers" in said[2]] == [True] * 3
    install(bare / "bin" / "glslc", 0o755)
    install(bare / "include" / "vulkan" / "vulkan.h")
    assert [line.split(":")[0] for line in lacking("vulkan", system="linux")] == ["no SPIR-V headers"]
    install(bare / "include" / "spirv" / "unified1" / "spirv.hpp")
    assert lacking("vulkan", system="linux") == []
    assert lacking("cpu", system="linux") == []


def test_a_toolkit_in_a_place_of_its_own_is_found(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(bare / "cuda"))
    install(bare / "cuda" / "bin" / "nvcc", 0o755)
    assert [line.split(":")[0] for line in lacking("cuda", system="linux")] == ["no cuBLAS with its headers"]
    install(bare / "cuda" / "include" / "cublas_v2.h")
    assert lacking("cuda", system="linux") == []


def test_a_backend_of_another_system_is_refused() -> None:
    assert lacking("metal", system="linux") == ["metal is for macOS alone"]
    assert lacking("rocm", system="darwin") == ["rocm is for Linux alone"]


def test_the_compiler_of_rocm_is_asked_for(bare: Path) -> None:
    install(bare / "bin" / "hipconfig", 0o755, '#!/bin/sh\n[ "$1" = -l ] && echo /r/llvm/bin || echo /r\n')
    assert compilers("rocm") == {"HIPCXX": "/r/llvm/bin/clang", "HIP_PATH": "/r"}
    assert compilers("cpu") == {}


def test_a_build_for_a_gpu_is_taken_before_the_cpus(tmp_path: Path) -> None:
    order = ["llama-cpp-1", "llama-cpp-1-vulkan", "llama-cpp-1-cuda"]
    for age, name in enumerate(reversed(order)):  # the CPU's is the newest
        program = tmp_path / name / "bin" / "llama-server"
        install(program, 0o755)
        os.utime(program, (1000 + age, 1000 + age))
    for name in reversed(order):
        found = find_llama_server(search_path="", environment={}, builds=tmp_path)
        assert found.path.parent.parent.name == name
        found.path.unlink()


def test_folders_of_backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = {backend: destination(backend, []).name for backend in BACKENDS}
    assert len(set(names.values())) == len(BACKENDS)
    assert names["cuda"].endswith("-cuda")
    assert destination("cuda", ["-DX=1"]).name.startswith(names["cuda"] + "-")
    assert "llama-perplexity" in PROGRAMS


@pytest.mark.parametrize(
    ("words", "said"), [(["opencl"], "'opencl' is no backend"), (["metal"], "metal is for macOS alone")]
)
def test_the_command_ends_with_a_sentence(words: list[str], said: str, tmp_path: Path) -> None:
    if sys.platform == "darwin" and words == ["metal"]:
        pytest.skip("it can be built here")
    done = subprocess.run(
        [sys.executable, "-m", "tools.build_llama_cpp", *words],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
