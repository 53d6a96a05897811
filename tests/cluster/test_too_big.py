"""A sweep on a cluster whose nodes hold only some quants: the others are left out by name, and never fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quants
from results.store import read_run
from tests.hubserver.server import LocalHub

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import RealCluster

pytestmark = [pytest.mark.cluster, pytest.mark.long]

STAND_IN = Path(quants.__file__).parent / "standin"
QUANTS = ("Q2_K", "Q8_0")
SPEC = """\
name = "big"
seeds = [1]
exams = ["todo"]
[sampling]
max_tokens = 60
[engine]
context = 2048
threads = 1
[[models]]
name = "m"
source = "hf:owner/m-GGUF"
quants = {quants}
"""
MACHINE = '[device.cpu]\nmemory = "{memory}"\n'


def test_what_fits_no_node_is_left_out_by_name_until_a_larger_node_is_there(
    tmp_path: Path, ray_cluster: Callable[[int], RealCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, hub_files = tmp_path / "machine.toml", tmp_path / "hf"
    machine.write_text(MACHINE.format(memory="95.5 MB"))  # Q2_K takes 95.0, Q8_0 96.4
    monkeypatch.setenv("QUANTSWEEP_MACHINE", str(machine))
    monkeypatch.setenv("HF_HOME", str(hub_files))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    (tmp_path / "store").mkdir()
    with LocalHub(tmp_path / "store") as hub:
        hub.add("owner/m-GGUF", {f"m-{quant}.gguf": next(STAND_IN.glob(f"*{quant}*.gguf")) for quant in QUANTS})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        cluster = ray_cluster(1)

        def quantsweep(command: str, wanted: str, *more: str) -> subprocess.CompletedProcess[str]:
            spec = tmp_path / "big.toml"
            spec.write_text(SPEC.format(quants=wanted))
            return subprocess.run(
                [sys.executable, "-m", "orchestrator", command, str(spec), "--address", cluster.address, *more],
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
                env=dict(os.environ),
            )

        def sweep(wanted: str) -> subprocess.CompletedProcess[str]:
            return quantsweep("run", wanted, "--out", str(tmp_path / wanted.strip('["]')))

        def fetched() -> set[str]:
            return {path.name for path in hub_files.rglob("snapshots/*/*.gguf")}

        planned = quantsweep("plan", '"all"', "--json")
        assert planned.returncode == 0, planned.stderr
        assert {cell["quant"]: cell["jobs"] for cell in json.loads(planned.stdout)["cells"]} == {"Q2_K": 1, "Q8_0": 0}

        named = sweep('["Q8_0"]')
        assert named.returncode == 2
        assert "no node of the cluster can hold what the spec asks for:" in named.stderr
        assert "m Q8_0: " in named.stderr
        assert "m-Q8_0.gguf" not in fetched()

        done = sweep('"all"')
        assert done.returncode == 0, done.stderr
        assert "m Q8_0 is left out unless a larger node joins: " in done.stderr
        assert fetched() == {"m-Q2_K.gguf"}
        assert read_run(tmp_path / "all").table["quant"].to_pylist() == ["Q2_K"]

        # The head of a larger machine: the same command goes on with what is left.
        machine.write_text(MACHINE.format(memory="1 GB"))
        more = sweep('"all"')
        assert more.returncode == 0, more.stderr
        assert "left out" not in more.stderr
        assert sorted(read_run(tmp_path / "all").table["quant"].to_pylist()) == ["Q2_K", "Q8_0"]
