"""`quantsweep regrade`: what was saved gets new grades, the old ones stay, and a kill costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from orchestrator import regrade as regrading
from orchestrator.cli.app import app
from orchestrator.errors import RunFolderError
from orchestrator.journal import Journal
from orchestrator.regrade import Grading, NotRegraded, Regraded, Report, regrade
from orchestrator.restore import CommittedAttempt
from orchestrator.rundir import RunDir
from orchestrator.state import SweepState
from orchestrator.terminal import Printer
from profiles.types import FoundNeed
from results.store import RunStore, read_run
from results.tables import report
from runners.errors import RunnersError
from runners.exams import get_exam
from runners.exams.base import Grade, Item, Task, Transcript
from runners.outcomes import Outcome
from runners.regrading import clears
from tests.results.conftest import INFRASTRUCTURE, make_row

ROOT = Path(__file__).parents[2]
QUIET = Printer(None)


@dataclass
class Lengths:
    """An exam that gives `each` points for a letter of the reply, 100 at most, and runs nothing."""

    grader_version: str = "2"
    each: float = 1.0
    name: str = "todo"
    prompt_version: str = "1"
    score_max: float = 100.0
    scorings: tuple[str, ...] = ("published",)
    language: str = "python"
    needs: frozenset[str] = frozenset()

    def tasks(self) -> tuple[Task, ...]:
        return (Task("main", ()),)

    def grade(self, _task: Task, transcript: Transcript, _box: object) -> Grade:
        reply = transcript.reply
        if reply.text == "bug":
            raise ZeroDivisionError("a grader's own")
        score = min(100.0, self.each * len(reply.text))
        cut = reply.finish_reason == "length"
        outcome = Outcome.MAX_TOKENS if cut else Outcome.PASSED if score == 100.0 else Outcome.WRONG
        item = Item("length", score, 100.0, passed=score == 100.0, note="of the reply")
        return Grade({"published": score}, 100.0, outcome, (item,), "counted", "all of it", "")


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> Lengths:
    exam = Lengths()
    monkeypatch.setattr(regrading, "get_exam", lambda name: exam if name == "todo" else get_exam(name))
    return exam


def answer(number: int, reply: str | None, score: float, **changes: Any) -> dict[str, Any]:
    """A row as the grader of version 1 left it, which gave a point a letter."""
    graded = {"score": score, "scores": json.dumps({"published": score}), "outcome": "wrong", "grader_log": "old"}
    items = json.dumps([{"name": "length", "points": score, "points_max": 100.0, "passed": False, "scoring": ""}])
    names = {"job_id": f"v2-{number}", "device": "cpu", "seed": number, "reply": reply, "grade_items": items}
    return make_row(**{**graded, **names, **changes})


def run_of(folder: Path, *rows: dict[str, Any]) -> Path:
    with RunStore(folder) as store:
        store.commit_many(rows)
    return folder


def rows_of(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["job_id"], row["attempt"]): row for row in read_run(folder).table.to_pylist()}


def scores(found: Report) -> dict[int, tuple[float, float]]:
    return {each.seed: (each.before.score, each.after.score) for each in found.regraded}


def test_a_new_grader_makes_new_rows_and_the_earlier_grades_stay(tmp_path: Path, grader: Lengths) -> None:
    run_of(tmp_path, answer(1, "four", 4.0, decode_tps=55.0), answer(2, "sixsix", 6.0, attempt=3))
    grader.each = 10.0
    found = regrade(tmp_path, exam=None, out=QUIET)
    assert scores(found) == {1: (4.0, 40.0), 2: (6.0, 60.0)}
    rows = rows_of(tmp_path)
    assert [(key, row["final"], row["score"], row["grader_version"]) for key, row in sorted(rows.items())] == [
        (("v2-1", 1), False, 4.0, "1"),
        (("v2-1", 2), True, 40.0, "2"),
        (("v2-2", 3), False, 6.0, "1"),
        (("v2-2", 4), True, 60.0, "2"),
    ]
    old, new = rows["v2-1", 1], rows["v2-1", 2]
    graded = {"attempt", "final", "regrade_of", "grader_version", "quantsweep_version", "ended_at", "isolation"}
    graded |= {"score", "scores", "grade_items", "grade_s", "grader_log", "extraction", "outcome", "null_reasons"}
    graded |= {"exam_check"}
    assert {name for name in old if old[name] != new[name]} <= graded
    assert (new["regrade_of"], new["decode_tps"], new["started_at"]) == (1, 55.0, old["started_at"])
    (summary,) = report(tmp_path).summaries
    assert (summary.jobs, summary.mean, summary.retried, summary.regraded, summary.open_jobs) == (2, 50.0, 0, 2, 0)


def test_the_readme_query_shows_the_new_scores(tmp_path: Path, grader: Lengths) -> None:
    import duckdb

    run_of(tmp_path, answer(1, "four", 4.0), answer(2, "sixsix", 6.0))
    query = f"SELECT quant, avg(score) FROM '{tmp_path}/attempts/*.parquet' WHERE final GROUP BY quant"
    assert duckdb.execute(query).fetchall() == [("Q4_K_M", 5.0)]
    grader.each = 2.0
    regrade(tmp_path, exam="todo", out=QUIET)
    assert duckdb.execute(query).fetchall() == [("Q4_K_M", 10.0)]


def test_equal_grades_get_no_row_but_where_the_version_changed(tmp_path: Path, grader: Lengths) -> None:
    run_of(tmp_path, answer(1, "four", 4.0), answer(2, "sixsix", 6.0, grader_version="2"))
    assert not any(each.changed for each in regrade(tmp_path, exam=None, out=QUIET).regraded)
    assert sorted(rows_of(tmp_path)) == [("v2-1", 1), ("v2-1", 2), ("v2-2", 1)]
    assert {row["grader_version"] for row in rows_of(tmp_path).values() if row["final"]} == {"2"}
    assert len(regrade(tmp_path, exam=None, out=QUIET).regraded) == 2  # asked again, it looks at all of them again
    assert len(rows_of(tmp_path)) == 3
    grader.each = 3.0  # a change that nobody gave a version
    assert scores(regrade(tmp_path, exam=None, out=QUIET)) == {1: (4.0, 12.0), 2: (6.0, 18.0)}
    final = {row["job_id"]: (row["attempt"], row["regrade_of"]) for row in rows_of(tmp_path).values() if row["final"]}
    assert final == {"v2-1": (3, 1), "v2-2": (2, 1)}


def test_what_cannot_be_graded_again_is_named_and_failures_stay(tmp_path: Path, grader: Lengths) -> None:
    late = {"outcome": "generation_timeout", "outcome_class": "budget", "scores": None, "grade_items": None}
    run_of(
        tmp_path,
        answer(1, None, 4.0),
        answer(2, "old prompt", 10.0, prompt_version="0"),
        answer(3, "other", 5.0, scoring="strict"),
        answer(4, "", 0.0, **late, error="time was up"),
        make_row(job_id="v2-5", seed=5, device="cpu", **INFRASTRUCTURE),
        answer(6, "x", 1.0, exam="gone"),
        answer(7, "bug", 3.0),
        answer(8, "ok", 2.0),
    )
    found = regrade(tmp_path, exam=None, out=QUIET)
    why = {left.seed: left.reason for left in found.left}
    assert why == {
        1: "its answer was not kept",
        2: "it answers version 0 of the prompt, and the grader here is for version 1",
        3: "the grader here has no scoring 'strict'",
        6: "there is no such exam here",
        7: "the grader failed: ZeroDivisionError: a grader's own",
    }
    assert found.unscored == 1
    assert scores(found) == {4: (0.0, 0.0), 8: (2.0, 2.0)}
    kept = {row["seed"]: row for row in rows_of(tmp_path).values() if row["final"]}
    assert (kept[4]["outcome"], kept[4]["grader_version"], kept[4]["error"]) == (
        "generation_timeout",
        "2",
        "time was up",
    )
    assert {seed: row["attempt"] for seed, row in kept.items()} == {1: 1, 2: 1, 3: 1, 4: 2, 5: 1, 6: 1, 7: 1, 8: 2}
    said = "\n".join(found.lines())
    assert "not graded again, its answer was not kept: standin Q4_K_M on todo, seed 1" in said
    assert "not graded: 1 without an answer" in said
    # Only what failed here is tried again.
    assert found.failed
    assert sorted(scores(regrade(tmp_path, exam=None, out=QUIET))) == [4, 8]


def test_a_machine_without_what_the_exam_needs_grades_nothing_and_says_what_mends_it(
    tmp_path: Path, grader: Lengths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path, answer(1, "four", 4.0), answer(2, "sixsix", 6.0))
    lacks = FoundNeed(
        name="go", what="a Go toolchain", problem="go is not there", cure="sudo apt-get install -y golang"
    )
    monkeypatch.setattr(regrading, "find_needs", lambda needs: (lacks,))
    found = regrade(tmp_path, exam=None, out=QUIET)
    assert found.failed
    assert found.regraded == []
    assert {left.seed for left in found.left} == {1, 2}
    assert sum("sudo apt-get install -y golang" in line for line in found.lines()) == 1
    assert len(rows_of(tmp_path)) == 2


def test_a_start_of_the_run_afterwards_has_nothing_to_do_and_knows_the_numbers() -> None:
    state = SweepState([("c", 1)], [("j", "c")], retries=2)
    graded = [CommittedAttempt("j", 1, final=False, outcome_class="model")]
    state.restore([*graded, CommittedAttempt("j", 2, final=True, outcome_class="model")], [])
    assert state.complete


def test_an_answer_that_filled_its_context_stays_one(tmp_path: Path, grader: Lengths) -> None:
    full = {"outcome": "context_overflow", "outcome_class": "budget", "error": "it filled 64 tokens"}
    run_of(tmp_path, answer(1, "four", 4.0, finish_reason="length", **full))
    regrade(tmp_path, exam=None, out=QUIET)
    (new,) = [row for row in rows_of(tmp_path).values() if row["final"]]
    assert (new["attempt"], new["outcome"], new["error"]) == (2, "context_overflow", "it filled 64 tokens")


def test_a_number_that_was_given_out_is_not_taken(tmp_path: Path, grader: Lengths) -> None:
    """A row of it may lie in the spool of a node that was lost."""
    run_of(tmp_path, answer(1, "four", 4.0))
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append("assigned", lease_id="L1", job_id="v2-1", attempt=2)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"event":"assigned","damaged":1}\n{"nothing"\n')
    regrade(tmp_path, exam=None, out=QUIET)
    assert next(key for key, row in rows_of(tmp_path).items() if row["final"])[1] > 3


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path, grader: Lengths) -> None:
    run_of(tmp_path, answer(1, "four", 4.0))
    with RunDir(tmp_path).locked(), pytest.raises(RunFolderError, match="is alive"):
        regrade(tmp_path, exam=None, out=QUIET)
    with pytest.raises(RunFolderError, match="no such folder"):
        regrade(tmp_path / "nowhere", exam=None, out=QUIET)
    with pytest.raises(RunnersError, match="no exam called 'tod'"):
        regrade(tmp_path, exam="tod", out=QUIET)


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator import regrade as module
from orchestrator.terminal import Printer
from results.store import RunStore
from tests.orchestrator.test_regrade import Lengths
where, number = sys.argv[2], int(sys.argv[3])
exam, calls = Lengths(each=10.0), 0
def dying(function):
    def called(*arguments, **options):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return called
if where == "grade":
    exam.grade = dying(exam.grade)
elif where == "commit":
    RunStore.commit_many = dying(RunStore.commit_many)
else:
    module.Journal.append = dying(module.Journal.append)
real = module.get_exam
module.get_exam = lambda name: exam if name == "todo" else real(name)
module.regrade(Path(sys.argv[1]), exam=None, out=Printer(None))
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("append", 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("commit", 2), ("grade", 60), ("append", 1), ("append", 3))
        ),
    ],
)
def test_killed_at_any_moment_it_loses_nothing_and_the_same_command_goes_on(
    tmp_path: Path, grader: Lengths, where: str, number: int
) -> None:
    """Calls of `append`: begun, a file graded, the other file graded, ended."""
    run_of(tmp_path, *(answer(seed, "x" * (seed % 9), float(seed % 9)) for seed in range(70)))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), where, str(number)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    finals = [row["job_id"] for row in rows_of(tmp_path).values() if row["final"]]
    assert len(finals) == len(set(finals)) == 70
    committed = len(rows_of(tmp_path)) - 70
    grader.each, graded = 10.0, []
    grade = grader.grade
    grader.grade = lambda *arguments: (graded.append(1), grade(*arguments))[1]  # type: ignore[method-assign, func-returns-value]  # counts
    found = regrade(tmp_path, exam=None, out=QUIET)
    assert scores(found) == {seed: (float(seed % 9), 10.0 * (seed % 9)) for seed in range(70)}
    assert len(graded) == 70 - committed
    rows = rows_of(tmp_path)
    assert len(rows) == 140
    assert sum(row["score"] for row in rows.values() if row["final"]) == sum(10.0 * (seed % 9) for seed in range(70))
    assert all(row["score"] == float(row["seed"] % 9) for row in rows.values() if not row["final"])


def test_the_real_grader_grades_saved_replies_in_the_sandbox(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the command line, with the reference of the todo exam, and a reply that holds no program."""
    reference = files("runners.exams.todo").joinpath("reference/reference.py.txt").read_text(encoding="utf-8")
    scored = {"score": 32.0, "scores": '{"published": 32.0, "strict": 20.0}', "scoring": "strict", "outcome": "wrong"}
    run_of(
        tmp_path,
        make_row(job_id="v2-1", device="cpu", reply=f"```python\n{reference}\n```", **scored),
        make_row(job_id="v2-2", device="cpu", seed=2, reply="I would rather not.", **scored),
    )
    assert app(["regrade", str(tmp_path), "--exam", "todo"], standalone_mode=False) == 0
    said = capsys.readouterr()
    version = get_exam("todo").grader_version
    assert f"standin Q4_K_M on todo, grader 1 -> {version}: mean 32.0 -> 50.0, 2 of 2 answers changed" in said.out
    assert "seed 1: 32 -> 100 (wrong -> passed)" in said.out
    assert "seed 2: 32 -> 0 (wrong -> no_code)" in said.out
    assert "show" in said.err
    finals = {row["seed"]: row for row in rows_of(tmp_path).values() if row["final"]}
    assert {seed: row["score"] for seed, row in finals.items()} == {1: 100.0, 2: 0.0}
    assert finals[1]["isolation"]
    assert app(["regrade", str(tmp_path), "--json"], standalone_mode=False) == 0
    value = json.loads(capsys.readouterr().out)
    assert [each["changed"] for each in value["regraded"]] == [False, False]
    assert len(rows_of(tmp_path)) == 4


@pytest.fixture(autouse=True)
def _sandbox(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Exams that run nothing need no sandbox."""
    if "grader" in request.fixturenames:

        class Box:
            isolation = "nothing"

        monkeypatch.setattr("runners.sandbox.open_sandbox", Box)


def test_answers_to_several_tasks_are_told_apart() -> None:
    before, after = (Grading(number, float(number), "wrong", "1") for number in (1, 2))
    found = Report("bubblewrap")
    found.regraded += [Regraded(f"j-{task}", "m Q4", "repair", task, 1, before, after) for task in ("plain", "loud")]
    found.left.append(NotRegraded("j-3", "m Q4", "repair", "loud", 2, "it is gone", False))
    lines = found.lines()
    assert lines[1:3] == ["  loud, seed 1: 1 -> 2 (wrong)", "  plain, seed 1: 1 -> 2 (wrong)"]
    assert lines[-1] == "not graded again, it is gone: m Q4 on repair (loud), seed 2"


def test_a_grade_of_a_sound_machine_takes_the_place_of_an_equal_one_of_a_broken_machine() -> None:
    broken, sound, unknown = ({"exam_check": text} for text in ("failed: reference sum: ...", "ok", None))
    assert clears(sound, broken)
    assert not any((clears(broken, sound), clears(sound, sound), clears(sound, unknown), clears(broken, broken)))
