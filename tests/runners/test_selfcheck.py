"""What a machine makes of answers that are known, before it grades others: right, wrong, none there, and remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runners import selfcheck
from runners.exams import get_exam
from runners.exams.folder.exam import open_exam
from runners.exams.folder.new import new_exam
from runners.sandbox import open_sandbox
from runners.selfcheck import SelfChecks

if TYPE_CHECKING:
    from pathlib import Path

    from runners.exams.folder.exam import FolderExam
    from runners.sandbox.base import Completed, Sandbox

TWO_NUMBERS = '[[test]]\nname = "adds"\nargs = ["2", "3"]\nstdout = "5"\n'


class Counted:
    """A real sandbox that counts what it runs."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self.isolation, self.runs = sandbox, sandbox.isolation, 0

    def run(self, *words: Any, **options: Any) -> Completed:
        self.runs += 1
        return self._sandbox.run(*words, **options)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setenv("QUANTSWEEP_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(selfcheck, "_right", set())
    return Counted(open_sandbox())


def made(folder: Path, reference: str | None = "print(sum(map(int, __import__('sys').argv[1:])))\n") -> FolderExam:
    """An exam of one test; its reference is right unless another one is given."""
    new_exam(folder)
    (folder / "mutants.toml").unlink()
    head = (folder / "exam.toml").read_text().partition("[[test]]")[0]
    (folder / "exam.toml").write_text(head + TWO_NUMBERS)
    for path in (folder / "reference").iterdir():
        path.unlink()
    if reference is not None:
        (folder / "reference" / "sum.py").write_text(reference)
    return open_exam(folder)


def test_a_machine_that_grades_rightly_is_asked_once(tmp_path: Path, sandbox: Counted) -> None:
    exam = made(tmp_path / "mine")
    assert SelfChecks(sandbox).of(exam) == "ok"
    tried = sandbox.runs
    assert tried > 0
    assert SelfChecks(sandbox).of(exam) == "ok"
    selfcheck._right.clear()  # another process of this machine
    assert SelfChecks(sandbox).of(exam) == "ok"
    assert sandbox.runs == tried
    (tmp_path / "mine" / "exam.toml").write_text((tmp_path / "mine" / "exam.toml").read_text() + "points = 2\n")
    assert SelfChecks(sandbox).of(open_exam(tmp_path / "mine")) == "ok"
    assert sandbox.runs > tried


def test_a_compiler_that_changes_is_tried_again(
    tmp_path: Path, sandbox: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "rustc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    exam = made(tmp_path / "mine")
    SelfChecks(sandbox).of(exam)
    tried = sandbox.runs
    compiler.write_text("#!/bin/sh\nexit 1\n")
    assert SelfChecks(sandbox).of(exam) == "ok"
    assert sandbox.runs > tried


def test_a_machine_that_grades_wrongly_says_how_and_is_tried_again_later(tmp_path: Path, sandbox: Counted) -> None:
    exam = made(tmp_path / "mine", "print(7)\n")
    checks = SelfChecks(sandbox)
    assert checks.of(exam) == "failed: reference sum: points gives 0 instead of full marks"
    tried = sandbox.runs
    assert checks.of(exam).startswith("failed")
    assert sandbox.runs == tried
    assert SelfChecks(sandbox).of(exam).startswith("failed")
    assert sandbox.runs > tried


def test_an_exam_without_a_reference_has_no_proof(tmp_path: Path, sandbox: Counted) -> None:
    found = SelfChecks(sandbox).of(made(tmp_path / "mine", None))
    assert found.startswith("no proof: exam 'mine' has no reference for 'main'")
    assert sandbox.runs == 0


def test_whatever_fails_is_a_finding_in_one_line(tmp_path: Path, sandbox: Counted) -> None:
    exam = made(tmp_path / "mine")
    (tmp_path / "mine" / "grader.py").write_text("def grade(task, transcript, box):\n    raise ValueError('a\\nb')\n")
    settings = 'name = "mine"\nlanguage = "python"\nscore_max = 1\n[grader]\npython = "grader.py"\n'
    (tmp_path / "mine" / "exam.toml").write_text(settings)
    assert SelfChecks(sandbox).of(open_exam(tmp_path / "mine")) == (
        "failed: empty answer cannot be graded: ValueError: a b"
    )
    notes: list[None] = []
    broken: Any = object()
    found = SelfChecks(sandbox, lambda: notes.append(None)).of(broken)
    assert found.startswith("failed: the check itself: AttributeError: ")
    assert notes == [None]
    lost = replace(exam, settings=replace(exam.settings, language="cobol"))
    assert SelfChecks(sandbox).of(lost).startswith("failed: ")


def test_todo_is_graded_rightly_here(sandbox: Counted) -> None:
    assert SelfChecks(sandbox).of(get_exam("todo")) == "ok"
