"""The exam go-v3: a reply graded for real, what it is refused for, and the proof of its grader."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from profiles.probe.needs import find_needs
from runners.exams import get_exam
from runners.exams.base import Grade, Reply
from runners.exams.check import check_exam
from runners.exams.go.building import build
from runners.exams.go_v3.grader import ITEMS
from runners.exams.go_v3.scenarios import SCENARIOS, UNRACED
from runners.outcomes import Outcome
from runners.sandbox import SandboxUnavailable, open_sandbox
from runners.sandbox.base import Completed
from runners.toolchains.base import ToolchainError
from tests.bench.confusion import grade as grade_program
from tests.bench.confusion import programs
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from pathlib import Path

    from runners.exams.base import Specimen

EXAM = get_exam("go-v3")


@pytest.fixture
def needs_go() -> None:
    if missing := [need for need in find_needs(EXAM.needs) if need.found is None]:
        pytest.skip(missing[0].sentence)


def graded(text: str, tmp_path: Path, finish_reason: str = "stop") -> Grade:
    return grade_reply(EXAM, Reply(text, finish_reason=finish_reason), open_sandbox(), tmp_path)


def test_the_prompt_shows_the_types_that_replies_are_built_with() -> None:
    prompt = EXAM.tasks()[0].messages[0].content
    assert "type Sink interface {" in prompt
    assert "@" not in prompt


def test_every_item_has_one_scenario() -> None:
    assert sorted(item for items in SCENARIOS.values() for item in items) == sorted(ITEMS)
    assert EXAM.score_max == len(ITEMS) == 13
    assert UNRACED in ITEMS


def test_a_reply_without_the_package_needs_no_toolchain(tmp_path: Path) -> None:
    grade = graded("```go\npackage main\n```", tmp_path)
    assert (grade.scores, grade.outcome) == ({"score": 0.0}, Outcome.NO_CODE)
    assert graded("#START relay.go#\n", tmp_path, "length").outcome is Outcome.MAX_TOKENS


class FailingGo:
    """A toolchain whose compiled library cannot be opened."""

    version = "go of a broken disk"
    environment = MappingProxyType({"GOCACHE": "/cache/go"})

    def run(self, _sandbox: object, _words: object, **_how: object) -> Completed:
        said = b"# runtime/cgo\nopen /cache/go/3f/3f66-d: input/output error\n"
        return Completed(1, None, b"", said, "nonzero", 0.1)


def test_a_library_that_cannot_be_opened_is_not_the_replys_fault(tmp_path: Path) -> None:
    broken: Any = FailingGo()
    sandbox: Any = None
    with pytest.raises(ToolchainError, match="cannot use its compiled library: open /cache/go/3f"):
        build(broken, sandbox, tmp_path / "built", {}, ["build"])


@pytest.mark.long
@pytest.mark.usefixtures("needs_go")
def test_a_program_that_does_not_build_or_hides_is_told_so(tmp_path: Path) -> None:
    for name, why in (
        ("does-not-build", "it does not build: relay/relay.go:"),
        ("hides-from-the-detector", "//go:norace is not allowed"),
    ):
        (tmp_path / name).mkdir()
        text = next(each.text for each in EXAM.specimens() if each.name == name)
        grade = graded(text, tmp_path / name)
        assert (grade.scores, grade.outcome) == ({"score": 0.0}, Outcome.COMPILE_ERROR)
        assert [item.name for item in grade.items] == list(ITEMS)
        assert all(why in item.note for item in grade.items)


@pytest.mark.long
@pytest.mark.usefixtures("needs_go")
def test_the_reference_has_full_marks(tmp_path: Path) -> None:
    reference = next(each.text for each in EXAM.specimens() if each.kind == "reference")
    grade = graded(reference, tmp_path)
    assert (grade.scores, grade.outcome) == ({"score": 13.0}, Outcome.PASSED), grade.log


@pytest.mark.proof
@pytest.mark.usefixtures("needs_go")
@pytest.mark.parametrize("kind", ["bubblewrap", "namespaces"])
def test_the_grader_is_right(kind: str) -> None:
    try:
        sandbox = open_sandbox(kind)
    except SandboxUnavailable as error:
        pytest.skip(f"no {kind} here: {error.message}")
    report = check_exam("go-v3", sandbox)
    assert report.ok, "\n".join(report.lines())


@pytest.mark.proof
@pytest.mark.usefixtures("needs_go")
@pytest.mark.parametrize("specimen", programs("go-v3"), ids=lambda specimen: specimen.name)
def test_a_program_is_judged_as_it_deserves(specimen: Specimen) -> None:
    graded = grade_program(EXAM, specimen, open_sandbox())
    assert not graded.wrong, graded.grade.log
