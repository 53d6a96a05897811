"""The cluster's head is killed or stopped in the middle of a sweep: it ends in order, soon, with everything kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from orchestrator.journal import read_journal
from orchestrator.plan import Plan
from results.store import read_run
from tests.cluster.heads import TOKEN, ray_environment, real_head

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.fault]

SPEC = """\
name = "headless"
seeds = "1-40"
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


def of_this_test() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("QUANTSWEEP_STATE") == os.environ["QUANTSWEEP_STATE"]
            if mine and "embedded_child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        pytest.param(
            signal.SIGSTOP,
            marks=pytest.mark.skipif(not os.environ.get("QUANTSWEEP_SLOW"), reason="takes more than a minute"),
        ),
    ],
)
def test_a_sweep_whose_head_is_gone_ends_in_order(tmp_path: Path, tiny_model: Path, how: signal.Signals) -> None:
    spec, out = tmp_path / "headless.toml", tmp_path / "run"
    spec.write_text(SPEC.format(model=tiny_model))
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(out)]
    with real_head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        process = subprocess.Popen(
            [*command, "--address", head.address],
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
        head.process("gcs_server").send_signal(how)
        begun = time.monotonic()
        text, _ = process.communicate(timeout=180)
        took = time.monotonic() - begun
        print(text, took)
        assert process.returncode == 2, text
        assert f"error: {head.address}: the cluster's head is gone: it" in text
        assert "To go on: quantsweep run" in text
        assert "Traceback" not in text
        assert "(raylet)" not in text, "Ray's own lines"
        assert not of_this_test(), "engines end with the sweep, not with the head"
        assert took < 120
    kept = read_run(out)
    assert kept.table.num_rows
    assert not kept.torn
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=ray_environment())
    assert again.returncode == 0, again.stderr
    rows = read_run(out).table.to_pylist()
    plan = Plan.from_json((out / "plan.json").read_text())
    assert Counter(row["job_id"] for row in rows if row["final"]) == Counter(job.job_id for job in plan.jobs)
    assert {row["job_id"] for row in kept.table.to_pylist()} <= {row["job_id"] for row in rows}


def _journal(out: Path) -> list[dict[str, object]]:
    path = out / "journal.jsonl"
    return [dict(event) for event in read_journal(path)] if path.exists() else []
