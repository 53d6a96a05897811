"""A sweep that grows and shrinks in its folder: what is done is kept, what is new is run, and nothing is run twice."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from importlib.resources import files
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

import quants.standin
from orchestrator import rundir
from orchestrator.errors import RunFolderError
from orchestrator.growth import what_clashes
from orchestrator.kept_plan import read_plan
from orchestrator.newcomers import newcomers
from orchestrator.plan import Plan
from orchestrator.preview import preview
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.sweep import SpecSource, SweepResult, run_sweep
from orchestrator.terminal import Json, Printer
from quants.models import FileModel
from results.store import RunStore, read_run
from results.tables import report
from tests.orchestrator.inprocess import Agent, Behaviour, InProcessCluster

if TYPE_CHECKING:
    from pathlib import Path

    from runners.orders import CellOrder, JobOrder

SPEC = """\
name = "demo"
seeds = "1-2"
exams = ["todo"]
[sampling]
max_tokens = 1000
[engine]
context = 2048
threads = 1
[[models]]
name = "small"
source = "builtin:stand-in"
quants = ["Q8_0"]
"""
STAND_IN = files(quants.standin)
MORE_SEEDS = SPEC.replace('"1-2"', '"1-4"')
MORE_QUANTS = MORE_SEEDS.replace('["Q8_0"]', '["Q8_0", "Q2_K"]')
VARIANT = '[[models.variants]]\nname = "{}"\nengine = {{ cache_type_k = "{}" }}\n'


class Sweeps:
    """Runs specs in folders on a cluster in this process, and remembers which jobs its agents were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given: list[tuple[str, str, int]] = []
        self.said = ""
        self.behaviour = Behaviour()

    def cluster(self, _address: str | None) -> Any:
        sweeps = self

        class Noting(Agent):
            def row_of(self, order: CellOrder, job: JobOrder) -> dict[str, Any]:
                sweeps.given.append((order.cell.label, job.exam, job.seed))
                scores = json.dumps({"strict": 100.0, "published": 90.0})
                return super().row_of(order, job) | {"scores": scores, "grader_version": "2", "scoring": "strict"}

        return nullcontext(
            InProcessCluster({"n1": "box"}, make=lambda cluster, node: Noting(cluster, node, sweeps.behaviour))
        )

    def run(self, text: str, folder: str = "run", **options: Any) -> SweepResult:
        """What a start gives; `given` and `said` are of this start alone."""
        self.given.clear()
        stream = StringIO()
        source = SpecSource(parse_spec(text, "demo.toml"), text, "demo.toml", self.folder)
        try:
            # An address, so that this machine, which is not the cluster, is not probed for each plan.
            return run_sweep(source, out_dir=self.folder / folder, address="here:1", out=Printer(stream), **options)
        finally:
            self.said = stream.getvalue()

    def rows(self, folder: str = "run") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read_run(self.folder / folder).table.to_pylist()
        return found

    def counted(self, folder: str = "run") -> list[tuple[str, str, int]]:
        """What the README's queries see."""
        return sorted((row["quant"], row["variant"], row["seed"]) for row in self.rows(folder) if row["final"])


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    found = Sweeps(tmp_path)
    monkeypatch.setattr("orchestrator.sweep.connect", found.cluster)
    monkeypatch.setattr("orchestrator.sweep.check_address", lambda _: None)
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)
    return found


def test_seeds_and_then_a_quant_more_run_only_what_is_new(sweeps: Sweeps) -> None:
    assert sweeps.run(SPEC).complete
    assert sweeps.given == [("small Q8_0", "todo", 1), ("small Q8_0", "todo", 2)]
    assert sweeps.run(MORE_SEEDS).complete
    assert sweeps.given == [("small Q8_0", "todo", 3), ("small Q8_0", "todo", 4)]
    assert "the spec was changed: 2 new jobs, 2 kept, 0 taken out\nnew: seeds 3-4\n" in sweeps.said
    assert sweeps.run(MORE_QUANTS).complete
    assert sweeps.given == [("small Q2_K", "todo", seed) for seed in (1, 2, 3, 4)]
    assert "new: small Q2_K" in sweeps.said
    assert sweeps.counted() == [(quant, "default", seed) for quant in ("Q2_K", "Q8_0") for seed in (1, 2, 3, 4)]
    assert {row["attempt"] for row in sweeps.rows()} == {1}
    assert len({row["job_id"] for row in sweeps.rows()}) == 8
    sweeps.run(MORE_QUANTS)
    assert sweeps.given == []
    assert "changed" not in sweeps.said
    folder = RunDir(sweeps.folder / "run")
    assert folder.spec.read_text() == MORE_QUANTS
    assert folder.jobs_planned() == 8
    assert [(folder.versions / number / "spec.toml").read_text() for number in "12"] == [SPEC, MORE_SEEDS]


def test_one_cell_of_one_job_is_no_plural(sweeps: Sweeps) -> None:
    sweeps.run(SPEC.replace('"1-2"', '"1-1"') + VARIANT.format("kv8", "q8_0"))
    assert "demo: 1 cell, 1 job; results in" in sweeps.said
    assert ": loading small (kv8) Q8_0\n" in sweeps.said
    assert "small (kv8) Q8_0 todo seed 1: score" in sweeps.said
    assert "1 of 1 job done" in sweeps.said


def test_what_is_taken_out_stays_on_record_and_comes_back_without_being_run(sweeps: Sweeps) -> None:
    sweeps.run(MORE_QUANTS)
    result = sweeps.run(SPEC)
    assert (result.jobs, result.done, sweeps.given) == (2, 2, [])
    assert "0 new jobs, 2 kept, 6 taken out\ntaken out, what was done stays on record" in sweeps.said
    assert "seeds 3-4; small Q2_K" in sweeps.said
    assert sweeps.counted() == [("Q8_0", "default", 1), ("Q8_0", "default", 2)]
    assert len(sweeps.rows()) == 8
    found = report(sweeps.folder / "run")
    assert [(summary.quant, summary.jobs, summary.open_jobs) for summary in found.summaries] == [("Q8_0", 2, 0)]
    assert "6 jobs taken out of the sweep: on record, not in the figures." in found.remarks
    assert sweeps.run(MORE_QUANTS.replace('"1-4"', '"1-5"')).complete
    assert "8 jobs new or back (6 done before), 2 kept, 0 taken out\nnew or back: seeds 3-5; small Q2_K" in sweeps.said
    assert "10 jobs, 8 of them done before" in sweeps.said
    assert sweeps.given == [("small Q8_0", "todo", 5), ("small Q2_K", "todo", 5)]
    sweeps.run(MORE_QUANTS)
    assert sweeps.given == []
    assert len(sweeps.counted()) == 8
    assert {row["seed"] for row in sweeps.rows() if row["taken_out"]} == {5}


def test_a_model_a_variant_and_limits_more(sweeps: Sweeps) -> None:
    sweeps.run(SPEC + VARIANT.format("plain", "f16"))
    grown = SPEC + VARIANT.format("plain", "f16") + VARIANT.format("kv8", "q8_0")
    grown += '[[models]]\nname = "other"\nsource = "builtin:stand-in"\nquants = ["Q2_K"]\n[limits]\nretries = 1\n'
    sweeps.run(grown)
    assert [cell for cell, _, _ in sweeps.given] == ["small (kv8) Q8_0"] * 2 + ["other Q2_K"] * 2
    assert "new: small (kv8) Q8_0, other Q2_K" in sweeps.said
    sweeps.run(SPEC + VARIANT.format("kv8", "q8_0"))
    assert sweeps.counted() == [("Q8_0", "kv8", 1), ("Q8_0", "kv8", 2)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("context = 2048", "context = 4096", "small: engine.context: was 2048, is 4096"),
        ("[sampling]", "[sampling]\ntemperature = 0.1", "small: sampling.temperature: was 0.8, is 0.1"),
        ('exams = ["todo"]', 'exams = ["todo"]\nscoring = "published"', "scoring of todo: was strict, is published"),
        ('name = "demo"', 'name = "another"', "name: was demo, is another"),
        ("builtin:stand-in", "other", "small Q8_0: artifact: was "),
    ],
)
def test_what_would_make_rows_incomparable_is_refused_and_changes_nothing(
    sweeps: Sweeps, old: str, new: str, expected: str
) -> None:
    (sweeps.folder / "other").mkdir()
    (sweeps.folder / "other" / "other-Q8_0.gguf").write_bytes((STAND_IN / "standin-Q2_K.gguf").read_bytes())
    sweeps.run(SPEC)
    before = {path: path.read_bytes() for path in (sweeps.folder / "run").rglob("*") if path.is_file()}
    # Also where the jobs that it contradicts were taken out meanwhile: their rows are on record under these names.
    for text in (SPEC, MORE_SEEDS):
        with pytest.raises(RunFolderError, match="cannot stand beside") as refused:
            sweeps.run(text.replace(old, new))
        assert any(line.startswith(expected) for line in refused.value.details), refused.value.details
    changed = {path for path, content in before.items() if path.name != "lock" and path.read_bytes() != content}
    assert not changed
    assert sweeps.run(SPEC).complete


def test_a_repository_that_has_another_file_by_now_is_refused_with_what_asks_for_the_one_that_the_run_has(
    sweeps: Sweeps,
) -> None:
    sweeps.run(SPEC)
    old = Plan.from_json((sweeps.folder / "run" / "plan.json").read_text())

    def of_a_repository(digit: str, revision: str) -> Plan:
        (cell,) = old.cells
        model = cell.model
        assert isinstance(model, FileModel)
        files = tuple(replace(file, sha256=digit * 64) for file in model.artifact.files)
        artifact = replace(model.artifact, repo="o/n", revision=revision, files=files)
        return replace(old, cells=(replace(cell, model=replace(model, artifact=artifact)),))

    (line,) = what_clashes(of_a_repository("b", "r2"), [of_a_repository("a", "r1")])
    assert line == f"small Q8_0: artifact: was {'a' * 64}, is {'b' * 64} (this run has that of hf:o/n@r1)"


def test_a_file_that_comes_to_the_folder_of_a_run_is_said_and_renames_nothing(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Q8_0 in the folder made "a-Q8_0" of the first one: rows that are done would have been run again."""
    models = sweeps.folder / "models"
    models.mkdir()

    def put(name: str, quant: str) -> None:
        (models / name).write_bytes(STAND_IN.joinpath(f"standin-{quant}.gguf").read_bytes())

    put("a-Q8_0.gguf", "Q8_0")
    spec = SPEC.replace("builtin:stand-in", "models").replace('["Q8_0"]', '"all"')
    assert sweeps.run(spec).complete
    assert "not in the run" not in sweeps.said
    put("b-Q8_0.gguf", "Q2_K")
    assert sweeps.run(spec).complete
    assert sweeps.given == []
    not_in = f"model 'small': b-Q8_0.gguf: not in the run of {sweeps.folder / 'run'}, whose files"
    assert f"warning: {not_in}" in sweeps.said
    # What did not fit when the plan was made is told as such, and is no newcomer.
    run = RunDir(sweeps.folder / "run")
    tight = replace(read_plan(run), warnings=("small b-Q8_0 is left out: cpu: needs more than there is",))
    assert newcomers(parse_spec(spec, "demo.toml"), tight, sweeps.folder, run) == []
    # `plan` calls them what `run` calls them, where it would go on with that run.
    monkeypatch.chdir(sweeps.folder)
    monkeypatch.setattr("orchestrator.preview.default_folder", lambda name: {"demo": sweeps.folder / "run"}[name])
    (sweeps.folder / "demo.toml").write_text(spec)
    (planned,) = preview("demo.toml", as_json=True)
    assert isinstance(planned, Json)
    assert {cell["quant"] for cell in planned.value["cells"]} == {"Q8_0", "b-Q8_0"}
    assert [line for line in planned.value["warnings"] if line.startswith(not_in)]
    more = spec.replace('"1-2"', '"1-3"')
    assert sweeps.run(more).complete
    assert sorted(sweeps.given) == [("small Q8_0", "todo", 3), *(("small b-Q8_0", "todo", seed) for seed in (1, 2, 3))]
    sweeps.run(more)
    assert "not in the run" not in sweeps.said


def test_a_name_that_was_taken_out_cannot_come_back_as_something_else(sweeps: Sweeps) -> None:
    other = SPEC.replace('"small"', '"large"').replace('["Q8_0"]', '["Q2_K"]')
    sweeps.run(SPEC)
    sweeps.run(other)
    with pytest.raises(RunFolderError, match="cannot stand beside"):
        sweeps.run(SPEC.replace("2048", "4096"))
    assert sweeps.run(SPEC).complete
    assert sweeps.given == []


def test_a_quant_that_fits_no_more_was_taken_out_by_nobody(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    """`quants = "all"` on a machine that has less room today, or of a repository that lost a file."""
    everything = SPEC.replace('["Q8_0"]', '"all"')
    first = sweeps.run(everything)
    from quants.sources import resolve as sources

    listing = sources.resolve

    def fewer(*arguments: Any, **options: Any) -> Any:
        found = listing(*arguments, **options)
        return replace(found, candidates=tuple(c for c in found.candidates if c.quant != "Q8_0"))

    monkeypatch.setattr(sources, "resolve", fewer)
    grown = sweeps.run(everything.replace('"1-2"', '"1-3"'))
    assert (first.jobs, grown.jobs) == (12, 18)
    assert sorted(label for label, _, seed in sweeps.given if seed == 3) == sorted(
        label for label, _, _ in sweeps.given
    )
    assert "small Q8_0" in {label for label, _, _ in sweeps.given}


def test_rows_of_equal_jobs_are_taken_from_another_run_and_not_run_again(sweeps: Sweeps) -> None:
    sweeps.run(SPEC, "one")
    called = MORE_QUANTS.replace('"demo"', '"mine"').replace('"small"', '"mine"')
    called = called.replace('exams = ["todo"]', 'exams = ["todo"]\nscoring = "published"')
    result = sweeps.run(called, "two", reuse=[sweeps.folder / "one"])
    assert result.complete
    assert "2 jobs taken from" in sweeps.said
    assert len(sweeps.given) == 6
    assert ("mine Q8_0", "todo", 1) not in sweeps.given
    run_id = RunDir(sweeps.folder / "one").read_identity()["run_id"]
    taken = [row for row in sweeps.rows("two") if row["reused_from"]]
    names = ("sweep", "model", "quant", "seed", "attempt", "final", "scoring", "score", "reused_from")
    assert [tuple(row[name] for name in names) for row in sorted(taken, key=lambda row: int(row["seed"]))] == [
        ("mine", "mine", "Q8_0", seed, 1, True, "published", 90.0, run_id) for seed in (1, 2)
    ]
    assert "2 answers taken from other runs (rows with `reused_from`)." in report(sweeps.folder / "two").remarks
    # A run that is made of it names where the answer was generated.
    sweeps.run(SPEC.replace('"small"', '"third"'), "three", reuse=[sweeps.folder / "two", sweeps.folder / "one"])
    assert sweeps.given == []
    assert {row["reused_from"] for row in sweeps.rows("three")} == {run_id}
    sweeps.run(SPEC.replace('"small"', '"third"'), "three", reuse=[sweeps.folder / "one"])
    assert len(sweeps.rows("three")) == 2


def test_only_what_an_equal_job_can_have_said_is_taken(sweeps: Sweeps) -> None:
    plan_jobs = sweeps.run(SPEC, "one")
    rows = sweeps.rows("one")
    donor = sweeps.folder / "other"
    failed = {"outcome": "server_crash", "outcome_class": "infrastructure", "score": None, "scores": None}
    changes: list[dict[str, Any]] = [{"seed": 9}, failed]
    with RunStore(donor) as store:
        store.commit_many([{**row, **change} for row, change in zip(rows, changes, strict=True)])
    assert sweeps.run(SPEC, "two", reuse=[donor]).complete
    assert "1 row left out, as they contradict their job's id" in sweeps.said
    assert len(sweeps.given) == plan_jobs.jobs == 2
    with pytest.raises(RunFolderError, match="this is the run itself"):
        sweeps.run(SPEC, "two", reuse=[sweeps.folder / "two"])
    with pytest.raises(RunFolderError, match="no such folder"):
        sweeps.run(SPEC, "two", reuse=[sweeps.folder / "nowhere"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("context = 2048", "context = 4096", "small Q8_0: engine.context: there 2048, here 4096"),
        ("[sampling]", "[sampling]\ntemperature = 0.1", "small Q8_0: sampling.temperature: there 0.8, here 0.1"),
        ('"1-2"', '"4-6"', "small Q8_0: seeds: there 1-2, here 4-6"),
        ('["Q8_0"]', '["Q2_K"]', "small Q2_K: its file is not in that run"),
        ('"small"', '"mine"', None),
    ],
)
def test_a_run_of_which_nothing_is_taken_says_what_its_nearest_jobs_differ_in(
    sweeps: Sweeps, old: str, new: str, expected: str | None
) -> None:
    sweeps.run(SPEC, "one")
    sweeps.run(SPEC.replace(old, new), "two", reuse=[sweeps.folder / "one"])
    said = (
        f"nothing is taken from {sweeps.folder / 'one'}: it has no score of an equal job. What the nearest differ in:"
    )
    if expected is None:
        assert "2 jobs taken from" in sweeps.said
        sweeps.run(SPEC.replace(old, new), "two", reuse=[sweeps.folder / "one"])
        assert "every job of this sweep has its score" in sweeps.said
    else:
        assert f"{said}\n  {expected}\n" in sweeps.said


def test_the_nearest_cell_is_the_one_with_the_fewest_differences(sweeps: Sweeps) -> None:
    sweeps.run(SPEC + VARIANT.format("kv8", "q8_0") + VARIANT.format("plain", "f16"), "one")
    wanted = SPEC.replace("context = 2048", "context = 4096") + VARIANT.format("another", "q8_0")
    sweeps.run(wanted, "two", reuse=[sweeps.folder / "one"])
    assert "\n  small (another) Q8_0: engine.context: there 2048, here 4096\n" in sweeps.said
    assert "cache_type_k" not in sweeps.said


@pytest.mark.parametrize("score", ['"55"', "true", "-7", "1e999", "1" + "0" * 400, "null", "[55]"])
def test_what_is_no_score_is_not_taken_for_one(sweeps: Sweeps, score: str) -> None:
    sweeps.run(SPEC, "one")
    donor = sweeps.folder / "donor"
    with RunStore(donor) as store:
        rows = sweeps.rows("one")
        rows[0]["scores"] = f'{{"strict": {score}}}'
        store.commit_many(rows)
    assert sweeps.run(SPEC, "two", reuse=[donor]).complete
    assert len(sweeps.given) == 1
    assert "1 row left out" in sweeps.said
    assert {row["score"] for row in sweeps.rows("two")} == {100.0}


def test_a_run_whose_equal_jobs_have_no_score_says_so(sweeps: Sweeps) -> None:
    sweeps.run(SPEC, "one")
    donor = RunDir(sweeps.folder / "one")
    for part in (donor.root / "attempts").glob("*.parquet"):
        part.unlink()
    sweeps.run(SPEC, "two", reuse=[donor.root])
    assert "small Q8_0: equal jobs are there, and none has a score that counts" in sweeps.said
    donor.plan.write_text("torn")
    sweeps.run(SPEC, "three", reuse=[donor.root])
    assert "and no plan that says what its jobs differ in" in sweeps.said


def test_what_another_grader_graded_is_taken_and_said(sweeps: Sweeps) -> None:
    sweeps.run(SPEC, "one")
    with RunStore(sweeps.folder / "old") as store:
        store.commit_many([row | {"grader_version": "0"} for row in sweeps.rows("one")])
    sweeps.run(SPEC, "two", reuse=[sweeps.folder / "old"])
    assert "graded by another version of the grader (0)" in sweeps.said
    assert {row["reused_from"] for row in sweeps.rows("two")} == {"old"}


@pytest.mark.parametrize("step", [3, 5, 6, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 4))])
def test_killed_while_it_grows_the_old_plan_counts_or_the_new_one(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before each file that is written, as if killed there: then the old command goes on, or the new one does."""

    class KilledError(BaseException):
        """As good as SIGKILL: nothing of ours catches it."""

    def growing(at: int) -> None:
        written, write = [0], rundir.write_durably

        def dying(path: Path, data: bytes) -> None:
            written[0] += 1
            if written[0] == at:
                raise KilledError
            write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(rundir, "write_durably", dying)
            with pytest.raises(KilledError) if at <= 5 else nullcontext():
                sweeps.run(MORE_SEEDS)

    sweeps.run(SPEC)
    growing(step)
    if step <= 5:
        assert sweeps.run(SPEC).complete
        assert sweeps.given == []
        assert RunDir(sweeps.folder / "run").spec.read_text() == SPEC
        growing(step)
        assert sweeps.run(MORE_SEEDS).complete
        assert [seed for _, _, seed in sweeps.given] == [3, 4]
    assert RunDir(sweeps.folder / "run").spec.read_text() == MORE_SEEDS
    assert sweeps.run(MORE_SEEDS).complete
    assert len(sweeps.counted()) == len(sweeps.rows()) == 4


@pytest.mark.parametrize("damage", [None, "", '{"plan_version": 2'])
def test_a_plan_that_is_lost_is_made_anew_where_jobs_and_rows_prove_it(sweeps: Sweeps, damage: str | None) -> None:
    sweeps.run(SPEC)
    plan = sweeps.folder / "run" / "plan.json"
    before = json.loads(plan.read_text())
    plan.unlink()
    if damage is not None:
        plan.write_text(damage)
    with pytest.raises(RunFolderError, match="the plan of this run cannot be read") as refused:
        sweeps.run(MORE_SEEDS)
    assert "with the spec as it was" in str(refused.value)
    assert sweeps.run(SPEC).complete
    assert sweeps.given == []
    assert "it was made anew" in sweeps.said
    assert json.loads(plan.read_text()) == before
    assert sweeps.run(MORE_SEEDS).complete
    assert sweeps.given == [("small Q8_0", "todo", 3), ("small Q8_0", "todo", 4)]


def test_a_plan_that_would_be_another_one_is_not_made_anew(sweeps: Sweeps, tmp_path: Path) -> None:
    """The file behind the name of the model is another one by now: its jobs are not those of the rows."""
    model = tmp_path / "m-Q8_0.gguf"
    model.write_bytes((STAND_IN / "standin-Q8_0.gguf").read_bytes())
    text = SPEC.replace("builtin:stand-in", str(model))
    sweeps.run(text)
    plan = sweeps.folder / "run" / "plan.json"
    plan.unlink()
    model.write_bytes((STAND_IN / "standin-Q2_K.gguf").read_bytes())
    with pytest.raises(RunFolderError, match="makes another one today") as refused:
        sweeps.run(text)
    assert "rows of 2 jobs" in str(refused.value)
    assert not plan.exists()
    assert len(sweeps.rows()) == 2
