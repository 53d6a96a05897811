"""Cells that are too big for every node of a cluster: left out by name, run by a larger node, or a mistake at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.driver import Driver, DriverReport
from orchestrator.errors import ClusterError
from orchestrator.expand import expand
from orchestrator.fitting import verdict_on
from orchestrator.journal import Journal
from orchestrator.misfits import by_name, without_misfits
from orchestrator.places import ServingPlace
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.survey import Survey, survey
from orchestrator.sweep import restore_state
from profiles.types import NodeProfile
from quants.fit.verdict import VerdictKind
from quants.models import FileModel
from results.store import RunStore
from tests.orchestrator.inprocess import CPU, Agent, Behaviour, Clock, InProcessCluster
from tests.orchestrator.test_driver import SPEC, Said

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orchestrator.cluster import RayNode
    from orchestrator.plan import Plan
    from profiles.types import Device
    from runners.orders import JobOrder
    from runners.work import Cell

ALL = SPEC.replace('["Q8_0", "Q2_K"]', '"all"')
NAMED = SPEC


@dataclass
class Run:
    """What came of one start of a driver: `left` and `unplaced` by quant."""

    report: DriverReport
    done: dict[str, int]
    lines: list[str]
    waited_s: float

    @property
    def left(self) -> set[str]:
        return set(self.done) & self.quants(self.report.left_out)

    @property
    def unplaced(self) -> set[str]:
        return self.quants(self.report.unplaced)

    def quants(self, cells: dict[str, list[str]]) -> set[str]:
        return {self.plan_quants[cell_id] for cell_id in cells}

    plan_quants: dict[str, str]


def holds(cell: Cell, memory_bytes: int) -> bool:
    device = with_memory(memory_bytes)
    profile = NodeProfile(
        hostname="box", os="Linux", arch="x86_64", probed_at="2026-01-01T00:00:00Z", devices=(device,)
    )
    assert isinstance(cell.model, FileModel)
    place = ServingPlace(devices=(device,), engine_device="CPU", backend="cpu")
    found = verdict_on(cell.model.footprints, cell.model.file_bytes, profile, place, cell.engine)
    return found.kind is not VerdictKind.TOO_BIG


def with_memory(memory_bytes: int) -> Device:
    return replace(CPU, memory_total_bytes=memory_bytes, memory_free_bytes=memory_bytes)


def just_enough_for(plan: Plan, quant: str) -> int:
    """The least memory of a node that holds the quant, to 10 kB."""
    cell = next(cell for cell in plan.cells if cell.model.quant == quant)
    too_little, enough = 0, 1 << 40
    while enough - too_little > 10_000:
        middle = (too_little + enough) // 2
        too_little, enough = (too_little, middle) if holds(cell, middle) else (middle, enough)
    return enough


class World:
    """A run folder for one spec, and a cluster whose nodes have as much memory as a quant needs."""

    def __init__(self, folder: Path, text: str) -> None:
        self.spec = parse_spec(text, "demo.toml")
        self.plan = expand(self.spec, file="demo.toml", text=text, base_dir=folder, local=False)
        self.folder = RunDir(folder / "run")
        self.folder.root.mkdir(exist_ok=True)
        self.memory: dict[str, int] = {}

    def cluster(self, *, local: bool = False, agent: type[Agent] = Agent, **sizes: str) -> InProcessCluster:
        """Nodes by host name, each with just enough memory for that quant."""
        self.memory |= {host: just_enough_for(self.plan, quant) for host, quant in sizes.items()}

        def make(cluster: InProcessCluster, node: RayNode) -> Agent:
            return agent(cluster, node, Behaviour(device=with_memory(self.memory[node.hostname])))

        return InProcessCluster({host: host for host in sizes}, make, local=local)

    def start(self, cluster: InProcessCluster) -> Run:
        plan, progress, clock = self.plan, Said(len(self.plan.jobs)), Clock()
        with RunStore(self.folder.root) as store, Journal(self.folder.journal) as journal:
            state = restore_state(plan, store, self.folder)
            report = Driver(
                plan,
                run_id="r",
                folder=self.folder,
                store=store,
                journal=journal,
                state=state,
                cluster=cluster,
                progress=progress,
                named=by_name(self.spec),
                clock=clock,
            ).run()
            finals = store.finals()
        done = {
            cell.model.quant: sum(job.job_id in finals for job in plan.jobs if job.cell_id == cell.cell_id)
            for cell in plan.cells
        }
        quants = {cell.cell_id: cell.model.quant for cell in plan.cells}
        return Run(report, done, progress.lines, clock.now_s, quants)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], World]:
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)  # time passes by being read
    return lambda text: World(tmp_path, text)


def mentions(lines: Sequence[str], text: str) -> list[str]:
    return [line for line in lines if text in line]


def test_what_nobody_named_and_no_node_holds_is_left_out_by_name(world: Callable[[str], World]) -> None:
    demo = world(ALL)
    run = demo.start(demo.cluster(one="Q3_K_S", other="Q2_K"))
    large = {"Q4_K_M", "Q5_K_M", "Q8_0"}
    assert run.left == large
    assert run.unplaced == set()
    assert run.done == {quant: 0 if quant in large else 4 for quant in run.done}
    assert run.report.trouble is None
    for quant in large:
        (said,) = mentions(run.lines, f"small {quant} is left out")
        assert "one/cpu: " in said
        assert "other/cpu: " in said
        assert run.lines.index(said) < 4  # before anything is done
    assert not mentions(run.lines, "waiting")
    assert run.waited_s < 60


def test_a_larger_node_that_joins_is_given_what_was_left_out(world: Callable[[str], World]) -> None:
    demo = world(ALL)

    class Watching(Agent):
        def run_job(self, lease_id: str, job: JobOrder) -> None:
            super().run_job(lease_id, job)
            self.cluster.hosts["large"] = "large"  # as soon as the small node works

    cluster = demo.cluster(small="Q2_K", large="Q8_0", agent=Watching)
    del cluster.hosts["large"]
    run = demo.start(cluster)
    assert mentions(run.lines, "small Q8_0 is left out unless a larger node joins")
    assert (run.left, run.unplaced) == (set(), set())
    assert set(run.done.values()) == {4}


def test_the_next_start_with_a_larger_node_runs_the_rest(world: Callable[[str], World]) -> None:
    demo = world(ALL)
    assert demo.start(demo.cluster(one="Q5_K_M")).left == {"Q8_0"}
    run = demo.start(demo.cluster(large="Q8_0"))
    assert run.left == set()
    assert set(run.done.values()) == {4}


def test_what_was_named_and_no_node_holds_is_an_error_at_once(world: Callable[[str], World]) -> None:
    demo = world(NAMED)
    run = demo.start(demo.cluster(one="Q2_K"))
    said = str(run.report.trouble)
    assert said.startswith("no node of the cluster can hold what the spec asks for:\n  small Q8_0: one/cpu: ")
    assert "small Q2_K" not in said
    assert run.done["Q8_0"] == 0
    assert run.waited_s < 60
    assert run.report.left_out == {}
    assert set(demo.start(demo.cluster(large="Q8_0")).done.values()) == {4}  # the same command, with a larger node


def test_a_model_of_which_nothing_fits_is_an_error_whoever_named_it(world: Callable[[str], World]) -> None:
    demo = world(ALL)
    cluster = demo.cluster(one="TQ1_0")
    demo.memory["one"] -= 10_000_000
    run = demo.start(cluster)
    assert "no node of the cluster can hold" in str(run.report.trouble)
    assert run.report.left_out == {}


@pytest.mark.parametrize("text", [ALL, NAMED])
def test_a_sweep_whose_large_node_is_gone_goes_on_without_it_and_says_what_is_missing(
    world: Callable[[str], World], text: str
) -> None:
    """Begun on a node that held Q8_0: no error at once any more, and no excuse for its jobs either."""
    demo = world(text)

    class Leaving(Agent):
        """Ends after its third row."""

        def run_job(self, lease_id: str, job: JobOrder) -> None:
            super().run_job(lease_id, job)
            self.is_lost = len(self.acknowledged) >= 2
            if self.is_lost:
                self.cluster.hosts.clear()

    demo.start(demo.cluster(large="Q8_0", agent=Leaving))
    begun = demo.start(demo.cluster(one="Q2_K"))
    assert begun.report.trouble is None
    assert begun.done["Q2_K"] == 4
    assert "Q8_0" in begun.left | begun.unplaced
    assert begun.unplaced or text == ALL
    if begun.done["Q8_0"]:
        assert "Q8_0" in begun.unplaced  # it was served once: what is missing of it is missing


def test_a_plan_for_a_cluster_leaves_out_what_fits_none_of_its_nodes(tmp_path: Path) -> None:
    demo = World(tmp_path, ALL)
    sizes = {"one": "Q2_K", "other": "Q3_K_S"}
    nodes = [
        NodeProfile(
            hostname=host,
            os="Linux",
            arch="x86_64",
            probed_at="2026-01-01T00:00:00Z",
            devices=(with_memory(just_enough_for(demo.plan, quant)),),
        )
        for host, quant in sizes.items()
    ]

    def asked(text: str) -> Survey:
        return survey(parse_spec(text, "d.toml"), file="d.toml", text=text, base_dir=tmp_path, local=False)

    found = without_misfits(demo.spec, asked(ALL), nodes)
    assert [each.model.quant for each in found.cells] == ["TQ1_0", "Q2_K", "Q3_K_S"]
    assert [cell.model.quant for cell, _ in found.left_out] == ["Q4_K_M", "Q5_K_M", "Q8_0"]
    assert all("one/cpu: " in why and "other/cpu: " in why for _, why in found.left_out)
    with pytest.raises(ClusterError, match="no node of the cluster can hold") as refused:
        without_misfits(parse_spec(NAMED, "d.toml"), asked(NAMED), nodes)
    assert [line.split(":")[0] for line in refused.value.details] == ["small Q8_0"]
