"""`seeds = "auto:3-12"`: cells get seeds until their verdict stands, and every count, word and exit is true of that."""

from __future__ import annotations

import json
import re
from collections import deque
from contextlib import nullcontext
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import events as ev
from orchestrator.commands.show import report_of_run
from orchestrator.errors import SpecError
from orchestrator.placement import Slot
from orchestrator.plan import Plan, spec_digest
from orchestrator.preview import preview
from orchestrator.progress import Tally
from orchestrator.rundir import RunDir
from orchestrator.seeding import Seeding, seeding_of_rows
from orchestrator.spec import parse_spec
from orchestrator.state import SweepState
from orchestrator.sweep import SpecSource, SweepResult, run_sweep
from orchestrator.terminal import Json, Printer
from quants.fit.verdict import Verdict, VerdictKind
from results.contest import Rule
from results.seed_notes import CellName, SeedNote, news, seed_lines
from results.store import read_run
from runners.work import Job
from tests.orchestrator.inprocess import Agent, Behaviour, InProcessCluster

if TYPE_CHECKING:
    from pathlib import Path

    from results.tables import Report
    from runners.orders import CellOrder, JobOrder

SPEC = """\
name = "demo"
seeds = "auto:3-12"
margin = 30
exams = ["todo"]
[sampling]
max_tokens = 1000
[engine]
context = 2048
threads = 1
[[models]]
name = "small"
source = "builtin:stand-in"
quants = ["Q8_0", "Q4_K_M", "Q2_K"]
"""
SCORES = {"Q8_0": 100.0, "Q4_K_M": 100.0, "Q2_K": 0.0}


class KilledError(Exception):
    """The driver dies."""


class Sweeps:
    """Runs specs in a folder on a cluster in this process; `given` and `said` are of the last start alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given: list[tuple[str, int]] = []
        self.loads: list[str] = []
        self.said = ""
        self.scores: dict[str, float] = dict(SCORES)
        self.dies_after = 10_000

    def cluster(self, _address: str | None) -> Any:
        sweeps = self

        class Scoring(Agent):
            def do_start(self, order: CellOrder) -> Any:
                sweeps.loads.append(order.cell.model.quant)
                return super().do_start(order)

            def row_of(self, order: CellOrder, job: JobOrder) -> dict[str, Any]:
                if len(sweeps.given) == sweeps.dies_after:
                    raise KilledError
                sweeps.given.append((order.cell.model.quant, job.seed))
                score = sweeps.scores[order.cell.model.quant]
                scores = json.dumps({"strict": score, "published": score})
                outcome = "passed" if score else "wrong"
                fields = {"scores": scores, "score": score, "outcome": outcome, "grader_version": "2"}
                return super().row_of(order, job) | fields

        return nullcontext(
            InProcessCluster({"n1": "box"}, make=lambda cluster, node: Scoring(cluster, node, Behaviour()))
        )

    def run(self, text: str = SPEC, **options: Any) -> SweepResult:
        self.given.clear()
        self.loads.clear()
        stream = StringIO()
        source = SpecSource(parse_spec(text, "demo.toml"), text, "demo.toml", self.folder)
        try:
            return run_sweep(source, out_dir=self.folder / "run", address="here:1", out=Printer(stream), **options)
        finally:
            self.said = stream.getvalue()

    def seeds(self) -> dict[str, list[int]]:
        """The seeds of each quant that count."""
        found: dict[str, list[int]] = {}
        for row in read_run(self.folder / "run").table.to_pylist():
            if row["final"]:
                found.setdefault(row["quant"], []).append(row["seed"])
        return {quant: sorted(seeds) for quant, seeds in found.items()}

    def report(self) -> Report:
        return report_of_run(self.folder / "run")


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    found = Sweeps(tmp_path)
    monkeypatch.setattr("orchestrator.sweep.connect", found.cluster)
    monkeypatch.setattr("orchestrator.sweep.check_address", lambda _: None)
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)
    return found


def test_each_cell_gets_seeds_until_its_verdict_stands_and_the_run_is_complete_with_that(sweeps: Sweeps) -> None:
    result = sweeps.run()
    assert result.complete
    assert result.failed == 0
    seeds = sweeps.seeds()
    assert all(each == list(range(1, len(each) + 1)) for each in seeds.values()), "the same seeds, from the first on"
    assert len(seeds["Q4_K_M"]) < 12, "equivalent before the cap: 30 points are a wide margin"
    assert len(seeds["Q2_K"]) <= 12
    assert result.jobs == result.done == sum(map(len, seeds.values())) < 36
    assert sorted(set(sweeps.given)) == sorted(sweeps.given), "no job ran twice"
    assert "3 cells, 9 to 36 jobs, as the scores have it (3 to 12 seeds each, margin 30 points of 100)" in sweeps.said
    assert "jobs done (36 at most)" in sweeps.said
    assert "small Q4_K_M on todo: equivalent to Q8_0 after" in sweeps.said
    found = sweeps.report()
    assert (found.planned, found.done) == (result.jobs, result.jobs)
    (title, line) = seed_lines(found.seeds, found.rule or Rule(2, 2, 0.1))
    assert title.startswith("Seeds by score (3 to 12 seeds each, margin 30 points of 100);")
    assert line.startswith("small on todo: Q8_0: best after ")
    assert "Q2_K: worse than Q8_0 after " in line
    assert [note["standing"] for note in found.to_json()["seeds"]] == ["best", "equivalent", "worse"]


def test_a_start_of_a_finished_run_asks_for_nothing(sweeps: Sweeps) -> None:
    first = sweeps.run()
    again = sweeps.run()
    assert again.complete
    assert (again.jobs, again.done, sweeps.given) == (first.jobs, first.done, [])


def test_a_model_is_not_loaded_anew_for_each_block_of_the_last_cell(sweeps: Sweeps) -> None:
    sweeps.run()
    assert len(sweeps.loads) < len({(quant, (seed + 2) // 3) for quant, seed in sweeps.given})


@pytest.mark.parametrize("after", [2, 10])
def test_a_driver_that_is_killed_and_started_again_asks_for_the_same(sweeps: Sweeps, after: int) -> None:
    sweeps.dies_after = after
    with pytest.raises(KilledError):
        sweeps.run()
    before = list(sweeps.given)
    assert len(before) == after
    half = sweeps.report()
    assert half.planned is not None
    assert half.done < half.planned <= 36
    sweeps.dies_after = 10_000
    result = sweeps.run()
    assert result.complete
    assert result.jobs == result.done == sum(map(len, sweeps.seeds().values()))
    assert len(before) - len(set(before) & set(sweeps.given)) >= after - 1, "at most the one that ran is run again"
    found = sweeps.report().to_json()["seeds"]
    assert [note["standing"] for note in found] == ["best", "equivalent", "worse"]
    assert not any(note["open"] for note in found)


def test_a_run_of_fixed_seeds_goes_on_by_score_and_back(sweeps: Sweeps) -> None:
    fixed = SPEC.replace('"auto:3-12"\nmargin = 30', '"1-5"')
    assert sweeps.run(fixed).jobs == 15
    grown = sweeps.run()
    assert grown.complete
    assert all(seed > 5 for _, seed in sweeps.given), "what was done is not run again"
    assert "the spec was changed: at most 21 new jobs, 15 kept, 0 taken out" in sweeps.said
    assert sweeps.report().planned == grown.jobs
    by_score = sum(map(len, sweeps.seeds().values()))
    back = sweeps.run(fixed.replace("1-5", "1-12"))
    assert (back.jobs, len(sweeps.given)) == (36, 36 - by_score)


def test_another_margin_asks_anew_and_keeps_what_is_done(sweeps: Sweeps) -> None:
    first = sweeps.run()
    assert sweeps.run(SPEC.replace("margin = 30", "margin = 20")).jobs >= first.jobs
    assert "its jobs are the same, and how many of them are run is decided otherwise" in sweeps.said


def test_undecided_cells_end_at_the_cap_or_where_the_rest_would_hardly_tell_and_say_so(sweeps: Sweeps) -> None:
    result = sweeps.run(SPEC.replace("margin = 30", "margin = 5").replace('"Q4_K_M", ', ""))
    assert result.complete, "an undecided cell is no failure"
    (_, line) = seed_lines(sweeps.report().seeds, Rule(3, 12, 0.05))
    assert "Q2_K: worse than Q8_0 after" in line
    lone = run_lines([1.0] * 12, [1.0] * 12)
    assert lone == ["m on e: a: best after 6 seeds; b: undecided after 6 seeds: the rest up to 12 would hardly tell"]
    capped = run_lines([1.0] * 12, [1.0, 0.0] * 5 + [1.0] * 2)
    assert capped == ["m on e: a: best after 12 seeds; b: undecided: cap reached, 12 seeds"]


def run_lines(*cells: list[float]) -> list[str]:
    """What is said of two cells with these scores, margin 5."""
    names = "ab"
    jobs = [Job(f"{name}{seed}", name, "e", "1", seed) for name in names for seed in range(1, 13)]
    seeding = Seeding({name: CellName("m", "default", name) for name in names}, jobs, Rule(3, 12, 0.05))
    done: set[str] = set()
    while seeding.settle():
        for job in jobs:
            if seeding.is_asked_for(job.job_id) and job.job_id not in done:
                done.add(job.job_id)
                seeding.put(job.job_id, cells[names.index(job.cell_id)][job.seed - 1])
    return seed_lines(seeding.notes(), seeding.rule)[1:]


def test_a_seed_counts_when_all_tasks_of_it_have_ended(sweeps: Sweeps) -> None:
    jobs = [Job(f"{task}{seed}", "c", "e", "1", seed, task) for task in ("one", "two") for seed in range(1, 7)]
    seeding = Seeding({"c": CellName("m", "default", "c")}, jobs, Rule(2, 6, 0.1))
    assert sorted(seeding.settle().more) == ["one1", "one2", "two1", "two2"]
    for job_id in ("one1", "one2", "two1"):
        seeding.put(job_id, 1.0)
    assert not seeding.settle()
    assert [note.seeds for note in seeding.notes()] == [1]
    seeding.put("two2", None)
    assert sorted(seeding.settle().more) == ["one3", "one4", "two3", "two4"]
    assert [note.seeds for note in seeding.notes()] == [2]


def test_news_are_told_once() -> None:
    note = SeedNote("m", "e", "Q2_K", 8, "worse", "Q8_0", False, False, "default", "Q2_K")
    told: dict[tuple[str, str, str], str] = {}
    rule = Rule(5, 60, 0.05)
    assert news([note], rule, told) == ["m Q2_K on e: worse than Q8_0 after 8 seeds"]
    assert news([note], rule, told) == []


def test_plan_says_the_least_and_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.toml").write_text(SPEC)
    (page,) = preview("demo.toml", as_json=True)
    assert isinstance(page, Json)
    assert (page.value["jobs"], page.value["jobs_least"]) == (36, 9)
    assert {(cell["jobs"], cell["jobs_least"]) for cell in page.value["cells"]} == {(12, 3)}
    assert page.value["outlook"]["seconds_least"] < page.value["outlook"]["seconds"]
    lines = [str(part) for part in preview("demo.toml", as_json=False)]
    assert "demo: 3 cells x 3 to 12 jobs = 9 to 36 jobs" in lines
    assert "exams: todo (strict); seeds: by score, 3 to 12 seeds each, margin 30 points of 100" in lines
    assert any(line.startswith("about ") and " to " in line.partition(" on this machine")[0] for line in lines)


def test_progress_says_that_more_may_come() -> None:
    now = [0.0]
    tally = Tally(9, 0, lambda: now[0], most=36)
    tally.begin()
    now[0] = 10.0
    tally.count({"outcome_class": "model", "final": True})
    assert tally.line() == "1 of 9 jobs done (36 at most), at least 1m 20s left"
    tally.total = tally.done = 12
    assert tally.line() == "12 of 12 jobs done"


def test_the_spec_says_what_is_wrong_with_seeds_by_score() -> None:
    spec = parse_spec(SPEC, "x")
    assert (spec.seeds, spec.seeding) == (list(range(1, 13)), Rule(3, 12, 0.3))
    assert parse_spec(SPEC.replace("margin = 30\n", ""), "x").seeding == Rule(3, 12, 0.05)
    assert spec_digest(spec) != spec_digest(parse_spec(SPEC.replace("margin = 30", "margin = 20"), "x"))
    for wrong, says in {
        '"auto"': 'x:2: seeds: must be "auto:5-60"',
        '"auto:12-3"': 'x:2: seeds: must be "auto:5-60"',
        '"auto:1-3"': 'x:2: seeds: must be "auto:5-60"',
        '"1-3"': "x:3: margin: is for seeds that depend on the scores",
    }.items():
        with pytest.raises(SpecError) as caught:
            parse_spec(SPEC.replace('"auto:3-12"', wrong), "x")
        assert says in str(caught.value)


def test_the_plan_keeps_the_rule_and_refuses_one_that_is_none(sweeps: Sweeps) -> None:
    sweeps.run()
    text = RunDir(sweeps.folder / "run").plan.read_text()
    plan = Plan.from_json(text)
    assert plan.seeding == Rule(3, 12, 0.3)
    assert len(plan.jobs) == 36
    rows = read_run(sweeps.folder / "run", ["job_id", "final", "score", "score_max"]).table.to_pylist()
    found = seeding_of_rows(plan, rows)
    assert found is not None
    assert found[1] == len(rows)
    for damage in ('"least": 30', '"least": "3"', '"least": 2.5'):
        with pytest.raises((ValueError, TypeError)):
            Plan.from_json(text.replace('"least": 3', damage))


def test_what_no_node_can_serve_holds_up_no_other_cell() -> None:
    cells = ["c0", "c1", "huge"]
    jobs = [Job(f"{cell}j{seed}", cell, "e", "1", seed) for cell in cells for seed in range(12)]
    seeding = Seeding({cell: CellName("m", "default", cell) for cell in cells}, jobs, Rule(3, 12, 0.3))
    pairs = [(job.job_id, job.cell_id) for job in jobs]
    state = SweepState([(cell, 10**9) for cell in cells], pairs, retries=1, seeding=seeding)
    assert state.jobs_total == 9
    verdicts = {
        cell: {"cpu": Verdict(VerdictKind.TOO_BIG if cell == "huge" else VerdictKind.FITS, "")} for cell in cells
    }
    waiting = deque(state.apply(ev.NodeJoined("n", (Slot(("n", "cpu"), "n", "hw"),), verdicts)))
    ran: list[str] = []
    while waiting:
        match waiting.popleft():
            case ev.StartLease(lease_id=lease_id):
                waiting.extend(state.apply(ev.LeaseReady(lease_id, 1.0)))
            case ev.AssignJob(lease_id=lease_id, job_id=job_id, attempt=attempt):
                ran.append(job_id)
                share = 0.0 if job_id.startswith("c1") else 1.0
                row = ev.AttemptOffered(job_id, attempt, "passed", "model", 1.0, "hw", lease_id, "n", "cpu", "", share)
                waiting.extend(state.apply(row))
            case ev.CloseLease(lease_id=lease_id):
                waiting.append(ev.CancelLease(lease_id))  # ends when what stands before it has been done
            case ev.CancelLease(lease_id=lease_id):
                waiting.extend(state.apply(ev.LeaseEnded(lease_id, "done")))
    assert {note.cell: note.standing for note in seeding.notes()} == {
        "c0": "best",
        "c1": "worse",
        "huge": "undecided",
    }
    assert state.idle
    assert len(ran) > 6, "both went on without it"
    assert (state.jobs_total, state.jobs_done) == (len(ran) + 3, len(ran))
    assert set(state.unplaced()) == {"huge"}


class TestShow:
    """The tables of such a run: no verdict that supposes a number of seeds that was fixed beforehand."""

    def test_tables_have_the_standings_and_the_answer_rests_on_them(self, sweeps: Sweeps) -> None:
        sweeps.run()
        found = sweeps.report()
        text = Printer(None).text_of(*found.parts(), width=200, colour=False)
        table = text.partition("\n\n")[0]
        assert "standing" in table
        assert "verdict" not in table
        assert [line.split()[0] for line in table.splitlines() if " worse" in line] == ["Q2_K"]
        assert "is the smallest quant that keeps up with the best, Q8_0: mean 100.0 of 100 over" in text
        assert "less than 30.0 points below it at 95%, however often it was looked at." in text
        assert re.search(r"The next smaller, Q2_K \(\S+ [kM]B\), is worse: mean 0.0 of 100 over \d+ seeds", text)
        (answer,) = found.answers
        assert (answer.smallest, answer.sure, answer.comparisons) == ("Q4_K_M", True, ())
        assert answer.saves is not None

    def test_while_it_goes_on_it_says_so(self, sweeps: Sweeps) -> None:
        sweeps.dies_after = 10
        with pytest.raises(KilledError):
            sweeps.run()
        (answer,) = sweeps.report().answers
        assert not answer.sure
        assert {note.standing for note in sweeps.report().seeds} <= {"best", "worse", "undecided"}

    def test_variants_are_held_against_each_other_by_bounds_that_bear_looking(self, sweeps: Sweeps) -> None:
        two = (
            SPEC
            + '[[models.variants]]\nname = "a"\n[[models.variants]]\nname = "b"\nengine = { cache_type_k = "q8_0" }\n'
        )
        assert sweeps.run(two).complete
        found = sweeps.report()
        (pairing,) = [each for each in found.pairings if each.of == "variants"]
        assert all(each.p_value is None and each.more_seeds is None for each in pairing.comparisons)
        assert {each.verdict for each in pairing.comparisons} <= {"equivalent", "undecided"}
        assert "hold however often they were looked at" in Printer(None).text_of(*found.parts(), width=200).replace(
            "\n", " "
        )
        assert {answer.variant for answer in found.answers} == {"a", "b"}
