"""Whatever engines, graders and drivers say: what leaves the node fits the table, or says why it is no grade."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import rows, schema
from runners import rowcheck
from runners.errors import RunnersError
from runners.outcomes import Outcome, OutcomeClass
from runners.rowcheck import problems_of, sound

IDENTITY = {
    "sweep": "s",
    "job_id": "v1-a",
    "attempt": 1,
    "model": "m",
    "quant": "Q8_0",
    "variant": "default",
    "exam": "todo",
    "prompt_version": "1",
    "grader_version": "1",
    "seed": 7,
    "scoring": "strict",
    "node": "box",
    "device": "cpu",
    "hardware_class": "test",
    "started_at": "2026-01-02T03:04:05+00:00",
}
GRADED = {
    **IDENTITY,
    "score": 50.0,
    "score_max": 100.0,
    "scores": '{"strict":50.0}',
    "outcome": "wrong",
    "outcome_class": "model",
    "reply": "an answer",
    "ended_at": "2026-01-02T03:04:06+00:00",
}


def taken(row: dict[str, Any]) -> dict[str, Any]:
    """The row as the driver gets it: through JSON on the spool, then checked against the table."""
    arrived: dict[str, Any] = json.loads(json.dumps(row, allow_nan=False))
    full = rows.complete_row({**arrived, "final": True})
    for value in full.values():
        str(value).encode()  # nothing UTF-8 cannot hold
    return full


def test_columns_and_kinds_are_those_of_the_table() -> None:
    """Fails when a column is added to the table and not here: then say of what kind it is."""
    kinds = {"string": "text", "json": "json", "int": "whole", "float": "figure", "bool": "flag", "timestamp": "time"}
    kinds["list[string]"] = "texts"
    table = {column.name: kinds[column.type] for column in schema.COLUMNS}
    assert table == {**rowcheck.KINDS, "final": "flag", "schema_version": "whole"}
    required = {column.name for column in schema.COLUMNS if not column.nullable}
    assert required <= rowcheck.REQUIRED | {"final", "schema_version"}


def test_a_good_row_passes_unchanged() -> None:
    assert sound(GRADED, IDENTITY) == {**GRADED, "null_reasons": None}
    assert problems_of(GRADED) == []


class Strange:
    """A value of a grader's own class."""

    def __repr__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"outcome": None}, "outcome is missing"),
        ({"outcome": "nonsense"}, "there is no outcome 'nonsense'"),
        ({"outcome": "server_crash"}, "class infrastructure"),
        ({"outcome_class": "budget"}, "of class model, not budget"),
        ({"score": math.nan}, "score was not finite: nan"),
        ({"score": math.inf}, "score was not finite: inf"),
        ({"score": -1.0}, "score was below 0"),
        ({"score": 100.5}, "score 100.5 is above score_max 100.0"),
        ({"score": "full"}, "score was no number: 'full'"),
        ({"score": True}, "score was no number: True"),
        ({"score": 10**400}, "score was not finite"),
        ({"score": None}, "score, score_max or scoring is missing"),
        ({"score": Strange()}, "score was no number: a value of type Strange"),
        ({"score_max": None}, "is missing"),
        ({"scores": '{"strict":NaN}'}, "scores was no JSON"),
        ({"scores": {"strict": 1.0}}, "scores was no text"),
        ({"grade_items": "[" * 100_000}, "grade_items was no JSON"),
        ({"grade_items": '"' + "x" * (2 << 20) + '"'}, "grade_items had more than"),
        ({"surprise": 1}, "there is no column 'surprise'"),
    ],
)
def test_what_is_no_grade_becomes_the_infrastructures_failure_and_says_why(changes: dict[str, Any], named: str) -> None:
    row = taken(sound({**GRADED, **changes}, IDENTITY))
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("grader_crash", "infrastructure", None)
    assert named in row["error"]
    assert row["reply"] == "an answer"
    assert (row["job_id"], row["attempt"]) == ("v1-a", 1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("energy_j", math.nan),
        ("energy_j", -3.0),
        ("decode_tps", math.inf),
        ("temperature_c", "hot"),
        ("peak_ram_bytes", 2**70),
        ("peak_ram_bytes", -1),
        ("peak_ram_bytes", 1.5),
        ("draft_accept_rate", 1.5),
        ("events", '{"a":Infinity}'),
        ("cold", "yes"),
        ("ended_at", "yesterday"),
        ("ended_at", "2026-01-02T03:04:06"),
        ("file_paths", "model.gguf"),
        ("isolation", b"bytes"),
        ("grader_log", {"a": 1}),
    ],
)
def test_a_figure_that_is_none_is_null_with_its_reason_and_the_grade_stands(column: str, value: Any) -> None:
    row = taken(sound({**GRADED, column: value}, IDENTITY))
    assert (row["outcome"], row["score"], row[column]) == ("wrong", 50.0, None)
    assert json.loads(row["null_reasons"])[column].startswith("what was recorded ")


def test_texts_are_made_fit_for_utf8_and_cut_with_a_mark() -> None:
    reply = "begin" + "\udc80é" * 3_000_000 + "end"
    row = taken(sound({**GRADED, "reply": reply, "grader_log": "x" * (9 << 20)}, IDENTITY))
    assert row["reply"].startswith("begin�é")
    assert row["reply"].endswith("�éend")
    assert len(row["reply"].encode()) <= rowcheck.LIMITS_BYTES["reply"]
    assert "[quantsweep left out 4," in row["reply"]
    assert len(row["grader_log"]) <= rowcheck.LIMITS_BYTES["grader_log"]
    assert row["score"] == 50.0


def test_a_text_at_its_limit_is_not_cut() -> None:
    whole = "é" * (rowcheck.LIMITS_BYTES["reply"] // 2)
    assert sound({**GRADED, "reply": whole}, IDENTITY)["reply"] == whole


def test_an_attempt_that_nobody_can_name_is_an_error_and_no_row() -> None:
    with pytest.raises(RunnersError, match="job_id"):
        sound({**GRADED, "job_id": "../../etc"}, {**IDENTITY, "job_id": "../../etc"})


def test_reasons_of_columns_that_are_there_or_do_not_exist_are_left_out() -> None:
    given_reasons = json.dumps({"reply": "there is one", "nonsense": "x", "energy_j": "no \udc80 counter", "e2e_s": 3})
    row = taken(sound({**GRADED, "null_reasons": given_reasons}, IDENTITY))
    assert json.loads(row["null_reasons"]) == {"energy_j": "no � counter", "e2e_s": "3"}
    for broken in ("[1]", "{", "[" * 100_000, 7):
        assert taken(sound({**GRADED, "null_reasons": broken}, IDENTITY))["null_reasons"] is None


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**80), max_value=2**80),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.sampled_from([Outcome.PASSED, "passed", "server_crash", "model", "budget", "infrastructure", "{}", "[1]", ""]),
    st.binary(max_size=4),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.builds(Strange),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(rowcheck.KINDS)), VALUES, max_size=12), st.booleans())
def test_any_row_at_all_comes_out_fit_for_the_table(changes: dict[str, Any], graded: bool) -> None:
    changes = {name: value for name, value in changes.items() if name not in IDENTITY}
    made = sound({**(GRADED if graded else IDENTITY), **changes}, IDENTITY)
    assert problems_of(made) == []
    row = taken(made)
    if row["outcome_class"] == OutcomeClass.INFRASTRUCTURE:
        assert row["score"] is None


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(rowcheck.KINDS)), VALUES, max_size=12))
def test_what_the_spool_lets_through_the_table_takes(changes: dict[str, Any]) -> None:
    """The two rules agree: a row without problems here has none there."""
    row = {**GRADED, **changes}
    if not problems_of(row):
        made = sound(row, IDENTITY)
        assert made["outcome"] == row["outcome"]
        rows.validate_row({**made, "final": True})
