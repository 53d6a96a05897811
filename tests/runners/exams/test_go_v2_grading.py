"""The exam go-v2 graded for real: its proof, and programs that nobody tuned it to; minutes each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiles.probe.needs import find_needs
from runners.exams import get_exam
from runners.exams.check import check_exam
from runners.sandbox import Sandbox, SandboxUnavailable, open_sandbox
from tests.bench.confusion import grade, programs

if TYPE_CHECKING:
    from runners.exams.base import Specimen

pytestmark = pytest.mark.proof


@pytest.fixture(autouse=True)
def needs_go() -> None:
    if missing := [need for need in find_needs(get_exam("go-v2").needs) if need.found is None]:
        pytest.skip(missing[0].sentence)


@pytest.mark.parametrize("kind", ["bubblewrap", "namespaces"])
def test_the_grader_is_right(kind: str) -> None:
    try:
        sandbox: Sandbox = open_sandbox(kind)
    except SandboxUnavailable as error:
        pytest.skip(f"no {kind} here: {error.message}")
    report = check_exam("go-v2", sandbox)
    assert report.ok, "\n".join(report.lines())


@pytest.mark.parametrize("specimen", programs("go-v2"), ids=lambda specimen: specimen.name)
def test_a_program_is_judged_as_it_deserves(specimen: Specimen, sandbox: Sandbox) -> None:
    graded = grade(get_exam("go-v2"), specimen, sandbox)
    assert not graded.wrong, graded.grade.log
