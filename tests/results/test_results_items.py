from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from results.columnar import as_table
from results.items import MOST_ITEMS, Alarm, alarms, alarms_of
from results.parts import Part
from results.reading import ATTEMPTS_FOLDER, part_name
from results.rows import complete_row
from results.store import RunStore
from tests.results.test_results_tables import show

if TYPE_CHECKING:
    from pathlib import Path

    from tests.results.conftest import MakeRow


def items(scoring: str = "", /, **passed: bool) -> str:
    return json.dumps([{"name": name, "passed": each, "scoring": scoring} for name, each in passed.items()])


def graded(text: str | None, model: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "model": model,
        "exam": "go-v2",
        "task": "main",
        "grader_version": "1",
        "scoring": "published",
        "grade_items": text,
    } | changes


def three_each(text: str, *models: str) -> list[dict[str, Any]]:
    return [graded(text, model) for model in models for _ in range(3)]


def test_an_item_that_every_model_failed_is_an_alarm_one_that_all_passed_a_note() -> None:
    """BufferBounded of the published Go exam counted live scrapes, and failed every model."""
    rows = three_each(items(OnlineFlow=True, BufferBounded=False, Shutdown=False), "a", "b")
    rows += three_each(items(OnlineFlow=True, BufferBounded=False, Shutdown=True), "c")
    failed, passed = alarms(rows)
    assert failed == Alarm("go-v2", "", False, ("BufferBounded",), of=3, models=3, replies=9)
    assert passed == Alarm("go-v2", "", True, ("OnlineFlow",), of=3, models=3, replies=9)
    assert str(failed).startswith("1 of 3 items of go-v2 failed in all of 9 replies, of 3 models (BufferBounded): the")
    assert "they tell no models apart" in str(passed)


@pytest.mark.parametrize(
    "rows",
    [
        three_each(items(x=False, y=True), "a") * 4,  # of one model: it may just not know better
        three_each(items(x=False, y=True), "a", "b")[:5],  # too few
        [*three_each(items(x=False, y=False), "a", "b")],  # nothing runs: no word on the items
        [graded("[]", model) for model in "ab"] * 5,
    ],
)
def test_where_that_says_nothing_there_is_no_alarm(rows: list[dict[str, Any]]) -> None:
    assert not any(not alarm.passed for alarm in alarms(rows))


def test_items_of_another_scoring_and_versions_of_a_grader_are_kept_apart() -> None:
    both = json.dumps(
        [
            {"name": "x", "passed": True, "scoring": "published"},
            {"name": "x strict", "passed": False, "scoring": "strict"},
        ]
    )
    assert [alarm.items for alarm in alarms(three_each(both, "a", "b"))] == [("x",)]
    mended = [graded(items(x=True, y=True), model, grader_version="2") for model in "ab"] * 3
    found = alarms([*three_each(items(x=False, y=True), "a", "b"), *mended])
    assert [(alarm.passed, alarm.items) for alarm in found] == [(False, ("x",)), (True, ("y",)), (True, ("x", "y"))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[" * 100_000,
        '{"name": "x"}',
        '[1, null, {"name": 7, "passed": true}, {"name": "x", "passed": "yes"}, {"passed": true}]',
    ],
)
def test_what_is_no_list_of_items_is_passed_over(text: str) -> None:
    assert alarms([graded(text, model) for model in "ab"] * 5) == ()


def test_very_many_items_and_very_long_names_are_bounded() -> None:
    rows = [
        graded(json.dumps([{"name": f"{number}{row}" + "x" * 5_000, "passed": True} for number in range(MOST_ITEMS)]))
        for row in range(3)
    ]
    rows += [graded(items(**{"y" * 5_000: True}), model) for model in "ab"] * 5
    assert alarms(rows) == ()  # the first reply filled up what is kept
    (found,) = alarms([graded(items(**{f"{number}" + "y" * 5_000: True for number in range(20)}), m) for m in "ab"] * 5)
    assert len(str(found)) < 1_000


def test_show_has_them_above_the_notes_and_in_json(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        for model in ("a", "b"):
            for seed in range(1, 6):
                text = items(adds=True, bounded=False)
                store.commit(row(job_id=f"{model}{seed}", model=model, seed=seed, score=50.0, grade_items=text))
        huge = items(**{f"n{number}": False for number in range(9_000)})
        store.commit(row(job_id="huge", model="c", grade_items=huge))
    (tmp_path / ATTEMPTS_FOLDER / part_name(999_999, "0" * 8)).write_bytes(b"PAR1 torn")
    text = " ".join(show(tmp_path, width=100, colour=False).split())
    assert "Alarm: 1 of 2 items of todo failed in all of 10 replies, of 2 models (bounded)" in text
    assert "Note: 1 of 2 items of todo passed in all of 10 replies" in text
    assert [each["items"] for each in json.loads(show(tmp_path, as_json=True))["alarms"]] == [["bounded"], ["adds"]]


def test_of_a_large_run_a_sample_is_read(tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.items.MOST_FILES", 6)
    folder = tmp_path / ATTEMPTS_FOLDER
    folder.mkdir()
    for number in range(9):
        made = complete_row(row(job_id=f"j{number}", model=f"m{number // 3}", grade_items=items(x=False, y=True)))
        Part(folder / part_name(number + 1, f"{number:08x}")).rewrite(as_table([made]), closed=True)
    (failed, _) = alarms_of(tmp_path)
    assert (failed.replies, failed.models) == (6, 3)
    monkeypatch.setattr("results.items.MOST_BYTES", 0)
    assert alarms_of(tmp_path) == ()
