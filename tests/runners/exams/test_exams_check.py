"""The registry, and the proof of each grader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runners.chat import Message
from runners.exams import check, exam_names, get_exam
from runners.exams.base import Grade, Specimen, Task, UnknownExam, ask_once
from runners.exams.check import CheckReport, Finding, check_exam
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from runners.exams.base import Chat, Exam, Transcript
    from runners.exams.box import Box
    from runners.sandbox import Sandbox

PATIENCE_S = 60.0


def test_every_exam_keeps_its_promises() -> None:
    for name in exam_names():
        exam = get_exam(name)
        assert exam.name == name
        assert exam.prompt_version
        assert exam.grader_version
        assert exam.scorings
        assert exam.tasks()[0].messages[-1].role == "user"
        kinds = {specimen.kind for specimen in exam.specimens()}
        assert {"reference", "mutant", "cheat"} <= kinds


def test_unknown_exam_names_the_nearest() -> None:
    with pytest.raises(UnknownExam, match="no exam called 'tood'") as caught:
        get_exam("tood")
    assert caught.value.hint == "did you mean 'todo'?"
    with pytest.raises(UnknownExam) as caught:
        get_exam("zzzzzz")
    assert "todo" in caught.value.hint


def test_registry_is_cheap_to_import() -> None:
    program = "import sys, runners.exams; print([m for m in sys.modules if m.startswith('runners.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['runners.exams']"


def test_todo_grader_is_right(sandbox: Sandbox) -> None:
    seen: list[Finding] = []
    report = check_exam("todo", sandbox, on_finding=seen.append)
    assert report.ok, "\n".join(report.lines())
    assert report.findings == tuple(seen)
    assert report.isolation == sandbox.isolation
    by_name = {finding.name: finding for finding in report.findings}
    assert by_name["reference"].scores == {"published": 100.0, "strict": 100.0}
    assert by_name["empty answer"].scores == {"published": 0.0, "strict": 0.0}
    published = {name: by_name[name].scores["published"] for name in ("works", "menu", "cut_off")}
    assert published == {"works": 100.0, "menu": 60.0, "cut_off": 28.0}
    assert report.lines()[-1].endswith("the grader is right")


class Generous:
    """A grader with every fault: it gives full marks to anything."""

    name = "generous"
    prompt_version = "1"
    grader_version = "1"
    score_max = 10.0
    scorings: tuple[str, ...] = ("only",)
    language = "python"
    needs: frozenset[str] = frozenset()

    def tasks(self) -> tuple[Task, ...]:
        return (Task("main", (Message(role="user", content="?"),)),)

    def solve(self, task: Task, chat: Chat, _box: Box) -> Transcript:
        return ask_once(task, chat)

    def specimens(self) -> list[Specimen]:
        return [
            Specimen("reference", "reference", "good"),
            Specimen("broken", "mutant", "bad", loses=("thing",)),
            Specimen("cheat", "cheat", "fake", bounds={"only": 2.0}),
            Specimen("known", "published", "known", bounds={"only": 6.0}),
        ]

    def grade(self, task: Task, transcript: Transcript, box: Box) -> Grade:
        return Grade({"only": 10.0}, 10.0, Outcome.PASSED, (), "", "whole_reply", "none")


class Stingy(Generous):
    """And one that gives nothing."""

    def grade(self, task: Task, transcript: Transcript, box: Box) -> Grade:
        return replace(super().grade(task, transcript, box), scores={"only": 0.0})


def checked(exam: Exam, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> CheckReport:
    monkeypatch.setattr("runners.exams.check.get_exam", lambda name: exam)
    return check_exam(exam.name, sandbox)


def test_a_generous_grader_is_found_out(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    report = checked(Generous(), monkeypatch, sandbox)
    assert not report.ok
    assert [finding.name for finding in report.findings if not finding.ok] == [
        "empty answer",
        "broken",
        "cheat",
        "known",
    ]
    assert report.lines()[-1].endswith("4 of 5 answers are graded wrongly")


def test_a_stingy_grader_is_found_out(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    report = checked(Stingy(), monkeypatch, sandbox)
    problems = {finding.name: finding.problem for finding in report.findings if not finding.ok}
    assert problems["reference"] == "only gives 0 instead of full marks"
    assert problems["known"] == "only gives 0 instead of 6"


def test_who_stops_a_check_does_not_wait_for_what_has_not_begun(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """A check of minutes, asked to stop, graded every specimen that was left before it did."""
    begun: list[str] = []

    def examine(_exam: Exam, specimen: Specimen, _sandbox: Sandbox) -> Finding:
        begun.append(specimen.name)
        if len(begun) > 1:
            stopped.wait(PATIENCE_S)
        return Finding(specimen.name, specimen.kind, {}, "passed", "")

    def stop(_finding: Finding) -> None:
        threading.Timer(0.2, stopped.set).start()
        raise KeyboardInterrupt

    stopped = threading.Event()
    monkeypatch.setattr(check, "_examine", examine)
    with pytest.raises(KeyboardInterrupt):
        check.check_exam("todo", sandbox, on_finding=stop)
    assert len(begun) <= 1 + 2 * (os.cpu_count() or 1)
    assert len(get_exam("todo").specimens()) > 2 * len(begun)
