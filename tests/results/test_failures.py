"""What was lost in a run, by how often; and a job's attempts, found by the beginning of its id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from results.failures import LOOKED_AT, failure_groups, items_of
from results.jobs import job_rows, short_ids
from results.reading import StoreError, read_run
from results.store import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow


def items(*lost: str, scoring: str = "") -> str:
    """Of a grade that lost these of three."""
    names = ("add", "delete", "list")
    return json.dumps(
        [
            {"name": name, "points": 0 if name in lost else 10, "points_max": 10, "passed": name not in lost}
            | {"note": "exit code 1" if name in lost else "", "scoring": scoring}
            for name in names
        ]
    )


def test_what_was_lost_most_often_comes_first(tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow) -> None:
    store = RunStore(tmp_path)
    wrong: dict[str, Any] = {"outcome": "wrong", "score": 60.0}
    store.commit(row(job_id="v2-aa", grade_items=items()))
    store.commit(row(job_id="v2-ab", seed=2, grade_items=items("delete"), **wrong))
    store.commit(row(job_id="v2-ac", seed=3, quant="Q2_K", grade_items=items("add", "delete"), **wrong))
    store.commit(row(job_id="v2-ad", seed=4, grade_items=None, **wrong))
    store.commit(infrastructure_row(job_id="v2-ae", seed=5, final=False))
    store.commit(row(job_id="v2-ae", seed=5, attempt=2, grade_items=items()))
    store.commit(infrastructure_row(job_id="v2-af", seed=6))
    store.commit(row(job_id="v2-ag", seed=7, grade_items=items("list"), final=False, taken_out=True, **wrong))
    found = failure_groups(read_run(tmp_path, LOOKED_AT).table)
    assert [(each.item, each.outcome, each.retried, [f.job_id for f in each.failures]) for each in found] == [
        ("delete", "wrong", False, ["v2-ac", "v2-ab"]),  # by cell, and then by seed
        (None, "server_crash", False, ["v2-af"]),
        (None, "wrong", False, ["v2-ad"]),
        ("add", "wrong", False, ["v2-ac"]),
        (None, "server_crash", True, ["v2-ae"]),
    ]
    assert {each.jobs for each in found} == {6}
    assert found[0].note == "exit code 1"
    assert found[1].note == "it crashed"


def test_items_of_another_scoring_are_not_what_was_lost() -> None:
    both = json.dumps(json.loads(items("add", scoring="strict")) + json.loads(items("list", scoring="published")))
    assert [item.name for item in items_of(both, "strict") if item.is_lost] == ["add"]
    assert len(items_of(both)) == 6


@pytest.mark.parametrize(
    "text", [None, "", "{", "[" * 100_000, '"x"', "[1, null, {}]", '[{"points": "1", "points_max": 2}]']
)
def test_items_of_a_foreign_row_that_are_none(text: str | None) -> None:
    assert items_of(text) == ()


def test_a_job_is_found_by_the_beginning_of_its_id(tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow) -> None:
    store = RunStore(tmp_path)
    store.commit(infrastructure_row(job_id="v2-abcdef01", final=False))
    store.commit(row(job_id="v2-abcdef01", attempt=2, reply="the answer"))
    store.commit(row(job_id="v2-abcdee02", seed=2))
    for beginning in ("v2-abcdef", "abcdef", "v2-abcdef01"):
        found = job_rows(tmp_path, beginning)
        assert [(each["attempt"], each["outcome"]) for each in found] == [(1, "server_crash"), (2, "passed")]
        assert found[1]["reply"] == "the answer"
    with pytest.raises(StoreError, match="2 jobs have an id that begins with 'abc'") as several:
        job_rows(tmp_path, "abc")
    assert several.value.hint == "Give more of it: v2-abcdee02, v2-abcdef01"
    for nobody in ("ff", ""):
        with pytest.raises(StoreError, match="no job of"):
            job_rows(tmp_path, nobody)
    with pytest.raises(StoreError, match="there is no run"):
        job_rows(tmp_path / "nowhere", "abc")


def test_ids_are_shortened_as_far_as_they_stay_apart() -> None:
    found = short_ids(["v2-abcdef01", "v2-abcdee02", "v2-1234567890", "plain"])
    assert found == {"v2-abcdef01": "abcdef", "v2-abcdee02": "abcdee", "v2-1234567890": "123456", "plain": "plain"}
    assert short_ids(["v2-abcdefgh1", "v2-abcdefgh2"])["v2-abcdefgh1"] == "abcdefgh1"
