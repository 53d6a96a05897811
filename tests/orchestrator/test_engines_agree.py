"""`nodes`, `plan`, `run` and `fits` find one and the same engine, and give a card one and the same name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import events as ev
from orchestrator.expand import expand
from orchestrator.nodes import to_cell_order
from orchestrator.preview import preview
from orchestrator.spec import parse_spec
from orchestrator.terminal import Json
from profiles.probe import probe_node
from quants.fit.oracle import find_program
from runners.engines import get_engine
from runners.engines.base import EngineInfo
from tests.profiles.nvml import build as nvml
from tests.runners import llama_server_program, played_server

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
name = "agree"
seeds = [1]
exams = ["todo"]
[sampling]
max_tokens = 64
[engine]
kind = "llama-server"
context = 2048
{more}
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["TQ1_0"]
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llama-server that only LLAMA_SERVER names, with a planner beside it."""
    folder = tmp_path / "far" / "away"
    folder.mkdir(parents=True)
    program = llama_server_program.install(folder)
    (folder / "llama-fit-params").symlink_to(program)
    monkeypatch.setenv("LLAMA_SERVER", str(program))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.delenv("QUANTSWEEP_MACHINE", raising=False)
    return program


def test_with_only_the_variable_set_all_find_the_same_program(server: Path, tmp_path: Path) -> None:
    """The runner found it, the profile said that the engine was not there, and `fits` asked nobody."""
    profile = probe_node()
    offered = profile.engine("llama-server")
    assert offered is not None
    assert (offered.path, offered.origin, offered.problem) == (str(server), "LLAMA_SERVER", None)
    spec = tmp_path / "sweep.toml"
    spec.write_text(SPEC.format(more=""))
    (page,) = preview(str(spec), as_json=True)
    assert isinstance(page, Json)
    (planned,) = page.value["cells"]
    assert planned["missing"] is None
    assert list(planned["verdicts"]) == ["cpu"]
    text = spec.read_text()
    plan = expand(parse_spec(text, "s.toml"), file="s.toml", text=text, base_dir=tmp_path)
    (cell,) = plan.cells
    order = to_cell_order(plan, cell, ev.StartLease("L1", cell.cell_id, "n", "cpu"), run_id="r", profile=profile)
    assert getattr(order.cell.engine, "binary", None) == str(server)
    there = get_engine("llama-server").available()
    assert isinstance(there, EngineInfo)
    assert there.binary == str(server)
    assert find_program() == server.with_name("llama-fit-params")


def quantsweep(environment: dict[str, str], *words: str) -> tuple[int, Any, str]:
    argv = [sys.executable, "-m", "orchestrator", *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, (json.loads(done.stdout) if "--json" in words and done.stdout else None), done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("more", "device", "backend"),
    [("", "nvidia-", "cuda"), ("devices = 2", "nvidia-0+nvidia-1", "cuda"), ("gpu_layers = 0", "cpu", "cpu")],
)
def test_a_sweep_over_two_cards_that_are_played(tmp_path: Path, more: str, device: str, backend: str) -> None:
    import pyarrow.parquet as pq

    if nvml.compiler() is None:
        pytest.skip("no C compiler: the library that plays NVML cannot be built")
    cards = [nvml.CARDS["rtx-5090"], nvml.CARDS["rtx-5060-ti"]]
    config = nvml.write(nvml.build(tmp_path / "nvml") / "cards.conf", cards)
    environment = {
        **nvml.environment(tmp_path / "nvml", config),
        "LLAMA_SERVER": str(played_server.install(tmp_path)),
        "QUANTSWEEP_LOCKS": "off",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    spec = tmp_path / "sweep.toml"
    spec.write_text(SPEC.format(more=more))
    _, nodes, _ = quantsweep(environment, "nodes", "--json")
    engine = next(each for each in nodes[0]["engines"] if each["kind"] == "llama-server")
    assert [match["how"] for match in engine["matches"]] == ["by its UUID", "by its UUID"]
    _, planned, _ = quantsweep(environment, "plan", str(spec), "--json")
    assert all(name.startswith(device) for name in planned["cells"][0]["verdicts"])
    code, _, said = quantsweep(environment, "run", str(spec), "--out", str(tmp_path / "run"))
    assert code == 0, said
    (row,) = pq.read_table(tmp_path / "run" / "attempts").to_pylist()
    assert row["device"].startswith(device)
    both = more == "devices = 2"
    assert (row["devices"], row["split_mode"], row["tensor_split"]) == (
        (2, "layer", "[32.0,16.0]") if both else (1, None, None)
    )
    assert row["engine_device"] == {"cpu": "CPU", "cuda": "CUDA0,CUDA1" if both else "CUDA0"}[backend]
    assert (row["backend"], row["unmatched_devices"]) == (backend, "[]")
    assert (row["peak_vram_bytes"] is not None) == (backend == "cuda")


@pytest.mark.slow
def test_a_build_that_knows_no_gpu_computes_on_the_cpu_of_a_machine_with_one_only_if_asked(tmp_path: Path) -> None:
    if nvml.compiler() is None:
        pytest.skip("no C compiler: the library that plays NVML cannot be built")
    config = nvml.write(nvml.build(tmp_path / "nvml") / "cards.conf", [nvml.CARDS["rtx-5090"]])
    environment = {
        **nvml.environment(tmp_path / "nvml", config),
        "LLAMA_SERVER": str(llama_server_program.install(tmp_path)),
        "QUANTSWEEP_LOCKS": "off",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    spec = tmp_path / "sweep.toml"
    spec.write_text(SPEC.format(more=""))
    for words in (("plan", str(spec)), ("run", str(spec), "--out", str(tmp_path / "run"))):
        code, _, said = quantsweep(environment, *words)
        assert code == 2
        assert "llama-server cannot be given a GPU of" in said
        assert "set engine.gpu_layers = 0" in said
    named = tmp_path / "named.toml"
    named.write_text(SPEC.format(more=f'binary = "{environment["LLAMA_SERVER"]}"'))
    assert quantsweep(environment, "plan", str(named))[0] == 2, "with engine.binary it ran on the CPU in silence"
    spec.write_text(SPEC.format(more="gpu_layers = 0"))
    assert quantsweep(environment, "plan", str(spec))[0] == 0
