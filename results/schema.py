"""The one table quantsweep writes: every column with its type, unit and meaning, and the check of a row against it.

A row is a plain dict, column name to value, one per attempt. Nullable columns may be left out. What could not be
measured is null, never 0, and `null_reasons` may say why. Times are timezone-aware: a `datetime`, or ISO 8601 text
with an offset (`2026-11-20T09:30:00Z`). JSON columns hold text.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION: Final = 4
"""Raised with every change of the columns: a file of this version has exactly these, or it is damaged."""

LogicalType = Literal["string", "int", "float", "bool", "timestamp", "json", "list[string]"]
OutcomeClass = Literal["model", "budget", "infrastructure"]

OUTCOME_CLASSES: Final[tuple[OutcomeClass, ...]] = get_args(OutcomeClass)
_LOGICAL_TYPES: Final[Mapping[str, LogicalType]] = {name: name for name in get_args(LogicalType)}


class SchemaError(ValueError):
    """A row that the table cannot hold as it stands; every problem found is listed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "this row does not fit the results table: " + "; ".join(self.problems)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table.

    Attributes:
        name: As in the Parquet file; a unit is part of it (`_s`, `_bytes`, `_tps`).
        type: Logical type; `timestamp` is in UTC with microseconds, `json` is text that parses as JSON.
        unit: `s`, `bytes`, `tokens`, `tokens/s`, `J`, `W`, ...; None where there is none.
        nullable: Whether a row may leave it out.
        group: The heading it stands under in docs/columns.md.
        description: What it means, and what null means where that is not plain.
        choices: The only texts allowed, where they are a closed set.
    """

    name: str
    type: LogicalType
    unit: str | None
    nullable: bool
    group: str
    description: str
    choices: tuple[str, ...] = ()


_TABLE: Final = """
# What was run
run_id               string        -          Of the run in which the row was made.
sweep                string!       -          Name of the sweep, from its spec.
job_id               string!       -          Versioned sha256 of what makes results comparable: file, engine
                                              settings, exam version, sampling, seed.
attempt              int!          -          1 for the job's first execution, 2 for its first retry, and so on.
                                              (job_id, attempt) is the table's key.
final                bool!         -          True on the one attempt that stands for its job; at most one per job at
                                              any moment. Filter on it before you count or average. An infrastructure
                                              failure that ended a job gives its mark up to a later or a scored
                                              attempt of that job; a scored attempt to its regrade, or when its job is
                                              taken out of the sweep.
regrade_of           int           -          The attempt whose answer this row grades again (`quantsweep regrade`);
                                              null where the answer is the row's own. All but the grade is that
                                              attempt's.
reused_from          string        -          The run that this row was taken from (`run --reuse`): its run id, or the
                                              name of its folder; null for a row of this run's own.
taken_out            bool          -          True where the spec names the job no more: it is on record, `final` is
                                              false, and no table counts it. Null everywhere else.
model                string!       -          The model's name in the spec.
quant                string!       -          Name of the quant, as on the file (`Q4_K_M`, `UD-Q4_K_XL`, `MXFP4_MOE`);
                                              `none` where an endpoint does not say.
variant              string!       -          Name of the variant of engine and sampling settings; `default` where the
                                              spec names none.
exam                 string!       -          Name of the exam.
task                 string        -          Name of the exam's task; `main` where it has only one.
prompt_version       string        -          Changes with what the exam asks.
grader_version       string        -          Changes with anything that can change a score.
                                              Compare scores within one version only.
seed                 int!          -          Seed of the sampler. Equal seeds are not equal draws across quants or
                                              variants.
sampling             json          -          Sampling settings sent with the request (temperature, max_tokens, ...).

# The model file
repo                 string        -          Hub repository; null for a local file.
revision             string        -          Commit of that repository; null for a local file.
file_paths           list[string]  -          Path of each part in the repository, or file name of a local file.
file_sha256          string        -          sha256 of the file, in hex; of a split set, of its parts' digests in
                                              order.
file_bytes           int           bytes      Size on disk, all parts together.
architecture         string        -          As llama.cpp calls it (`qwen3moe`).
parameters           int           -          Elements of all tensors.
parameters_active    int           -          Those that take part in one token; fewer than `parameters` where there
                                              are experts.
bits_per_weight      float         bits       All tensors together over `parameters`.

# The engine
engine               string        -          What served the tokens (`embedded`, `llama-server`, ...).
engine_build         string        -          Its version or build, in its own words.
engine_settings      json          -          Settings it was started with.
cache_type_k         string        -          Type of the K cache (`f16`, `q8_0`, ...).
cache_type_v         string        -          Type of the V cache.
threads              int           -          CPU threads that were asked for; null: the engine's choice.
gpu_layers           int           -          Layers that were to go to the GPU; null: all.
cpu_moe_layers       int           -          Layers whose experts were to stay in host memory; null: none.
reasoning_mode       string        -          Whether reasoning was asked for (`auto`, `on`, `off`).
context              int           tokens     Context window of the slot that answered.
load_mode            string        -          How the weights came into memory (`mmap`, `read`, ...); `peak_ram_bytes`
                                              depends on it.

# Time to load and to the first token
load_s               float         s          From starting the server process to its being ready. One load serves all
                                              jobs of a cell, so its rows share this figure: do not add it up.
cold                 bool          -          True for the first request after a load, which is slower than the rest.
ttft_any_s           float         s          From sending the request to the first token of any kind, reasoning
                                              included. The chunk that only carries the role does not count.
ttft_answer_s        float         s          From sending the request to the first token of the answer, after any
                                              reasoning.

# Tokens and rates
prompt_tokens        int           tokens     Tokens of the prompt by the server's count, cached ones included.
cached_tokens        int           tokens     Prompt tokens that the server had in its cache. Above 0, prefill was
                                              spared.
reasoning_tokens     int           tokens     Tokens generated as reasoning.
answer_tokens        int           tokens     Tokens generated as the answer.
token_count_source   string        -          Where the token counts came from (`server`, `usage`, ...).
prefill_tps          float         tokens/s   Uncached prompt tokens over the server's prefill time.
decode_tps           float         tokens/s   Generated tokens over the server's decode time, recomputed from its raw
                                              counts.
decode_tps_client    float         tokens/s   The same as seen by the client, (n - 1) over the time from first to last
                                              token. More than 5% from `decode_tps` is suspect.
decode_ceiling_tps   float         tokens/s   What the memory bus allows for this model and device. A rate above 1.05
                                              of it is impossible.
itl_p50_s            float         s          Inter-token latency, median.
itl_p95_s            float         s          Inter-token latency, 95th percentile.
itl_p99_s            float         s          Inter-token latency, 99th percentile.
e2e_s                float         s          From sending the request to the end of its stream.
turns                int           -          Requests that the attempt took. Where there are several, tokens and
                                              `e2e_s` are sums, times to the first token and `prefill_tps` the first
                                              turn's, decode rates and latencies of all together, reply and
                                              `finish_reason` the last turn's.
turn_timings         json          -          List with the figures of each turn by itself, under the same names.
draft_accept_rate    float         fraction   Drafted tokens accepted, 0 to 1; null without speculative decoding.
finish_reason        string        -          The engine's word (`stop`, `length`, `tool_calls`).
events               json          -          Summary of the stream's events: counts by kind, chunks, bytes.

# Memory and energy
peak_ram_bytes       int           bytes      Highest resident memory of the server's process tree since it was
                                              started, so load included.
peak_ram_source      string        -          How it was read (`smaps_rollup`, `rss`, ...).
peak_ram_anon_bytes  int           bytes      Highest anonymous part of it (Pss_Anon): buffers, and what was read
                                              instead of mapped.
peak_ram_file_bytes  int           bytes      Highest file part of it (Pss_File): pages of the mapped model and of
                                              libraries. The two peaks may lie at different moments.
peak_gtt_bytes       int           bytes      Highest RAM that an integrated AMD GPU had mapped for the server; null
                                              elsewhere.
peak_vram_bytes      int           bytes      Highest GPU memory of the server's process tree since it was started;
                                              null without a GPU.
peak_vram_source     string        -          How it was read; names the fallback where the figure is the device's,
                                              less a baseline.
buffer_model_bytes   int           bytes      Weights, from the engine's log, over all devices.
buffer_kv_bytes      int           bytes      KV cache, from the engine's log.
buffer_compute_bytes int           bytes      Compute buffers, from the engine's log.
buffer_output_bytes  int           bytes      Output buffer, from the engine's log.
buffer_state_bytes   int           bytes      Recurrent state, from the engine's log.
predicted_bytes      int           bytes      What the plan expected the engine to need; beside the measured figures
                                              on purpose.
energy_j             float         J          Energy the device took over the request.
mean_power_w         float         W          Mean power of the device over the request.

# The grade
score                float         points     Points by `scoring`, 0 to `score_max`; null on an infrastructure
                                              failure, because a missing grade is not a zero.
score_max            float         points     Full marks.
scoring              string        -          Which of the exam's scorings `score` is.
scores               json          -          Points by every scoring of the exam.
grade_items          json          -          What the points are made of, item by item.
outcome              string!       -          How the attempt ended, in one word (`passed`, `wrong`, `max_tokens`,
                                              `server_crash`, ...).
outcome_class        string!       -          Whose doing that was. `model`: scored. `budget`: cut off by a limit,
                                              scored as far as it goes, and marked. `infrastructure`: no score,
                                              retried.
error                string        -          What went wrong and what to do about it, in a sentence; null where
                                              nothing did.
isolation            string        -          What held the program while it was graded (`bubblewrap`,
                                              `namespaces+landlock`, ...).
extraction           string        -          How the program was found in the reply.
grade_s              float         s          Time the grading took.

# The machine and its state
node                 string        -          Name of the machine.
os                   string        -          Its operating system.
cpu                  string        -          Its processor.
ram_bytes            int           bytes      Its memory, as far as a process of ours may use it.
device_memory_bytes  int           bytes      Memory of the device that served.
device               string        -          Device that served, or devices joined by `+`.
backend              string        -          What drove the device (`cuda`, `rocm`, `vulkan`, `metal`, `sycl`, `cpu`).
engine_device        string        -          What the engine calls the device (`CUDA0`, `Vulkan1`, `CPU`).
device_match         string        -          How it is known that the engine means this device by that name; null for
                                              the CPU.
unmatched_devices    json          -          List of the machine's other GPUs that the engine could not be given, each
                                              with the reason; an empty list where there is none.
hardware_class       string        -          What makes timings comparable. The backend is part of it. Compare timings
                                              within one class only.
governor             string        -          CPU frequency governor.
platform_profile     string        -          Power profile of the firmware.
driver               string        -          GPU driver version.
throttle_reasons     json          -          List of what held the clocks down meanwhile; an empty list where nothing
                                              did.
temperature_c        float         celsius    Highest temperature of the device during the request.
clock_mhz            float         MHz        Mean clock of the device during the request.
shared_with          json          -          List of what else ran on the node during the request, grading included;
                                              an empty list where nothing did.
foreign_cpu_share    float         fraction   Share of the node's CPU time, all CPUs together, that others than the
                                              server and its agent took during the request, 0 to 1. Above 0.15 its
                                              timings are marked; null where it was too short to tell.

# Texts
reply                string        -          The answer, as the engine gave it.
reasoning            string        -          Reasoning that the engine told apart from the answer.
transcript           json          -          What was said in all turns, in order: messages and replies. Null where
                                              there was one, whose reply says it all.
grader_log           string        -          What a person reads to understand the grade.

# The record itself
null_reasons         json          -          Object: column name to the reason why it is null.
started_at           timestamp!    -          When the attempt began, UTC.
ended_at             timestamp     -          When it had been graded, UTC.
quantsweep_version   string        -          Version of quantsweep that wrote the row.
schema_version       int!          -          Version of this table; filled in by the store.
"""


def _parse(table: str) -> tuple[Column, ...]:
    """Read `_TABLE`: name, type (`!`: required), unit (`-`: none) and description, which may go on indented."""
    columns: list[Column] = []
    group = ""
    for line in table.splitlines():
        if line.startswith("# "):
            group = line.removeprefix("# ")
        elif line.startswith(" "):
            description = f"{columns[-1].description} {line.strip()}"
            columns[-1] = replace(columns[-1], description=description)
        elif line:
            name, kind, unit, description = line.split(maxsplit=3)
            logical = _LOGICAL_TYPES[kind.rstrip("!")]
            nullable = not kind.endswith("!")
            choices = OUTCOME_CLASSES if name == "outcome_class" else ()
            columns.append(Column(name, logical, None if unit == "-" else unit, nullable, group, description, choices))
    return tuple(columns)


COLUMNS: Final = _parse(_TABLE)

COLUMNS_BY_NAME: Final[Mapping[str, Column]] = {column.name: column for column in COLUMNS}

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A job id is part of a file name."""

_INT64 = range(-(2**63), 2**63)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def arrow_schema() -> Any:
    """The table as a `pyarrow.Schema`, columns in the order of COLUMNS.

    Every field is nullable there, so that a file from before a column existed reads into the same schema; that
    required columns are filled is checked before a row is written.
    """
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "json": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "list[string]": pa.list_(pa.field("element", pa.string())),  # the name that Parquet gives back
    }
    return pa.schema([pa.field(column.name, types[column.type]) for column in COLUMNS])


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
