from __future__ import annotations

import hashlib
import io
import json
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.rows import SchemaError, complete_row, validate_row
from results.schema import COLUMNS, COLUMNS_BY_NAME, SCHEMA_VERSION, Column, arrow_schema

if TYPE_CHECKING:
    from .conftest import MakeRow

# The list, which every row has at least.
PROMISED = (
    "sweep, job_id, attempt, final, model, quant, variant, exam, seed, repo, revision, file_sha256, file_bytes, "
    "engine, engine_build, context, load_s, ttft_any_s, ttft_answer_s, prompt_tokens, cached_tokens, reasoning_tokens, "
    "answer_tokens, prefill_tps, decode_tps, e2e_s, finish_reason, peak_ram_bytes, peak_vram_bytes, score, score_max, "
    "scoring, outcome, outcome_class, node, device, hardware_class, reply, started_at, schema_version"
)


def problems(row: dict[str, Any]) -> str:
    with pytest.raises(SchemaError) as caught:
        validate_row(row)
    return str(caught.value)


def test_every_promised_column_is_there() -> None:
    assert set(PROMISED.split(", ")) <= set(COLUMNS_BY_NAME)


def test_names_are_unique_and_every_column_is_described() -> None:
    assert len(COLUMNS_BY_NAME) == len(COLUMNS)
    for column in COLUMNS:
        assert column.description.endswith("."), column.name
        assert column.group


@pytest.mark.parametrize(
    ("ending", "unit"), [("_s", "s"), ("_bytes", "bytes"), ("_tps", "tokens/s"), ("_tokens", "tokens")]
)
def test_a_name_that_ends_in_a_unit_has_that_unit(ending: str, unit: str) -> None:
    assert {column.unit for column in COLUMNS if column.name.endswith(ending)} == {unit}


def test_the_arrow_schema_has_the_columns_in_order_and_typed_times() -> None:
    schema = arrow_schema()
    assert schema.names == [column.name for column in COLUMNS]
    assert str(schema.field("started_at").type) == "timestamp[us, tz=UTC]"


def test_a_change_of_the_columns_raises_the_version() -> None:
    """Files of one version have the same columns: what differs counts as damaged. Change both figures together."""
    columns = ";".join(f"{column.name}:{column.type}" for column in COLUMNS)
    assert (SCHEMA_VERSION, hashlib.sha256(columns.encode()).hexdigest()[:16]) == (11, "fa24010a1488d49b")


def test_the_schema_needs_neither_pyarrow_nor_other_rooms() -> None:
    code = (
        "import sys, results.schema as s\n"
        "assert s.COLUMNS\n"
        "rooms = ('orchestrator', 'runners', 'quants', 'profiles', 'pyarrow', 'results.')\n"
        "print([m for m in sys.modules if m.startswith(rooms) and m != 'results.schema'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_an_unknown_column_is_refused_with_the_nearest_right_one(row: MakeRow) -> None:
    assert "no column 'decode_tsp' (did you mean 'decode_tps'?)" in problems(row(decode_tsp=1.0))


def test_all_problems_are_named_at_once(row: MakeRow) -> None:
    text = problems(row(modle="x", seed="1", load_s=math.nan))
    assert "'modle'" in text
    assert "seed must be a whole number" in text
    assert "load_s must be a finite number" in text


@pytest.mark.parametrize("name", [column.name for column in COLUMNS if not column.nullable])
def test_a_required_column_may_not_be_left_out(row: MakeRow, name: str) -> None:
    changed = row(**{name: None})
    if name == "schema_version":
        assert complete_row(changed)["schema_version"] == SCHEMA_VERSION
    else:
        assert f"{name} is missing" in problems(changed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attempt": True}, "attempt must be a whole number"),
        ({"attempt": 0}, "attempt counts from 1"),
        ({"seed": 2**63}, "seed must be a whole number of at most 64 bits"),
        ({"file_bytes": -1}, "file_bytes must be a number of bytes from 0 up"),
        ({"load_s": -0.1}, "load_s must not be negative"),
        ({"load_s": "0.1"}, "load_s must be a finite number"),
        ({"load_s": 10**400}, "load_s must be a finite number"),
        ({"final": 1}, "final must be True or False"),
        ({"model": 7}, "model must be text"),
        ({"outcome_class": "harness"}, "one of model, budget, infrastructure"),
        ({"file_paths": "a.gguf"}, "file_paths must be a list of texts"),
        ({"scores": {"published": 100}}, "scores must be text that is valid JSON"),
        ({"scores": '{"published": NaN}'}, "scores must be text that is valid JSON"),
        ({"started_at": "2026-11-20T10:00:00"}, "started_at must be a time with its offset"),
        ({"started_at": "yesterday"}, "started_at must be a time with its offset"),
        ({"job_id": "../x"}, "it names a file"),
        ({"draft_accept_rate": 1.5}, "draft_accept_rate is a fraction"),
        ({"score": 101.0}, "score 101.0 is above score_max 100.0"),
        ({"score": None}, "must be there for outcome 'passed'"),
        ({"scoring": None}, "must be there for outcome 'passed'"),
        ({"null_reasons": '{"driver": 1}'}, "an object of texts"),
        ({"null_reasons": '{"drivr": "no GPU"}'}, "did you mean 'driver'"),
        ({"null_reasons": '{"load_s": "unknown"}'}, "says why load_s is null, and it is not"),
    ],
)
def test_what_a_row_may_not_say(row: MakeRow, changes: dict[str, Any], words: str) -> None:
    assert words in problems(row(**changes))


def test_an_infrastructure_failure_has_no_score(row: MakeRow, infrastructure_row: MakeRow) -> None:
    validate_row(infrastructure_row(score_max=None, scoring=None))
    assert "nothing was graded" in problems(row(outcome="node_lost", outcome_class="infrastructure", score=0.0))


def test_a_cut_off_answer_keeps_what_it_scored(row: MakeRow) -> None:
    validate_row(row(outcome="max_tokens", outcome_class="budget", score=28.0))


def test_times_of_any_offset_become_utc(row: MakeRow) -> None:
    berlin = timezone(timedelta(hours=1))
    full = complete_row(
        row(started_at="2026-11-20T11:00:00+01:00", ended_at=datetime(2026, 11, 20, 11, 1, tzinfo=berlin))
    )
    assert full["started_at"] == datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    assert full["started_at"].tzinfo is UTC
    assert full["ended_at"] == datetime(2026, 11, 20, 10, 1, tzinfo=UTC)


def test_half_a_surrogate_pair_in_a_reply_does_not_cost_the_row(row: MakeRow) -> None:
    assert complete_row(row(reply="ok \ud83d cut"))["reply"] == "ok \ufffd cut"


def values(column: Column) -> st.SearchStrategy[Any]:
    texts = st.text(max_size=30)
    match column.type:
        case "string":
            return st.sampled_from(column.choices) if column.choices else texts
        case "json":
            return st.recursive(
                st.none() | st.booleans() | st.integers() | texts,
                lambda inner: st.lists(inner, max_size=3),
                max_leaves=5,
            ).map(json.dumps)
        case "int":
            return st.integers(0 if column.unit else -(2**63), 2**63 - 1)
        case "float":
            return st.floats(0, 1e300)
        case "bool":
            return st.booleans()
        case "timestamp":
            return st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds must be naive
        case "list[string]":
            return st.lists(texts, max_size=3)


@st.composite
def sound_rows(draw: st.DrawFn) -> dict[str, Any]:
    row = {
        column.name: draw(values(column) if not column.nullable else st.none() | values(column)) for column in COLUMNS
    }
    row["job_id"] = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", fullmatch=True))
    row["attempt"] = draw(st.integers(1, 99))
    row["null_reasons"] = None
    row["draft_accept_rate"] = draw(st.none() | st.floats(0, 1))
    score_max = draw(st.floats(0, 1000))
    failed = row["outcome_class"] == "infrastructure"
    row |= {"score_max": score_max, "score": None if failed else draw(st.floats(0, score_max)), "scoring": "published"}
    return row


@settings(deadline=None, max_examples=12)
@given(sound_rows())
def test_a_row_comes_back_from_parquet_as_it_went_in(given_row: dict[str, Any]) -> None:
    import pyarrow.parquet as pq

    from results.columnar import as_table, encode_alone

    full = complete_row(given_row)
    (back,) = pq.read_table(io.BytesIO(encode_alone(as_table([full])))).to_pylist()
    assert back == full
    assert {name: back[name] for name in given_row} == given_row


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from([column.name for column in COLUMNS]) | st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.integers(), max_size=2),
        max_size=12,
    )
)
def test_any_row_is_either_sound_or_refused_in_words(anything: dict[str, Any]) -> None:
    problems_found, full = [], {}
    try:
        full = complete_row(anything)
    except SchemaError as error:
        problems_found = error.problems
    assert bool(problems_found) != (list(full) == [column.name for column in COLUMNS])
