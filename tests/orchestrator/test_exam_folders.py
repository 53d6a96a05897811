"""A sweep of exams that are folders of a user's own: identity, transport to nodes, resuming, regrading, reuse."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.cli.app import app
from orchestrator.errors import RunFolderError, SpecError
from orchestrator.kept_plan import read_plan
from orchestrator.regrade import regrade
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.sweep import SpecSource, SweepResult, run_sweep
from orchestrator.terminal import Printer
from results.store import read_run
from runners.exams.folder.content import Content
from runners.exams.folder.exam import open_exam, packaged_exam, unpack_exam
from runners.exams.folder.new import new_exam
from tests.orchestrator.inprocess import Agent, Behaviour, InProcessCluster
from tests.orchestrator.test_growth import SPEC

if TYPE_CHECKING:
    from runners.orders import CellOrder, JobOrder

OWN = SPEC.replace('exams = ["todo"]', 'exams = ["./mine", "todo"]')
REFERENCE = (
    "```python\nimport sys\n\ntry:\n    print(sum(map(int, sys.argv[1:])))\nexcept ValueError:\n    print('error')\n```"
)
"""An answer to the exam that `exams new` makes; it loses one point, for its exit code."""


class Sweeps:
    """Runs of one spec in this process; agents answer with `REFERENCE`, scored as `score` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given: list[str] = []
        self.orders: list[CellOrder] = []
        self.said = ""

    def cluster(self, _address: str | None) -> Any:
        sweeps = self

        class Answering(Agent):
            def row_of(self, order: CellOrder, job: JobOrder) -> dict[str, Any]:
                sweeps.given.append(f"{job.exam} {job.seed}")
                sweeps.orders.append(order)
                row = super().row_of(order, job)
                if job.exam not in order.exams:
                    return row
                exam = unpack_exam(order.exams[job.exam])  # as a node does
                found = {"grader_version": exam.grader_version, "prompt_version": exam.prompt_version}
                graded = {"scores": json.dumps({"points": 3.0}), "score": 3.0, "score_max": 6.0, "outcome": "wrong"}
                return row | found | graded | {"reply": REFERENCE, "scoring": order.scoring[job.exam]}

        make = lambda cluster, node: Answering(cluster, node, Behaviour())  # noqa: E731 - one line, used once
        return nullcontext(InProcessCluster({"n1": "box"}, make=make))

    def run(self, text: str = OWN, folder: str = "run", **options: Any) -> SweepResult:
        self.given.clear()
        self.orders.clear()
        stream = StringIO()
        source = SpecSource(parse_spec(text, "demo.toml"), text, "demo.toml", self.folder)
        try:
            return run_sweep(source, out_dir=self.folder / folder, address="here:1", out=Printer(stream), **options)
        finally:
            self.said = stream.getvalue()

    def rows(self, folder: str = "run") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read_run(self.folder / folder).table.to_pylist()
        return found


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    found = Sweeps(tmp_path)
    monkeypatch.setattr("orchestrator.sweep.connect", found.cluster)
    monkeypatch.setattr("orchestrator.sweep.check_address", lambda _: None)
    monkeypatch.setattr("orchestrator.members.time.sleep", lambda _: None)
    new_exam(tmp_path / "mine")
    return found


def test_a_folder_goes_with_every_order_and_is_in_the_identity(sweeps: Sweeps) -> None:
    assert sweeps.run().complete
    assert sorted(sweeps.given) == ["mine 1", "mine 2", "todo 1", "todo 2"]
    exam = open_exam(sweeps.folder / "mine")
    assert {order.exams["mine"] for order in sweeps.orders} == {exam.content.pack()}
    rows = [row for row in sweeps.rows() if row["exam"] == "mine"]
    assert {row["prompt_version"] for row in rows} == {exam.prompt_version}
    assert {row["grader_version"] for row in rows} == {exam.grader_version}
    assert read_plan(RunDir(sweeps.folder / "run")).folders == {"mine": str(sweeps.folder / "mine")}
    assert (sweeps.folder / "run" / "exams" / "mine.zip").read_bytes() == exam.content.pack()
    sweeps.run()
    assert sweeps.given == []


def test_another_prompt_is_another_job_and_does_not_go_into_the_same_folder(sweeps: Sweeps) -> None:
    sweeps.run()
    (sweeps.folder / "mine" / "prompt.md").write_text("Something else.")
    with pytest.raises(RunFolderError, match="does not ask any more what this run's rows answer") as caught:
        sweeps.run()
    assert "--out DIR" in str(caught.value.hint)
    with pytest.raises(RunFolderError, match="cannot stand beside") as caught:
        sweeps.run(OWN.replace('"1-2"', '"1-3"'))
    assert any("exam mine: its prompt was version folder-" in line for line in caught.value.details)
    assert sweeps.run(folder="other", reuse=[sweeps.folder / "run"]).complete
    assert sorted(sweeps.given) == ["mine 1", "mine 2"]  # those of todo are the same jobs


def test_another_grader_takes_what_is_there_and_says_so(sweeps: Sweeps) -> None:
    sweeps.run()
    settings = sweeps.folder / "mine" / "exam.toml"
    settings.write_text(settings.read_text().replace("points = 2", "points = 3"))
    assert sweeps.run(OWN.replace('"1-2"', '"1-3"')).complete
    assert sorted(sweeps.given) == ["mine 3", "todo 3"]
    versions = {row["seed"]: row["grader_version"] for row in sweeps.rows() if row["exam"] == "mine"}
    assert versions[1] == versions[2] != versions[3]
    assert sweeps.run(folder="other", reuse=[sweeps.folder / "run"]).complete
    assert sweeps.given == []
    assert "graded by another version of the grader" in sweeps.said
    assert versions[1] in sweeps.said


def install(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Our exam todo, as if another quantsweep were installed."""
    todo = packaged_exam("runners.exams.todo")
    settings = {name: changes.pop(name) for name in ("prompt_version", "grader_version", "scorings") if name in changes}
    changed = replace(todo, settings=replace(todo.settings, **settings), **changes)
    monkeypatch.setattr("runners.exams.todo.load", lambda: changed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": ("Something else.",)}, "was changed in this installation and still calls itself version 1"),
        (
            {"prompts": ("Something else.",), "prompt_version": "2"},
            "the prompt of the exam todo is version 2 here, and this run's rows answer version 1",
        ),
        ({"scorings": ("lenient",)}, "the exam todo has no scoring strict any more"),
    ],
)
def test_ours_that_asks_something_else_after_an_update_does_not_go_on(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    sweeps.run(SPEC)
    with monkeypatch.context() as other:
        install(other, **changes)
        with pytest.raises(RunFolderError) as caught:
            sweeps.run(SPEC)
        assert said in str(caught.value)
        assert "--out DIR" in str(caught.value.hint)
        assert sweeps.given == []
    sweeps.run(SPEC)  # as it was installed before


def test_ours_that_grades_otherwise_after_an_update_goes_on_by_a_version_of_its_own_or_says_that_it_has_none(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.run(SPEC)
    todo = packaged_exam("runners.exams.todo")
    version = todo.grader_version
    changed = {**todo.content.files, "reading.py": b"# otherwise\n"}
    install(monkeypatch, content=Content(changed))
    assert sweeps.run(SPEC).complete
    assert f"the grader of the exam todo was changed in this installation and still calls itself version {version}" in (
        sweeps.said
    )
    named = todo.content.files["exam.toml"].replace(f'grader_version = "{version}"'.encode(), b'grader_version = "99"')
    install(monkeypatch, content=Content({**todo.content.files, "exam.toml": named}), grader_version="99")
    assert sweeps.run(SPEC).complete
    assert "warning" not in sweeps.said


def test_a_folder_that_is_gone_is_taken_as_it_was(sweeps: Sweeps) -> None:
    sweeps.run()
    shutil.rmtree(sweeps.folder / "mine")
    assert sweeps.run().complete
    assert "the exam mine is taken as this run last had it" in sweeps.said
    (sweeps.folder / "run" / "exams" / "mine.zip").write_bytes(b"PK damaged")
    with pytest.raises(RunFolderError, match="the exam mine cannot be read in"):
        sweeps.run()


def test_answers_are_graded_anew_by_what_the_folder_is_today(sweeps: Sweeps) -> None:
    sweeps.run()
    quiet = Printer(None)
    report = regrade(sweeps.folder / "run", exam="mine", out=quiet)
    assert [(each.before.score, each.after.score, each.after.outcome) for each in report.regraded] == [
        (3.0, 5.0, "runtime_error"),
        (3.0, 5.0, "runtime_error"),
    ]
    settings = sweeps.folder / "mine" / "exam.toml"
    settings.write_text(settings.read_text().replace("exit_code = 2\n", ""))
    report = regrade(sweeps.folder / "run", exam=None, out=quiet)
    mine = [each for each in report.regraded if each.exam == "mine"]
    assert [(each.before.score, each.after.score) for each in mine] == [(5.0, 6.0)] * 2
    assert {each.after.grader_version for each in mine} == {open_exam(sweeps.folder / "mine").grader_version}
    other = sweeps.folder / "elsewhere"
    shutil.move(sweeps.folder / "mine", other)
    assert not regrade(sweeps.folder / "run", exam=str(other), out=quiet).left


@pytest.mark.parametrize(
    ("exams", "said"),
    [
        ('"./nowhere"', r"exams\[0\]: there is no folder"),
        ('"./mine", "./mine/"', r"exams\[1\]: ./mine/ is called 'mine', as another exam of this sweep"),
        ('"./mine", "./todo"', r"exams\[1\]: ./todo is called 'todo', as an exam of quantsweep"),
        ('"mine"', "there is no exam called 'mine'.*named by its path"),
    ],
)
def test_what_is_wrong_with_an_exam_is_told_with_the_line(sweeps: Sweeps, exams: str, said: str) -> None:
    new_exam(sweeps.folder / "todo")
    with pytest.raises(SpecError) as caught:
        sweeps.run(SPEC.replace('"todo"', exams))
    import re

    assert re.search(r"demo\.toml:3: .*" + said, str(caught.value), re.DOTALL)


def test_the_command_line_makes_and_proves_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app(["exams", "new", "mine", "--grader", "python"], standalone_mode=False) in {0, None}
    assert "exams check ./mine" in capsys.readouterr().out
    assert app(["exams", "check", "./mine"], standalone_mode=False) == 0
    assert "the grader is right" in capsys.readouterr().out


@pytest.mark.cluster
@pytest.mark.long
def test_exams_of_both_forms_are_swept_for_real(tmp_path: Path) -> None:
    """The stand-in writes a todo program; one exam runs it by tests, one by a command, one by a grader of Python."""
    prompt = files("runners.exams.todo").joinpath("prompt.md").read_text(encoding="utf-8")
    head = 'name = "{}"\nlanguage = "python"\nfilename = "todo.py"\n'
    forms = {
        "by-tests": '[[test]]\nname = "lists"\nargs = ["list"]\n',
        "by-command": '[grader]\ncommand = ["sh", "try.sh", "{program}"]\noutput = "tap"\npoints = { adds = 3 }\n',
        "by-python": 'score_max = 1\n[grader]\npython = "grader.py"\n',
    }
    for name, grader in forms.items():
        (tmp_path / name / "files").mkdir(parents=True)
        (tmp_path / name / "prompt.md").write_text(prompt)
        (tmp_path / name / "exam.toml").write_text(head.format(name) + grader)
    (tmp_path / "by-command" / "files" / "try.sh").write_text(
        'if "$@" add milk >/dev/null 2>&1; then echo "ok 1 - adds"; else echo "not ok 1 - adds"; fi\n'
    )
    (tmp_path / "by-python" / "grader.py").write_text(
        "from runners.exams.base import Item\nfrom runners.exams.folder.kit import find_program, graded\n\n\n"
        "def grade(task, transcript, box):\n"
        "    done = find_program(transcript.reply, 'python', box, filename='todo.py').run('list')\n"
        "    right = done is not None and done.exit_code == 0\n"
        "    return graded([Item('lists', float(right), 1.0, right)], answer)\n".replace(
            "find_program(transcript.reply, 'python', box, filename='todo.py').run",
            "(answer := find_program(transcript.reply, 'python', box, filename='todo.py')).run",
        )
    )
    text = f"""
name = "own"
seeds = "1-2"
exams = {json.dumps([f"./{name}" for name in forms])}
sampling = {{ temperature = 0.2, max_tokens = 1024 }}
engine = {{ kind = "embedded", gpu_layers = 0, threads = 1, context = 2048 }}
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["Q8_0"]
"""
    source = SpecSource(parse_spec(text, "own.toml"), text, "own.toml", tmp_path)
    assert run_sweep(source, out_dir=tmp_path / "run", out=Printer(None)).complete
    rows = read_run(tmp_path / "run").table.to_pylist()
    assert {(row["exam"], row["score"], row["score_max"], row["outcome"]) for row in rows} == {
        ("by-tests", 1.0, 1.0, "passed"),
        ("by-command", 3.0, 3.0, "passed"),
        ("by-python", 1.0, 1.0, "passed"),
    }
    assert all("$ " in row["grader_log"] for row in rows)


BROKEN_COMPILER = """#!/bin/sh
# What tries whether it works is built rightly; the programs of answers are not, as after a broken update.
for word; do
    if [ "$word" = main.c ]; then
        echo 'int main(void) { return 1; }' > broken.c
        exec /usr/bin/gcc -o program broken.c
    fi
done
exec /usr/bin/gcc "$@"
"""


@pytest.mark.cluster
@pytest.mark.long
def test_a_node_whose_compiler_is_broken_is_named_beside_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/usr/bin/gcc").exists():
        pytest.skip("there is no gcc to put a broken one before")
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text(BROKEN_COMPILER)
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("QUANTSWEEP_STATE", str(tmp_path / "state"))
    new_exam(tmp_path / "sums", language="c")
    text = """
name = "broken"
seeds = "1-2"
exams = ["./sums"]
sampling = { temperature = 0.2, max_tokens = 64 }
engine = { kind = "embedded", gpu_layers = 0, threads = 1, context = 2048 }
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["Q8_0"]
"""
    source = SpecSource(parse_spec(text, "broken.toml"), text, "broken.toml", tmp_path)
    assert run_sweep(source, out_dir=tmp_path / "run", out=Printer(None)).complete
    found = {row["exam_check"] for row in read_run(tmp_path / "run").table.to_pylist()}
    assert found == {"failed: reference sum: points gives 0 instead of full marks"}
    assert app(["show", str(tmp_path / "run")], standalone_mode=False) in {0, None}
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 answers to sums graded on" in shown
    assert "where its grader is wrong about an answer that is known (reference sum: points gives 0" in shown
