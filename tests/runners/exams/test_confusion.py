"""Programs that nobody tuned the graders of todo and go-v1 to, graded as they deserve (`tests.bench.confusion`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiles.probe.needs import find_needs
from runners.exams import get_exam
from runners.exams.todo.features import FEATURES
from runners.exams.todo.functional import STEP_NAMES
from tests.bench.confusion import grade, programs, sets

if TYPE_CHECKING:
    from runners.exams.base import Specimen
    from runners.sandbox import Sandbox

ITEMS = {
    "todo": {"syntax", *(f"feature: {name}" for name in FEATURES), *(f"strict: {name}" for name in STEP_NAMES)},
    "go-v1": {
        f"corrected: {name} {what}"
        for name in ("factorial", "wordfreq", "filetreewalk")
        for what in ("builds", "runs", "is correct")
    },
}
"""What a program of each exam can lose by the default scoring."""
QUICK = ("hides-completed", "colours-turned-round")
"""One of either kind that an earlier grader got wrong, for the tests that everybody runs."""


def cases(*exams: str) -> list[object]:
    return [pytest.param(exam, each, id=f"{exam}-{each.name}") for exam in exams for each in programs(exam)]


@pytest.mark.parametrize("exam", sets())
def test_a_set_is_well_formed(exam: str) -> None:
    found = programs(exam)
    assert len({each.name for each in found}) == len(found)
    assert len({each.text for each in found}) == len(found)
    for each in found:
        assert bool(each.loses) == (each.kind == "mutant"), f"{each.name} does not say what it loses"


@pytest.mark.parametrize("exam", ITEMS)
def test_a_set_is_large_and_names_items_that_there_are(exam: str) -> None:
    kinds = [each.kind for each in programs(exam)]
    assert kinds.count("reference") >= 12
    assert kinds.count("mutant") >= 24
    for each in programs(exam):
        assert set(each.loses) <= ITEMS[exam], each.name


def test_every_item_is_lost_by_some_program() -> None:
    for exam, items in ITEMS.items():
        lost = {name for each in programs(exam) for name in each.loses}
        assert items <= lost, f"no program of {exam} shows that these measure anything: {sorted(items - lost)}"


@pytest.mark.parametrize("name", QUICK)
def test_a_program_that_was_graded_wrongly_once(name: str, sandbox: Sandbox) -> None:
    (specimen,) = (each for each in programs("todo", [name]) if each.name == name)
    graded = grade(get_exam("todo"), specimen, sandbox)
    assert not graded.wrong, graded.grade.log


@pytest.mark.proof
@pytest.mark.parametrize(("exam", "specimen"), cases(*ITEMS))
def test_a_program_is_graded_as_it_deserves(exam: str, specimen: Specimen, sandbox: Sandbox) -> None:
    if missing := [need for need in find_needs(get_exam(exam).needs) if need.found is None]:
        pytest.skip(missing[0].sentence)
    graded = grade(get_exam(exam), specimen, sandbox)
    assert not graded.wrong, graded.grade.log
