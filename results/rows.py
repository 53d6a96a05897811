"""The check of a row against the table, and the row as it is kept.

A row is a plain dict, column name to value, one per attempt. Nullable columns may be left out. What could not be
measured is null, never 0, and `null_reasons` may say why. Times are timezone-aware: a `datetime`, or ISO 8601 text
with an offset (`2026-11-20T09:30:00Z`). JSON columns hold text.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from results.schema import COLUMNS, COLUMNS_BY_NAME, SCHEMA_VERSION, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A job id is part of a file name."""

_INT64 = range(-(2**63), 2**63)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class SchemaError(ValueError):
    """A row that the table cannot hold as it stands; every problem found is listed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "this row does not fit the results table: " + "; ".join(self.problems)


def validate_row(row: Mapping[str, Any]) -> None:
    """Check `row` against the table.

    Raises:
        SchemaError: Unknown columns (with the nearest right name), wrong types, required columns that are missing,
            figures that contradict each other. All of them at once.
    """
    problems = [_unknown(name) for name in row if name not in COLUMNS_BY_NAME]
    for column in COLUMNS:
        value = row.get(column.name)
        if value is None:
            if not column.nullable and column.name != "schema_version":
                problems.append(f"{column.name} is missing")
        elif (problem := _problem(column, value)) is not None:
            problems.append(f"{column.name} {problem}, not {_short(value)}")
    if not problems:
        problems = _contradictions(row)
    if problems:
        raise SchemaError(problems)


def complete_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` checked, with every column in order, times as UTC datetimes, and text that UTF-8 can hold.

    Raises:
        SchemaError: As `validate_row`.
    """
    validate_row(row)
    full = {column.name: _stored(column, row.get(column.name)) for column in COLUMNS}
    if full["schema_version"] is None:
        full["schema_version"] = SCHEMA_VERSION
    return full


def _stored(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.type == "timestamp":
        return _as_utc(value)
    if column.type in {"string", "json"}:
        return _LONE_SURROGATE.sub("\ufffd", value)
    if column.type == "list[string]":
        return [_LONE_SURROGATE.sub("\ufffd", text) for text in value]
    return float(value) if column.type == "float" else value


def _as_utc(value: datetime | str) -> datetime:
    """`value` in UTC; ValueError where it is no ISO 8601 time or does not say its offset."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment.astimezone(UTC)


def _problem(column: Column, value: Any) -> str | None:
    """What is wrong with one value, or None; reads `<column> <problem>, not <value>`."""
    match column.type:
        case "string":
            if not isinstance(value, str):
                return "must be text"
            if column.choices and value not in column.choices:
                return f"must be one of {', '.join(column.choices)}"
        case "json":
            return None if isinstance(value, str) and _is_json(value) else "must be text that is valid JSON"
        case "int":
            if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
                return "must be a whole number of at most 64 bits"
            if column.unit is not None and value < 0:
                return f"must be a number of {column.unit} from 0 up"
        case "float":
            if not isinstance(value, int | float) or isinstance(value, bool) or not _is_finite(value):
                return "must be a finite number (leave out what was not measured)"
            if value < 0 and column.unit != "celsius":
                return "must not be negative"
        case "bool":
            return None if isinstance(value, bool) else "must be True or False"
        case "timestamp":
            return None if _is_time(value) else "must be a time with its offset from UTC"
        case "list[string]":
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                return "must be a list of texts"
    return None


def _contradictions(row: Mapping[str, Any]) -> list[str]:
    """What is wrong between columns, each of which is sound by itself."""
    problems = []
    if not _JOB_ID.fullmatch(row["job_id"]):
        problems.append(
            f"job_id must be letters, digits, `_`, `.` and `-` (it names a file), not {_short(row['job_id'])}"
        )
    if row["attempt"] < 1:
        problems.append(f"attempt counts from 1, not {row['attempt']}")
    score, score_max = row.get("score"), row.get("score_max")
    if row["outcome_class"] == "infrastructure":
        if score is not None:
            problems.append(f"score must be null on an infrastructure failure, not {score}: nothing was graded")
    elif score is None or score_max is None or row.get("scoring") is None:
        problems.append(f"score, score_max and scoring must be there for outcome {row['outcome']!r}")
    elif not score <= score_max:
        problems.append(f"score {score} is above score_max {score_max}")
    if (rate := row.get("draft_accept_rate")) is not None and rate > 1:
        problems.append(f"draft_accept_rate is a fraction, not {rate}")
    if (reasons := row.get("null_reasons")) is not None:
        problems += _null_reason_problems(row, json.loads(reasons))
    return problems


def _null_reason_problems(row: Mapping[str, Any], reasons: Any) -> list[str]:
    if not isinstance(reasons, dict) or not all(isinstance(reason, str) for reason in reasons.values()):
        return ["null_reasons must be an object of texts"]
    problems = [f"null_reasons: {_unknown(name)}" for name in reasons if name not in COLUMNS_BY_NAME]
    given = [name for name in reasons if row.get(name) is not None]
    return problems + [f"null_reasons says why {name} is null, and it is not" for name in given]


def _unknown(name: object) -> str:
    near = get_close_matches(str(name), COLUMNS_BY_NAME, n=1)
    return f"there is no column {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are Python's own: no other reader of the column parses them."""
    raise ValueError(name)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond what a double holds
        return False


def _is_time(value: Any) -> bool:
    try:
        _as_utc(value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
