"""A row leaves its node complete, finite and bounded, or as an infrastructure failure that says what was wrong.

A row is put together from what engines, graders and drivers of devices said, none of which can be trusted to be sane.
`sound` makes of it what the results table takes, in every case: a figure that is none becomes null with its reason,
a text that is too long is cut with a mark, and what decides the grade is never repaired: without a sound grade the
attempt is the infrastructure's failure, and is tried again.

The columns are those of the results table, which this package may not import; a test holds the two together.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from runners.errors import RunnersError
from runners.files import problem_of
from runners.outcomes import Outcome, OutcomeClass, outcome_class
from runners.row import compact_json, outcome_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["text", "json", "whole", "figure", "flag", "time", "texts"]

_COLUMNS: dict[Kind, str] = {
    "text": """run_id sweep job_id model quant variant exam task prompt_version grader_version repo revision
        file_sha256 provider provider_model provider_version currency
        engine engine_build load_mode token_count_source finish_reason peak_ram_source peak_vram_source
        scoring outcome outcome_class error isolation exam_check extraction node device backend engine_device
        device_match hardware_class governor platform_profile driver reply reasoning grader_log
        quantsweep_version reused_from architecture cache_type_k cache_type_v reasoning_mode os cpu split_mode
        offload flash_attention
        prompt prompt_sha256 chat_template chat_template_sha256""",
    "json": """sampling engine_settings events scores grade_items throttle_reasons shared_with unmatched_devices
        null_reasons turn_timings transcript files tensor_split deviations""",
    "whole": """attempt regrade_of seed file_bytes context prompt_tokens cached_tokens reasoning_tokens answer_tokens
        peak_ram_bytes peak_ram_anon_bytes peak_ram_file_bytes peak_gtt_bytes peak_vram_bytes
        buffer_model_bytes buffer_kv_bytes buffer_compute_bytes buffer_output_bytes buffer_state_bytes
        predicted_bytes parameters parameters_active threads gpu_layers cpu_moe_layers reasoning_budget ram_bytes slots
        layers layers_on_gpu
        device_memory_bytes turns devices""",
    "figure": """load_s ttft_any_s ttft_answer_s prefill_tps decode_tps decode_tps_client decode_ceiling_tps itl_p50_s
        itl_p95_s itl_p99_s e2e_s cost draft_accept_rate energy_j mean_power_w score score_max grade_s
        temperature_c clock_mhz foreign_cpu_share bits_per_weight""",
    "flag": "cold taken_out above_ceiling",
    "time": "started_at ended_at",
    "texts": "file_paths",
}
KINDS: dict[str, Kind] = {name: kind for kind, names in _COLUMNS.items() for name in names.split()}

_REQUIRED = """sweep job_id attempt model quant variant exam seed outcome outcome_class node device hardware_class
    started_at"""
REQUIRED = frozenset(_REQUIRED.split())
"""What a row must hold to be taken for one at all: what it is about, how it ended, where and when."""
_DECIDES = frozenset({"score", "score_max", "scoring", "scores", "grade_items", "outcome", "outcome_class"})
_MAY_BE_NEGATIVE = frozenset({"seed", "attempt", "temperature_c"})

LIMITS_BYTES = {
    "reply": 4 << 20,
    "reasoning": 4 << 20,
    "grader_log": 1 << 20,
    "error": 16 << 10,
    "prompt": 64 << 10,
    "chat_template": 64 << 10,
}
"""How many bytes of UTF-8 a text may have in a row; the longest reply of a million tokens is about four megabytes."""
OTHER_TEXT_BYTES = 8 << 10
JSON_BYTES = 1 << 20
TEXTS_MOST = 10_000

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64 = range(-(2**63), 2**63)


class _Unfit(Exception):  # noqa: N818 - control flow of this module: says what is wrong with one value
    """A value that its column cannot hold."""


def sound(row: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """`row` as it may leave the node: every value of its column's kind, finite and within its limit.

    Args:
        row: what was put together, `null_reasons` included.
        identity: the columns that say which attempt this is (`row.identity_columns`), and `started_at`.

    A row whose grade, outcome or identity is not sound comes back as `grader_crash` without a score, and `error`
    names what was wrong; what else it holds, the reply above all, is kept.

    Raises:
        RunnersError: `identity` itself is not sound.
    """
    columns, problems, reasons = _each_value({**row, **{k: v for k, v in identity.items() if row.get(k) is None}})
    problems += problems_between(columns)
    if problems:
        said = f" It said of itself: {columns['error']}" if columns.get("error") else ""
        error = f"the row of this attempt was not fit to be kept: {'; '.join(problems[:5])}.{said}"
        whole, _, _ = _each_value(dict(identity))
        columns = {
            **columns,
            **{name: value for name, value in whole.items() if value is not None},
            **dict.fromkeys(("score", "scores", "grade_items")),
            **outcome_columns(Outcome.GRADER_CRASH, _text(error, LIMITS_BYTES["error"])),
        }
        if remaining := problems_between(columns):
            raise RunnersError(f"an attempt cannot be told from others: {'; '.join(remaining)}")
    columns["null_reasons"] = _null_reasons(columns, row.get("null_reasons"), reasons)
    return columns


def problems_of(row: Mapping[str, Any]) -> list[str]:
    """What keeps `row`, which came from elsewhere (a spool), from being taken as it is; empty if nothing does."""
    columns, problems, _ = _each_value(row)
    return problems + problems_between(columns)


def _each_value(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """The values made to fit their columns, what could not be and matters, and why the others are null."""
    columns: dict[str, Any] = {}
    problems: list[str] = []
    reasons: dict[str, str] = {}
    for name, value in row.items():
        kind = KINDS.get(name)
        if kind is None:
            problems.append(f"there is no column {name!r}"[:200])
            continue
        try:
            columns[name] = None if value is None else _fit(name, kind, value)
        except _Unfit as why:
            columns[name] = None
            if name in REQUIRED or name in _DECIDES:
                problems.append(f"{name} {why}")
            else:
                reasons[name] = f"what was recorded {why}"
    return columns, problems, reasons


def _fit(name: str, kind: Kind, value: Any) -> Any:
    match kind:
        case "text":
            return _text(value, LIMITS_BYTES.get(name, OTHER_TEXT_BYTES))
        case "json":
            text = _json(value)
            if name == "files" and (problem := problem_of(json.loads(text))) is not None:
                raise _Unfit(problem)
            return text
        case "whole":
            if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
                raise _Unfit(f"was no whole number of 64 bits: {_short(value)}")
            return _not_negative(name, int(value))
        case "figure":
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise _Unfit(f"was no number: {_short(value)}")
            number = _finite(value)
            if name == "draft_accept_rate" and number > 1:
                raise _Unfit(f"was no fraction: {_short(value)}")
            return _not_negative(name, number)
        case "flag":
            if not isinstance(value, bool):
                raise _Unfit(f"was neither true nor false: {_short(value)}")
            return value
        case "time":
            return _time(value)
        case "texts":
            if not isinstance(value, list | tuple) or len(value) > TEXTS_MOST:
                raise _Unfit(f"was no list of at most {TEXTS_MOST} texts: {_short(value)}")
            return [_text(item) for item in value]


def _not_negative(name: str, value: Any) -> Any:
    if value < 0 and name not in _MAY_BE_NEGATIVE:
        raise _Unfit(f"was below 0: {_short(value)}")
    return value


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Unfit(f"was not finite: {_short(value)}")
    return number


def _text(value: Any, limit_bytes: int = OTHER_TEXT_BYTES) -> str:
    """The text as UTF-8 can hold it; of one beyond the limit the beginning and the end, and a mark between them."""
    if not isinstance(value, str):
        raise _Unfit(f"was no text: {_short(value)}")
    if len(value) <= limit_bytes:
        text = _LONE_SURROGATE.sub("\ufffd", value)
        if len(text.encode()) <= limit_bytes:
            return str(text)
    # A character takes a byte at least: what lies further in need not be looked at.
    room = limit_bytes - 100
    head, tail = (_LONE_SURROGATE.sub("\ufffd", part).encode() for part in (value[:room], value[-room:]))
    kept = [part.decode(errors="ignore") for part in (head[: room * 3 // 4], tail[-(room // 4) :])]
    mark = f"\n[quantsweep left out {len(value) - sum(map(len, kept)):,} characters here]\n"
    return mark.join(kept)


def _json(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit(f"was no text: {_short(value)}")
    if len(value) > JSON_BYTES or len(value.encode(errors="replace")) > JSON_BYTES:
        raise _Unfit(f"had more than {JSON_BYTES:,} bytes")
    text = _LONE_SURROGATE.sub("\ufffd", value)
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _Unfit(f"was no JSON: {_short(value)}") from None
    return text


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are Python's own: no other reader of the column parses them."""
    raise ValueError(name)


def _time(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise _Unfit(f"was no time: {_short(value)}") from None
    if moment.tzinfo is None:
        raise _Unfit(f"did not say its offset from UTC: {_short(value)}")
    return str(value)


def problems_between(columns: Mapping[str, Any]) -> list[str]:
    """What is missing from a row whose values are sound by themselves, and what contradicts itself."""
    problems = [f"{name} is missing" for name in sorted(REQUIRED) if columns.get(name) is None]
    if problems:
        return problems
    if not _JOB_ID.fullmatch(columns["job_id"]):
        problems.append(f"job_id is no name of a file: {_short(columns['job_id'])}")
    if columns["attempt"] < 1:
        problems.append(f"attempt counts from 1, not {columns['attempt']}")
    try:
        doing = outcome_class(Outcome(columns["outcome"]))
    except ValueError:
        return [*problems, f"there is no outcome {_short(columns['outcome'])}"]
    if columns["outcome_class"] != doing:
        problems.append(f"outcome {columns['outcome']} is of class {doing}, not {columns['outcome_class']}")
    score, score_max = columns.get("score"), columns.get("score_max")
    if doing is OutcomeClass.INFRASTRUCTURE:
        if score is not None:
            problems.append(f"nothing was graded, and score is {score}")
    elif score is None or score_max is None or columns.get("scoring") is None:
        problems.append(f"score, score_max or scoring is missing with outcome {columns['outcome']}")
    elif score > score_max:
        problems.append(f"score {score} is above score_max {score_max}")
    return problems


def _null_reasons(columns: Mapping[str, Any], given: Any, found: Mapping[str, str]) -> str | None:
    """The reasons of columns that are null: those that were given, where they can be read, and ours."""
    try:
        known = json.loads(given) if isinstance(given, str) and len(given) <= JSON_BYTES else {}
    except (ValueError, RecursionError):
        known = {}
    reasons = {**known, **found} if isinstance(known, dict) else dict(found)
    kept = {
        name: _text(str(why))
        for name, why in reasons.items()
        if name in KINDS and name != "null_reasons" and columns.get(name) is None
    }
    return compact_json(kept) if kept else None


def _short(value: Any) -> str:
    """A value for an error message, which must not break anything either: values of other classes are not printed."""
    if isinstance(value, str | bytes):
        text = repr(value[:60])
    elif isinstance(value, bool | float) or (isinstance(value, int) and value in _INT64):
        text = repr(value)
    else:
        text = f"a value of type {type(value).__name__}"
    return text.encode("ascii", "backslashreplace").decode()[:80]
