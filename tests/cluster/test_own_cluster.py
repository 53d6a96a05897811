"""A cluster that we start for this machine alone: who can reach it, and what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.cluster.heads import ray_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster

PROGRAM = """
import json, os, sys
from pathlib import Path
import psutil
from orchestrator.cluster import connect
with connect(None) as cluster:
    import ray
    node, = cluster.nodes()
    agent = cluster.start_agent(node, "own")
    hello = ray.get(agent.hello.remote(), timeout=90)
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    listening = []
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    for process in family:
        listening += [each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"]
    print(json.dumps({
        "listening": listening,
        "folder": str(folder),
        "private": [str(each) for each in folder.parents if each.stat().st_mode & 0o777 == 0o700],
        "notes": hello.notes,
        "processes": [process.pid for process in family[1:]],
        "janitors": [process.pid for process in family[1:] if "janitor.py" in " ".join(process.cmdline())],
    }), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qst-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def started(base: Path, **environment: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ray_environment(TMPDIR=str(base), **environment),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return process, json.loads(line)


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_our_own_cluster_is_out_of_reach_and_leaves_nothing(base: Path) -> None:
    process, said = started(base, RAY_AUTH_MODE="disabled", RAY_ADDRESS="192.0.2.1:6379")
    assert len(said["listening"]) > 3
    assert {ip.removeprefix("::ffff:") for ip in said["listening"]} == {"127.0.0.1"}
    assert Path(said["folder"]).is_relative_to(base)
    assert [Path(each).parent for each in said["private"] if Path(each) != base] == [base]
    assert said["notes"] == [] or (os.getuid() and "niceness" in str(said["notes"]))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not err.strip(), "Ray says nothing of its own"
    until_gone(said["processes"])
    assert list(base.iterdir()) == []


@pytest.mark.slow
def test_one_after_the_other_in_one_process(base: Path) -> None:
    """Ray keeps the first token that it read."""
    once = "    with connect(None) as cluster: print(len(cluster.nodes()))"
    done = subprocess.run(
        [sys.executable, "-c", f"from orchestrator.cluster import connect\nfor _ in range(2):\n{once}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=ray_environment(TMPDIR=str(base)),
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.slow
@pytest.mark.fault
def test_a_killed_driver_leaves_nothing_either(base: Path) -> None:
    """Two of Ray's helpers would go on for a minute, and the folder for ever."""
    process, said = started(base)
    process.kill()
    process.communicate()
    until_gone(said["processes"])
    until_gone(said["janitors"])
    assert list(base.iterdir()) == []
