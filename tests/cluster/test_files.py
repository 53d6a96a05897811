"""Files of grades come over a real cluster, from nodes that are killed too: each row has its own, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from results.files import RunFiles, named_files
from results.store import read_run
from tests.cluster.test_nodes import events, finish, until
from tests.runners.exams.sketch import PICTURE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import RealCluster

pytestmark = [pytest.mark.cluster, pytest.mark.fault, pytest.mark.long]

SPEC = """\
name = "files"
seeds = "1-{seeds}"
exams = ["sketch"]
[sampling]
max_tokens = 250
[engine]
context = 512
threads = 1
[[models]]
name = "tiny"
source = "{model}"
"""
REGISTER = """\
import runners.exams
runners.exams._EXAMS["sketch"] = "tests.runners.exams.sketch"
"""
"""What every Python process of the cluster does first: it has the tests' exam, as if it were one of ours."""


def start(folder: Path, model: Path, address: str, seeds: int) -> subprocess.Popen[str]:
    spec = folder / "files.toml"
    spec.write_text(SPEC.format(model=model, seeds=seeds))
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(folder / "run"), "--address", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_files(folder: Path, rows: list[dict[str, Any]]) -> None:
    kept = RunFiles(folder / "run")
    for row in rows:
        found = {file.name: kept.read(file.sha256) for file in named_files(row["files"])}
        said = f"grader 1\n{row['reply']}".encode(errors="replace")
        assert found == {"reply.txt": said, "picture.svg": PICTURE.data}
    assert not list((folder / "run" / "files").glob(".*"))


def test_files_of_grades_survive_an_agent_and_a_driver_that_are_killed(
    tmp_path: Path,
    tiny_model: Path,
    ray_cluster: Callable[[int], RealCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psutil

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REGISTER)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), root]))
    cluster = ray_cluster(1)
    process = start(tmp_path, tiny_model, cluster.address, seeds=12)
    until(lambda: len(events(tmp_path, "committed")) > 1, "two rows")
    state = os.environ["QUANTSWEEP_STATE"]
    named = [
        found for found in psutil.process_iter(["cmdline"]) if "ray::NodeAgent" in " ".join(found.info["cmdline"] or [])
    ]
    (agent,) = [found for found in named if found.environ().get("QUANTSWEEP_STATE") == state]
    agent.kill()
    before = len(events(tmp_path, "committed"))
    until(lambda: len(events(tmp_path, "committed")) > before, "a row of the agent that came after it")
    process.kill()
    process.communicate()
    check_files(tmp_path, [row for row in read_run(tmp_path / "run").table.to_pylist() if row["score"] is not None])
    process = start(tmp_path, tiny_model, cluster.address, seeds=12)
    rows = finish(process, tmp_path)
    check_files(tmp_path, [row for row in rows if row["score"] is not None])
    assert len([row for row in rows if row["final"] and row["score"] is not None]) == 12
