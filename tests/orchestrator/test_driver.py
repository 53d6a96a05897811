"""The driver, with a cluster in this process: what it does with bad rows, dead and silent agents, signals, lost Ray."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.agents import AgentLostError
from orchestrator.driver import Driver, DriverReport
from orchestrator.errors import ClusterError
from orchestrator.expand import expand
from orchestrator.journal import Journal, read_journal
from orchestrator.members import HELLO_S, LOST_S
from orchestrator.progress import Tally, _View
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.sweep import restore_state
from orchestrator.terminal import Printer
from profiles.types import FoundEngine
from results.store import RunStore, StoreError, read_run
from runners.orders import CellEnded, RowReady
from tests.orchestrator.inprocess import Agent, Behaviour, Call, Clock, InProcessCluster, graded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.plan import Plan
    from orchestrator.state import SweepState

SPEC = """\
name = "demo"
seeds = "1-4"
exams = ["todo"]
[sampling]
max_tokens = 1000
[engine]
context = 2048
threads = 1
[[models]]
name = "small"
source = "builtin:stand-in"
quants = ["Q8_0", "Q2_K"]
"""


class Said(_View):
    """A progress that remembers what was said."""

    def __init__(self, total: int) -> None:
        super().__init__(Tally(total, 0), Printer(None))
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Run:
    """A run folder, and what came of one start of its driver."""

    folder: Path
    plan: Plan
    report: DriverReport
    state: SweepState
    lines: list[str]
    clock: Clock

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read_run(self.folder).table.to_pylist()
        return found


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[InProcessCluster], Run]:
    """Starts a driver on a run folder, again and again if asked."""
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)  # time passes by being read
    plan = expand(parse_spec(SPEC, "demo.toml"), file="demo.toml", text=SPEC, base_dir=tmp_path)

    def start(cluster: InProcessCluster) -> Run:
        folder = RunDir(tmp_path / "run")
        folder.root.mkdir(exist_ok=True)
        progress, clock = Said(len(plan.jobs)), Clock()
        with RunStore(folder.root) as store, Journal(folder.journal) as journal:
            state = restore_state(plan, store, folder)
            report = Driver(
                plan,
                run_id="r",
                folder=folder,
                store=store,
                journal=journal,
                state=state,
                cluster=cluster,
                progress=progress,
                clock=clock,
            ).run()
        return Run(folder.root, plan, report, state, progress.lines, clock)

    return start


def with_rows(change: Callable[[dict[str, Any], int], Any]) -> Callable[[InProcessCluster, Any], Agent]:
    """Agents whose every row goes through `change`, with the number of the row."""
    count = iter(range(10_000))

    class Changing(Agent):
        def row_of(self, order: Any, job: Any) -> Any:
            return change(super().row_of(order, job), next(count))

    return lambda cluster, node: Changing(cluster, node, Behaviour())


def test_a_sweep_runs_to_its_end(drive: Callable[[InProcessCluster], Run]) -> None:
    cluster = InProcessCluster({"a": "box"})
    run = drive(cluster)
    assert run.state.complete
    assert run.report.trouble is None
    assert sorted(cluster.agents[0].acknowledged) == sorted((job.job_id, 1) for job in run.plan.jobs)
    assert [row["final"] for row in run.rows()] == [True] * 8


def test_a_model_that_the_engine_refuses_is_loaded_once_and_the_sweep_goes_on(
    drive: Callable[[InProcessCluster], Run],
) -> None:
    """Two nodes have the same build: what one refuses, the other is not asked for."""
    loads: list[str] = []
    why = "embedded could not load the model: unknown model architecture: 'llama9'"

    class Refusing(Agent):
        def do_start(self, order: Any) -> None:
            if order.cell.model.quant != "Q2_K":
                return super().do_start(order)
            loads.append(self.node.hostname)
            lease_id, outcome = order.lease_id, "unsupported_model"
            ended = CellEnded(lease_id=lease_id, how="failed", outcome=outcome, reason=why, refused_by="program")
            self.events.append(ended)
            return None

    engine = FoundEngine("embedded", None, "xllamacpp 1")
    cluster = InProcessCluster(
        {"a": "box", "b": "barn"}, make=lambda all_, node: Refusing(all_, node, Behaviour(engines=(engine,)))
    )
    run = drive(cluster)
    assert run.state.complete
    assert len(loads) == 1
    (said,) = (line for line in run.lines if "llama9" in line)
    assert said.endswith(f"failed: {why}")
    outcomes = {(row["quant"], row["outcome"]) for row in run.rows()}
    assert outcomes == {("Q8_0", "passed"), ("Q2_K", "unsupported_model")}
    assert {row["error"] for row in run.rows() if row["quant"] == "Q2_K"} == {why}


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: {key: value for key, value in row.items() if key != "outcome"},
        lambda row: {key: value for key, value in row.items() if key not in {"outcome", "outcome_class", "score"}},
        lambda row: row | {"score": float("nan")},
        lambda row: row | {"outcome": "no such outcome"},
        lambda row: row | {"reply": b"bytes"},
        lambda row: row | {"no such column": 1},
        lambda row: row | {"started_at": "yesterday"},
    ],
)
def test_a_bad_row_is_a_failure_of_its_node_and_the_job_is_tried_again(
    drive: Callable[[InProcessCluster], Run], damage: Callable[[dict[str, Any]], Any]
) -> None:
    run = drive(InProcessCluster({"a": "box"}, with_rows(lambda row, number: damage(row) if number == 2 else row)))
    assert run.state.complete
    rows = run.rows()
    (bad,) = [row for row in rows if not row["final"]]
    assert (bad["outcome"], bad["outcome_class"], bad["score"]) == ("grader_crash", "infrastructure", None)
    assert "does not fit" in bad["error"]
    assert sum(row["final"] for row in rows) == 8
    assert list((run.folder / "quarantine").iterdir())


@pytest.mark.parametrize("row", [None, [], {}, {"job_id": "v1-other", "attempt": 1}, {"job_id": 3, "attempt": "x"}])
def test_a_row_of_no_job_of_ours_is_set_aside(drive: Callable[[InProcessCluster], Run], row: Any) -> None:
    offer = RowReady(row=row, lease_id=None, duration_s=1.0)
    cluster = InProcessCluster({"a": "box"}, lambda c, node: Agent(c, node, Behaviour(spooled=(offer,))))
    run = drive(cluster)
    assert run.state.complete
    assert any("set aside" in line for line in run.lines)


def test_a_row_that_is_committed_already_is_acknowledged_and_changes_nothing(
    drive: Callable[[InProcessCluster], Run],
) -> None:
    first = InProcessCluster({"a": "box"}, with_rows(lambda row, _: row))
    orders: list[tuple[Any, Any]] = []

    class Crashing(Agent):
        def row_of(self, order: Any, job: Any) -> Any:
            orders.append((order, job))
            if len(orders) == 1:
                failed = {"outcome": "server_crash", "outcome_class": "infrastructure", "score": None, "error": "gone"}
                os.kill(os.getpid(), signal.SIGINT)
                return super().row_of(order, job) | failed
            return super().row_of(order, job)

    first.make = lambda cluster, node: Crashing(cluster, node, Behaviour())
    stopped = drive(first)
    assert stopped.report.interrupted
    (row,) = [row for row in stopped.rows() if row["outcome"] == "server_crash"]
    order, job = orders[0]
    again = graded(order, job) | {key: row[key] for key in ("outcome", "outcome_class", "score", "error", "attempt")}
    offers = (RowReady(row=again, lease_id=None, duration_s=1.0),) * 3
    second = InProcessCluster({"b": "box"}, lambda c, node: Agent(c, node, Behaviour(spooled=offers)))
    run = drive(second)
    assert run.state.complete
    assert second.agents[0].acknowledged.count((row["job_id"], row["attempt"])) == 3
    finals = [found["job_id"] for found in run.rows() if found["final"]]
    assert sorted(finals) == sorted(job.job_id for job in run.plan.jobs), "no job is done without its final row"


def sending(number: signal.Signals) -> Callable[[dict[str, Any], int], dict[str, Any]]:
    """Rows as they are; with the third the signal comes."""

    def change(row: dict[str, Any], count: int) -> dict[str, Any]:
        if count == 2:
            os.kill(os.getpid(), number)
        return row

    return change


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_run_in_order(drive: Callable[[InProcessCluster], Run], number: signal.Signals) -> None:
    run = drive(InProcessCluster({"a": "box"}, with_rows(sending(number))))
    assert run.report.interrupted
    assert run.state.idle
    assert drive(InProcessCluster({"a": "box"})).state.complete


def test_what_was_ignored_before_stays_ignored(drive: Callable[[InProcessCluster], Run]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        cluster = InProcessCluster({"a": "box"}, with_rows(sending(signal.SIGHUP)))
        assert drive(cluster).state.complete
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_agent_that_never_says_what_it_has_does_not_hold_up_the_run(
    drive: Callable[[InProcessCluster], Run],
) -> None:
    run = drive(InProcessCluster({"a": "box"}, lambda c, node: Agent(c, node, Behaviour(hears=False))))
    assert not run.state.complete
    assert any("did not say" in line for line in run.lines)
    assert any("left alone" in line for line in run.lines)
    assert run.clock.now_s < 10 * HELLO_S


def test_jobs_of_a_node_that_falls_silent_go_elsewhere(drive: Callable[[InProcessCluster], Run]) -> None:
    class Hanging(Agent):
        def run_job(self, lease_id: str, job: Any) -> None:
            self.behaviour.answers = False

    def make(cluster: InProcessCluster, node: Any) -> Agent:
        hangs = node.node_id == "a" and len(cluster.agents) < 2
        return (Hanging if hangs else Agent)(cluster, node, Behaviour())

    run = drive(InProcessCluster({"a": "one", "b": "two"}, make, local=False))
    assert run.state.complete
    said = "\n".join(run.lines)
    assert "one does not answer; nothing new goes there" in said
    assert f"one is lost: it has not answered for {LOST_S:.0f} s" in said
    assert all(row["final"] for row in run.rows())
    assert {event["event"] for event in read_journal(run.folder / "journal.jsonl")} >= {"node_lost", "blamed"}


def test_an_agent_that_dies_again_and_again_is_left_alone_aloud(drive: Callable[[InProcessCluster], Run]) -> None:
    cluster = InProcessCluster({"a": "box"}, lambda c, node: Agent(c, node, Behaviour(lost_at_hello=True)))
    run = drive(cluster)
    assert not run.state.complete
    assert len(cluster.agents) == 6
    assert any("in a row; the node is left alone" in line for line in run.lines)


def test_a_job_that_kills_its_agent_is_set_aside_and_the_node_goes_on(drive: Callable[[InProcessCluster], Run]) -> None:
    poison: list[str] = []

    class Poisoned(Agent):
        def run_job(self, lease_id: str, job: Any) -> None:
            poison.append(job.job_id) if not poison else None
            if job.job_id == poison[0]:
                self.is_lost = True
            else:
                super().run_job(lease_id, job)

    cluster = InProcessCluster({"a": "box"}, lambda c, node: Poisoned(c, node, Behaviour()))
    run = drive(cluster)
    assert run.state.complete
    failed = [row for row in run.rows() if row["outcome_class"] == "infrastructure"]
    assert [(row["job_id"], row["outcome"], row["final"]) for row in failed] == [(poison[0], "node_lost", True)]
    assert "its node was lost 3 times while it ran" in failed[0]["error"]


def test_a_cluster_that_is_gone_ends_the_run_in_words(drive: Callable[[InProcessCluster], Run]) -> None:
    cluster = InProcessCluster({"a": "box"})

    class Last(Agent):
        def row_of(self, order: Any, job: Any) -> Any:
            self.cluster.gone = ClusterError("the head of the Ray cluster is gone", hint="Start it again.")
            return super().row_of(order, job)

        def do_poll(self, seen: int, wait_s: float) -> Call:
            return Call() if self.cluster.gone else super().do_poll(seen, wait_s)

    cluster.make = lambda c, node: Last(c, node, Behaviour())
    run = drive(cluster)
    assert isinstance(run.report.trouble, ClusterError)
    assert run.clock.now_s < 60


def test_what_ended_a_run_is_not_said_to_be_the_nodes_fault(
    drive: Callable[[InProcessCluster], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say: the cells that were not run yet wait for no node."""
    cluster = InProcessCluster({"a": "box"})

    class Leaving(Agent):
        """Gone for good as soon as its row has been told."""

        def do_poll(self, seen: int, wait_s: float) -> Call:
            if self.acknowledged or full_since:
                self.cluster.hosts.clear()
                return Call(error=AgentLostError("it died"))
            return super().do_poll(seen, wait_s)

    full_since: list[bool] = []

    def full(_: RunStore, *__: Any) -> bool:
        full_since.append(True)
        raise StoreError("there is no room left", "Make some.")

    monkeypatch.setattr(RunStore, "commit", full)
    cluster.make = lambda c, node: Leaving(c, node, Behaviour())
    run = drive(cluster)
    assert str(run.report.trouble).startswith("there is no room left")
    assert run.state.unplaced()
    assert run.report.unplaced == {}
