"""A model that fits no card of a cluster whole: what stays in host memory is settled by the nodes, for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quants
from quants.footprint import Backend, FootprintSettings, estimate
from quants.gguf import read_header
from results.store import read_run
from tests.profiles.nvml import build as nvml
from tests.runners import played_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import RealCluster

pytestmark = [pytest.mark.cluster, pytest.mark.long]

STAND_IN = Path(quants.__file__).parent / "standin" / "standin-TQ1_0.gguf"
CONTEXT = 163840
RUN = (sys.executable, "-m", "orchestrator", "run")
SPEC = f"""\
name = "part"
seeds = SEEDS
exams = ["todo"]
[sampling]
max_tokens = 40
[engine]
kind = "llama-server"
context = {CONTEXT}
offload = "auto"
[[models]]
name = "m"
source = "builtin:stand-in"
quants = ["TQ1_0"]
"""


def card(gib: int) -> dict[str, object]:
    return {**nvml.CARDS["rtx-5060-ti"], "total": gib * nvml.GIB, "used": 0}


def test_the_model_fits_a_gibibyte_only_in_part() -> None:
    def needed(layers: int | None) -> int:
        settings = FootprintSettings(context=CONTEXT, backend=Backend.CUDA, gpus=1, gpu_layers=layers)
        return estimate(read_header(STAND_IN), settings).gpus[0].safe_bytes

    assert needed(1) < nvml.GIB < needed(None)


@pytest.mark.skipif(nvml.compiler() is None, reason="no C compiler: the library that plays NVML cannot be built")
def test_layers_that_do_not_fit_the_card_of_a_node_stay_in_its_host_memory(
    tmp_path: Path, ray_cluster: Callable[[int], RealCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = nvml.write(nvml.build(tmp_path / "nvml") / "cards.conf", [card(1)])
    for name, value in nvml.environment(tmp_path / "nvml", config).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLAMA_SERVER", str(played_server.install(tmp_path)))
    cluster = ray_cluster(1)
    spec = tmp_path / "part.toml"

    def sweep(seeds: str) -> subprocess.CompletedProcess[str]:
        spec.write_text(SPEC.replace("SEEDS", seeds))
        return subprocess.run(
            [*RUN, str(spec), "--address", cluster.address, "--out", str(tmp_path / "run")],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env=dict(os.environ),
        )

    first = sweep("[1]")
    assert first.returncode == 0, first.stderr
    (row,) = read_run(tmp_path / "run").table.to_pylist()
    assert (row["offload"], row["device"]) == ("layers", "nvidia-0")
    assert row["gpu_layers"] == 1
    # With more memory a plan made anew would leave nothing on the host, and rows could not be compared.
    nvml.write(config, [card(2)])
    grown = sweep("[1, 2]")
    assert grown.returncode == 0, grown.stderr
    rows = read_run(tmp_path / "run").table.to_pylist()
    assert sorted(row["seed"] for row in rows) == [1, 2]
    assert {row["gpu_layers"] for row in rows} == {row["gpu_layers"]}
