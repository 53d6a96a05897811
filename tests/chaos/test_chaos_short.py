"""The short form of `make chaos`: seven faults in a sweep on two nodes; and that the checks see what they should."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.campaign import MOST_SWEEPS_IN_VAIN, Campaign
from tests.chaos.checks import check_rows
from tests.chaos.cluster import ROOT
from tests.chaos.faults import Fault, Strike, World
from tests.chaos.host import Host, Process
from tests.chaos.report import Report
from tests.chaos.truth import Known

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.fault
def test_seven_faults_lose_nothing_double_nothing_and_leave_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "faults: 7," in done.stdout
    assert "planned = final: yes" in done.stdout
    assert "violations: none" in done.stdout


class NothingThere(Fault):
    """A fault that never finds anything to strike."""

    @property
    def name(self) -> str:
        return "nothing there"

    def strike(self, _world: World) -> Strike | None:
        return None


class Works(NothingThere):
    @property
    def name(self) -> str:
        return "works"


def test_a_fault_that_finds_nothing_in_sweep_after_sweep_makes_room_for_another() -> None:
    """A campaign over real sweeps had none of the processes that its last fault asked for, and went on for ever."""
    said: list[str] = []
    nothing: Any = None
    campaign = Campaign(nothing, nothing, Report(), Random(1), {}, Path(), {}, said.append, seeds=1)
    campaign.plan_faults(4, [NothingThere(), Works()])
    for _ in range(MOST_SWEEPS_IN_VAIN):
        assert sorted(fault.name for fault in campaign.queue) == ["nothing there"] * 2 + ["works"] * 2
        campaign.missed_in_this_sweep.add("nothing there")
        campaign.give_up()
    assert [fault.name for fault in campaign.queue] == ["works"] * 4
    assert "nothing there  -" in campaign.report.text(1)
    assert "given up" in campaign.report.text(1)
    assert len(said) == 1


KNOWN = {"a": Known(100.0, "text"), "b": Known(40.0, "other")}


def row(job_id: str, **more: Any) -> dict[str, Any]:
    known = KNOWN[job_id]
    good = {"job_id": job_id, "attempt": 1, "final": True, "outcome": "passed", "outcome_class": "model", "error": None}
    return {**good, "score": known.score, "reply": known.reply, **more}


FAILED = {"outcome": "node_lost", "outcome_class": "infrastructure", "score": None, "error": "its node was lost"}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([row("a"), row("b")], []),
        ([row("a", final=False, **FAILED), row("a", attempt=2), row("b")], []),
        ([row("a")], ["1 planned jobs have no final row"]),
        ([row("a"), row("a", attempt=2), row("b")], ["1 jobs have several final rows"]),
        ([row("a"), row("a", final=False), row("b")], ["attempts are there twice"]),
        ([row("a", outcome="time_limit", score=40.0), row("b")], ["scored, and not what an undisturbed run gives"]),
        ([row("a", reply="cut"), row("b")], ["another reply"]),
        ([row("a", **FAILED | {"error": " "}), row("b")], ["without a sentence"]),
        ([row("a", **FAILED | {"score": 0.0}), row("b")], ["with a score"]),
        ([row("a", **FAILED | {"outcome_class": "model"}), row("b")], ["is said to be of class", "scored, and not"]),
    ],
)
def test_rows_are_checked(rows: list[dict[str, Any]], found: list[str]) -> None:
    violations = check_rows(["a", "b"], rows, KNOWN)
    assert len(violations) == len(found), violations
    assert all(part in what for part, what in zip(found, violations, strict=True))


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    before = {process.pid for process in made.processes()}
    yield made
    made.kill(lambda process: process.pid not in before)


def test_a_process_that_is_left_is_found_and_put_to_its_node(host: Host, tmp_path: Path) -> None:
    """Its parent is named as an agent is; it lost its environment, as programs in a sandbox do."""
    script = "import subprocess, time; subprocess.Popen(['/usr/bin/env', '-i', '/bin/sleep', '600']); time.sleep(600)"
    environment = {**os.environ, "QUANTSWEEP_STATE": str(tmp_path)}
    agent = subprocess.Popen([sys.executable, "-c", script, "ray::NodeAgent"], env=environment)
    host.owned.add(agent.pid)

    def mine() -> list[Process]:
        return [process for process in host.processes() if process.state == str(tmp_path)]

    deadline = time.monotonic() + 30
    while [process.kind for process in mine()] != ["agent", "grader"]:
        assert time.monotonic() < deadline, mine()
        time.sleep(0.05)
    left = host.left({process.kind for process in host.processes()} - {"grader"}, within_s=0.3)
    assert [process.pid for process in left] == [mine()[1].pid]
    host.kill(lambda process: process.state == str(tmp_path))
    assert agent.wait(30) == -9
    assert mine() == []
