"""A user's own exam over a cluster of several nodes on one host, one of which lacks the toolchain that it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.journal import read_journal
from results.store import read_run
from runners.exams.folder.new import new_exam

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import RealCluster

pytestmark = [pytest.mark.cluster, pytest.mark.long]

SPEC = """\
name = "own"
seeds = "1-6"
exams = ["./sums"]
sampling = {{ max_tokens = 64 }}
engine = {{ context = 1024, threads = 1 }}
[[models]]
name = "tiny"
source = {model}
"""
COMPILERS = {"cc", "gcc", "clang", "c99", "c89"}


def without_compilers(folder: Path) -> str:
    """A search path with everything that ours has but C compilers."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in sorted(Path(place).iterdir()) if Path(place).is_dir() else []:
            if program.name not in COMPILERS and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return str(folder)


def test_a_node_without_the_toolchain_gets_none_of_its_jobs_and_the_others_do_them_all(
    tmp_path: Path, tiny_model: Path, ray_cluster: Callable[[int], RealCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler that a node could lack")
    cluster = ray_cluster(2)
    with monkeypatch.context() as poor:
        poor.setenv("PATH", without_compilers(tmp_path / "bin"))
        lacking = cluster.add_node().node_id
    new_exam(tmp_path / "sums", language="c")
    spec = tmp_path / "own.toml"
    spec.write_text(SPEC.format(model=json.dumps(str(tiny_model))))
    words = ["run", str(spec), "--out", str(tmp_path / "run"), "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_run(tmp_path / "run").table.to_pylist()
    assert sorted(row["seed"] for row in rows if row["final"]) == [1, 2, 3, 4, 5, 6]
    assert {row["exam_check"] for row in rows} == {"ok"}
    leases = [event for event in read_journal(tmp_path / "run" / "journal.jsonl") if event["event"] == "lease_started"]
    assert leases
    assert lacking not in {event["node_id"] for event in leases}
    assert "it is given no jobs of the exam sums" in done.stdout + done.stderr
