"""Sweeps on real Ray clusters of several nodes on one host: sharing the work, losing a node, joining late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.journal import read_journal
from orchestrator.plan import Plan
from profiles.probe.needs import NEEDS
from results.store import read_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.conftest import RealCluster

pytestmark = pytest.mark.cluster

SPEC = """\
name = "nodes"
seeds = "1-{seeds}"
exams = ["todo"]
[sampling]
max_tokens = 650
[engine]
context = 1024
threads = 1
[[models]]
name = "tiny"
source = "{model}"
[[models.variants]]
name = "warm"
[[models.variants]]
name = "cold"
sampling = {{ temperature = 0.0 }}
"""


def start(folder: Path, model: Path, address: str, seeds: int = 4) -> subprocess.Popen[str]:
    spec = folder / "nodes.toml"
    spec.write_text(SPEC.format(model=model, seeds=seeds))
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(folder / "run"), "--address", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], folder: Path) -> list[dict[str, Any]]:
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    rows: list[dict[str, Any]] = read_run(folder / "run").table.to_pylist()
    plan = Plan.from_json((folder / "run" / "plan.json").read_text())
    finals = Counter(row["job_id"] for row in rows if row["final"])
    assert finals == Counter(job.job_id for job in plan.jobs)
    return rows


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [dict(event) for event in read_journal(folder / "run" / "journal.jsonl") if event["event"] == name]


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.1)


def test_two_nodes_share_the_cells(tmp_path: Path, tiny_model: Path, ray_cluster: Callable[[int], RealCluster]) -> None:
    cluster = ray_cluster(2)
    finish(start(tmp_path, tiny_model, cluster.address), tmp_path)
    assert len({event["node_id"] for event in events(tmp_path, "lease_started")}) == 2


@pytest.mark.fault
@pytest.mark.long
def test_a_node_that_dies_costs_no_job(
    tmp_path: Path, tiny_model: Path, ray_cluster: Callable[[int], RealCluster]
) -> None:
    cluster = ray_cluster(2)
    process = start(tmp_path, tiny_model, cluster.address, seeds=20)
    until(lambda: len(events(tmp_path, "lease_started")) >= 2 and events(tmp_path, "committed"), "two leases")
    worker = cluster.nodes[1].node_id
    cluster.nodes[1].process("raylet").kill()
    finish(process, tmp_path)
    assert [event["node_id"] for event in events(tmp_path, "node_lost")] == [worker]


@pytest.mark.long
def test_a_node_that_joins_late_is_used(
    tmp_path: Path, tiny_model: Path, ray_cluster: Callable[[int], RealCluster]
) -> None:
    cluster = ray_cluster(1)
    process = start(tmp_path, tiny_model, cluster.address, seeds=60)
    until(lambda: events(tmp_path, "committed"), "the first row")
    late = cluster.add_node().node_id
    finish(process, tmp_path)
    assert late in {event["node_id"] for event in events(tmp_path, "lease_started")}


@pytest.mark.fault
@pytest.mark.long
def test_an_agent_that_dies_is_replaced(
    tmp_path: Path, tiny_model: Path, ray_cluster: Callable[[int], RealCluster]
) -> None:
    import psutil

    cluster = ray_cluster(1)
    process = start(tmp_path, tiny_model, cluster.address, seeds=6)
    until(lambda: events(tmp_path, "committed"), "the first row")
    state = os.environ["QUANTSWEEP_STATE"]
    agents = [
        p for p in psutil.process_iter(["name", "cmdline"]) if "ray::NodeAgent" in " ".join(p.info["cmdline"] or [])
    ]
    mine = [p for p in agents if p.environ().get("QUANTSWEEP_STATE") == state]
    assert len(mine) == 1
    mine[0].kill()
    finish(process, tmp_path)
    assert len(events(tmp_path, "node_joined")) == 2


@pytest.mark.long
def test_every_node_of_a_cluster_says_what_it_has(ray_cluster: Callable[[int], RealCluster]) -> None:
    cluster = ray_cluster(2)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "nodes", "--json", "--address", cluster.address],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    profiles = json.loads(done.stdout)
    assert len(profiles) == 2
    assert all(device["memory_total_bytes"] for profile in profiles for device in profile["devices"])
    assert all({need["name"] for need in profile["needs"]} == set(NEEDS) for profile in profiles)
