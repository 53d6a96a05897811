"""A node that stood still and was given up by its cluster: the driver on it ends in order and waits for nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.journal import read_journal
from tests.cluster.test_nodes import SPEC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.conftest import RealCluster

pytestmark = [pytest.mark.cluster, pytest.mark.fault, pytest.mark.long]


def test_a_driver_whose_node_was_given_up_ends_in_order(
    tmp_path: Path, tiny_model: Path, ray_cluster: Callable[[int], RealCluster]
) -> None:
    cluster = ray_cluster(1)  # the head's node is the driver's
    spec, out = tmp_path / "given-up.toml", tmp_path / "run"
    spec.write_text(SPEC.format(model=tiny_model, seeds=1000))
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(out), "--address", cluster.address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not any(event["event"] == "committed" for event in read_journal(out / "journal.jsonl") if out.exists()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    cluster.nodes[0].process("raylet").send_signal(signal.SIGSTOP)  # the cluster gives it up after 3 s or so
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 2, text
    assert "Traceback" not in text
    assert "the cluster has given it up" in text
    assert re.search(r"\d+ of 2000 jobs are done and kept\. To go on: ", text)
