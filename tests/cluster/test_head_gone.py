"""The cluster's head is killed or stopped in the middle of a sweep: it ends in order, soon, with everything kept."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from orchestrator.journal import read_journal
from results.store import read_run
from tests.cluster.heads import TOKEN, ray_environment, real_head

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.fault, pytest.mark.slow]

SPEC = """\
name = "headless"
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
"""


def engines() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("QUANTSWEEP_STATE") == os.environ["QUANTSWEEP_STATE"]
            if mine and "embedded_child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def started(folder: Path, model: Path, address: str, seeds: int) -> subprocess.Popen[str]:
    """A sweep on the cluster, which has committed its first row."""
    spec, out = folder / "headless.toml", folder / "run"
    spec.write_text(SPEC.format(model=model, seeds=seeds))
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(out), "--address", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ray_environment(RAY_AUTH_TOKEN=TOKEN),
    )
    deadline = time.monotonic() + 120
    while not any(event["event"] == "committed" for event in _journal(out)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def _journal(out: Path) -> list[dict[str, object]]:
    path = out / "journal.jsonl"
    return [dict(event) for event in read_journal(path)] if path.exists() else []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_sweep_whose_head_is_gone_ends_in_order(tmp_path: Path, tiny_model: Path, how: signal.Signals) -> None:
    with real_head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        process = started(tmp_path, tiny_model, head.address, seeds=1000)
        head.process("gcs_server").send_signal(how)
        begun = time.monotonic()
        text, _ = process.communicate(timeout=180)
        assert process.returncode == 2, text
        assert time.monotonic() - begun < 120
        assert f"error: {head.address}: the cluster's head is gone: it" in text
        assert re.search(r"To go on: .* run ", text)
        assert "Traceback" not in text
        assert "(raylet)" not in text, "Ray's own lines"
        assert not engines(), "they end with the sweep, not with the head"
    kept = read_run(tmp_path / "run")
    assert not kept.torn
    finals = Counter(row["job_id"] for row in kept.table.to_pylist() if row["final"])
    assert finals
    assert set(finals.values()) == {1}
    counted = re.search(r"(\d+) of 1000 jobs are done and kept", text)
    assert counted is not None
    assert int(counted[1]) == len(finals)


def test_a_sweep_that_is_done_while_the_head_hangs_is_done(tmp_path: Path, tiny_model: Path) -> None:
    """Ray's own shutdown would wait for the head, and the interpreter's end would crash in it."""
    with real_head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        process = started(tmp_path, tiny_model, head.address, seeds=20)
        head.process("gcs_server").send_signal(signal.SIGSTOP)
        text, _ = process.communicate(timeout=180)
        assert process.returncode == 0, text
        assert "20 of 20 jobs done" in text
