"""A sweep that is killed at any moment and started again ends with exactly the planned jobs, each once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from orchestrator.plan import Plan
from orchestrator.seeding import seeding_of_rows
from results.store import read_run

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
name = "killed"
seeds = "1-{seeds}"
exams = ["todo"]
[sampling]
max_tokens = 1024
[engine]
context = 2048
threads = 1
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["Q8_0", "Q2_K"]
"""
KILLS = 10 if os.environ.get("QUANTSWEEP_SLOW") else 2


def run(spec: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def of_this_test(state: str) -> list[psutil.Process]:
    """Every process that carries this test's environment, the test itself left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("QUANTSWEEP_STATE") == state:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.fault
def test_a_sweep_killed_at_random_moments_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    spec, out = tmp_path / "killed.toml", tmp_path / "run"
    spec.write_text(SPEC.format(seeds=4 * KILLS))  # more work than can be done between the kills
    state = os.environ["QUANTSWEEP_STATE"]
    moments = random.Random(20261120)
    for _ in range(KILLS):
        process = run(spec, out)
        time.sleep(moments.uniform(1, 6.5))
        assert process.poll() is None, "a kill has to hit a sweep that is alive"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process = run(spec, out)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    rows = read_run(out).table.to_pylist()
    plan = Plan.from_json((out / "plan.json").read_text())
    finals = Counter(row["job_id"] for row in rows if row["final"])
    assert finals == Counter(job.job_id for job in plan.jobs)
    assert all(row["score"] is not None for row in rows if row["final"])
    deadline = time.monotonic() + 30
    while left := of_this_test(state):
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.2)
    assert not list((tmp_path / "run").glob("**/*.tmp*"))


@pytest.mark.cluster
@pytest.mark.fault
@pytest.mark.long
def test_a_sweep_of_seeds_by_score_that_is_killed_asks_for_what_the_scores_want_and_no_more(tmp_path: Path) -> None:
    spec, out = tmp_path / "killed.toml", tmp_path / "run"
    spec.write_text(SPEC.replace('"1-{seeds}"', '"auto:3-12"\nmargin = 30'))
    moments = random.Random(20261121)
    for _ in range(3):
        process = run(spec, out)
        time.sleep(moments.uniform(4, 9))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process = run(spec, out)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    rows = read_run(out).table.to_pylist()
    plan = Plan.from_json((out / "plan.json").read_text())
    finals = Counter(row["job_id"] for row in rows if row["final"])
    assert set(finals.values()) == {1}
    found = seeding_of_rows(plan, rows)
    assert found is not None
    seeding, planned = found
    assert planned == len(finals) < len(plan.jobs), "what is asked for has run, and it is not all"
    assert {note.standing for note in seeding.notes()} == {"best", "worse"}
    again = run(spec, out)
    text, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert len(read_run(out, ["job_id"]).table) == len(rows), "a finished run asks for nothing"
