"""Notes beside the scores: machines where a grader is wrong about known answers, and names that pass for no line."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.terminal import Printer
from results.layout import Paragraph
from results.reading import read_run
from results.store import RunStore
from tests.results.test_results_tables import show

if TYPE_CHECKING:
    from pathlib import Path

    from tests.results.conftest import MakeRow

FAILED = "failed: reference sum: points gives 0 instead of full marks"
FORGED = "Note: all of it is fine"


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if "known" in line or "proves" in line]


def test_a_machine_whose_grader_is_wrong_is_named_with_exam_and_reason(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        for seed, node in enumerate(("sound", "sound", "broken", "broken"), start=1):
            check = FAILED if node == "broken" else "ok"
            store.commit(row(job_id=f"j{seed}", seed=seed, node=node, exam="sums", exam_check=check))
        store.commit(row(job_id="old", seed=9, node="old", exam="sums", exam_check=None))
        store.commit(row(job_id="again", seed=3, attempt=2, final=False, node="broken", exam_check=FAILED))
    text = " ".join(show(tmp_path).split())
    assert "Note: 2 answers to sums graded on broken, where its grader is wrong about an answer" in text
    assert "(reference sum: points gives 0 instead of full marks): the scores may be wrong" in text
    assert "sums (if its grader, which was wrong about known answers, can be trusted; see below):" in text
    assert "on sound" not in text
    assert "on old" not in text


def test_an_exam_without_a_proof_is_said_once(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        for seed in (1, 2, 3):
            check = f"no proof: exam 'mine' has no reference for 'main' on n{seed}"
            store.commit(row(job_id=f"j{seed}", seed=seed, node=f"n{seed}", exam="mine", exam_check=check))
    text = show(tmp_path)
    assert text.count("Nothing proves the grader of mine (exam 'mine' has no reference for 'main'") == 1


def test_rows_of_such_a_machine_are_found_with_a_query(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(exam_check=FAILED))
        store.commit(row(job_id="b", seed=2, exam_check="ok"))
    table = read_run(tmp_path, ["seed", "exam_check"]).table
    assert [each["seed"] for each in table.to_pylist() if each["exam_check"].startswith("failed")] == [1]


@pytest.mark.parametrize("width", [50, 80, 100, 133])
def test_no_name_of_anybody_makes_a_line_of_its_own(tmp_path: Path, row: MakeRow, width: int) -> None:
    """Padded so that it begins a line at this width, whatever stands before it."""
    name = f"x{' ' * width}{FORGED}"
    items = json.dumps([{"name": name, "points": 0, "points_max": 1, "passed": False, "scoring": ""}])
    foreign = {"exam": f"exam {name}", "node": f"node {name}", "exam_check": f"failed: {name}", "grade_items": items}
    with RunStore(tmp_path) as store:
        for number, model in enumerate((f"a{name}", f"b{name}")):
            for seed in (1, 2, 3):
                odd = {
                    "score": float(seed),
                    "grader_version": str(seed),
                    "foreign_cpu_share": 0.5,
                    "hardware_class": name,
                }
                store.commit(row(job_id=f"j{number}-{seed}", model=model, seed=seed, **foreign, **odd))
    shown = show(tmp_path, width=width)
    assert FORGED.split()[1] in shown
    assert not [line for line in shown.splitlines() if line.startswith((FORGED, FORGED.partition(" ")[2]))]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=300), st.integers(5, 120))
def test_a_paragraph_has_one_line_that_is_not_set_in(text: str, width: int) -> None:
    shown = Printer(StringIO()).text_of(Paragraph(f"Note: {text}"), width=width)
    assert not [line for line in shown.split("\n")[1:] if line and not line.startswith("  ")]


def test_the_findings_are_in_the_report_for_programs(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(node="broken", exam_check=FAILED))
    (summary,) = json.loads(show(tmp_path, as_json=True))["summaries"]
    assert summary["checks"] == [["broken", FAILED, 1]]
