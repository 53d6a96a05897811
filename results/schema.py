"""The one table quantsweep writes: every column with its type, unit and meaning.

docs/columns.md is written from it, and so is what each file of a run says of itself. Rows are checked against it in
`results.rows`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA_VERSION: Final = 11
"""Raised with every change of the columns: a file of this version has exactly these, or it is damaged."""

LogicalType = Literal["string", "int", "float", "bool", "timestamp", "json", "list[string]"]
OutcomeClass = Literal["model", "budget", "infrastructure"]

OUTCOME_CLASSES: Final[tuple[OutcomeClass, ...]] = get_args(OutcomeClass)
_LOGICAL_TYPES: Final[Mapping[str, LogicalType]] = {name: name for name in get_args(LogicalType)}


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

    def note(self) -> dict[str, str]:
        """What a file says of the column: `meaning`, and `unit` where it has one."""
        return {"meaning": self.description, **({} if self.unit is None else {"unit": self.unit})}


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
prompt_sha256        string        -          sha256 of the text in `prompt`, of all of it, in hex.
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

# A model that somebody else serves
provider             string        -          Who serves it: a name, or the base URL of a server; null where the model
                                              is a file of ours.
provider_model       string        -          What the provider calls it.
provider_version     string        -          The model that answered, as the provider named it in its reply
                                              (`gpt-5-2025-08-07` where `gpt-5` was asked).
cost                 float         currency   What the provider takes for the attempt, by the prices that the spec
                                              names and the provider's counts, in `currency`; null with the reason
                                              where either is missing. Attempts that failed cost as well.
currency             string        -          Of `cost` (`USD`, `EUR`, ...).

# The engine
engine               string        -          What served the tokens (`embedded`, `llama-server`, ...).
engine_build         string        -          Its version or build, in its own words.
engine_settings      json          -          Settings it was started with.
cache_type_k         string        -          Type of the K cache (`f16`, `q8_0`, ...).
cache_type_v         string        -          Type of the V cache.
threads              int           -          CPU threads that were asked for; null: the engine's choice.
gpu_layers           int           -          Layers that were to go to the GPU; null: all.
cpu_moe_layers       int           -          Layers whose experts were to stay in host memory; null: none.
offload              string        -          What of the model lay in host memory beside a GPU: `none`, `experts`,
                                              `layers`, `experts+layers`; null: computed by the CPU.
devices              int           -          Devices of the node that the model was spread over; 0 at an endpoint.
split_mode           string        -          How it was spread over several (`layer`, `row`); null: there was one.
tensor_split         json          -          The share of the model that each of several devices had.
reasoning_mode       string        -          Whether reasoning was asked for (`auto`, `on`, `off`).
reasoning_budget     int           tokens     Most tokens of reasoning that were allowed; null: no limit.
chat_template_sha256 string        -          sha256 of the text in `chat_template`, of all of it, in hex.
context              int           tokens     Context window of the slot that answered.
slots                int           -          Requests that the server serves at once, as it says.
flash_attention      string        -          Whether the server computed with it (`on`, `off`), whoever decided; null:
                                              it does not say.
layers               int           -          Layers of the model that its log counts, the output layer among them;
                                              null: a build without a GPU backend says nothing.
layers_on_gpu        int           -          Those of `layers` that it put on GPUs.
deviations           json          -          List of sentences: what the server serves otherwise than it was asked to
                                              and what changes no answer by itself, as a context that it cut down to
                                              what the model was trained on. Null for an engine that says nothing.
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
                                              token. Where the two are more than 5% apart one of them is
                                              wrong, and the timings are left out or marked.
decode_ceiling_tps   float         tokens/s   What the memory bus allows for this model and device. A rate above 1.05
                                              of it is impossible.
above_ceiling        bool          -          True where `decode_tps` is above 1.05 of `decode_ceiling_tps`, which no
                                              machine can do: do not count it. Null where one of them is.
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
buffer_state_bytes   int           bytes      Recurrent state, from the engine's log; null where the model has none.
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
                                              `namespaces+landlock`, ...); null where none was run.
exam_check           string        -          What the machine that graded made of answers to this exam that are
                                              known (a reference, an empty one, a mutant): `ok`; `failed: ...`, so
                                              that its scores may be wrong; `no proof: ...` where the exam has no
                                              such answers. Null where nothing was graded.
extraction           string        -          How the program was found in the reply.
grade_s              float         s          Time the grading took.
files                json          -          List of the files that the grading left, each an object of name,
                                              media_type, sha256 and bytes; `files/<sha256>` in the run folder holds
                                              it. Null where it left none.

# The machine and its state
node                 string        -          Name of the machine.
os                   string        -          Its operating system.
cpu                  string        -          Its processor.
ram_bytes            int           bytes      Its memory, as far as a process of ours may use it.
device_memory_bytes  int           bytes      Memory of the device that served.
device               string        -          Device that served, or devices joined by `+`; at an endpoint the place in
                                              line there (`openai#1`).
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
driver               string        -          GPU driver version; null without a GPU.
throttle_reasons     json          -          List of what held the clocks down meanwhile; an empty list where nothing
                                              did.
temperature_c        float         celsius    Highest temperature of the device during the request.
clock_mhz            float         MHz        Mean clock of the device during the request.
shared_with          json          -          List of what else ran on the node during the request, grading included;
                                              an empty list where nothing did.
foreign_cpu_share    float         fraction   Share of the node's CPU time, all CPUs together, that others than the
                                              server and its agent took during the request, 0 to 1. Above 0.15 its
                                              timings are left out or marked; null where it was too short to tell.

# Texts
prompt               string        -          What the exam's task asks: its messages, each under its role where there
                                              are several. What was asked in later turns is in `transcript`.
chat_template        string        -          The template that turned messages into what the model read, as the
                                              server said it: the spec's, or else the model's own. Of one beyond
                                              64 KiB the beginning and the end.
reply                string        -          The answer, as the engine gave it.
reasoning            string        -          Reasoning that the engine told apart from the answer.
transcript           json          -          What was said in all turns, in order: messages, replies, tool calls.
                                              Null where there was one turn, whose reply says it all.
grader_log           string        -          What a person reads to understand the grade.

# The record itself
null_reasons         json          -          Object: column name to the reason why it is null.
started_at           timestamp!    -          When the attempt began, UTC.
ended_at             timestamp     -          When it had been graded, UTC.
quantsweep_version   string        -          Version of quantsweep that wrote the row.
schema_version       int!          -          Version of this table; filled in by the store.
"""


def parse_columns(table: str) -> tuple[Column, ...]:
    """Columns of a text: name, type (`!`: required), unit (`-`: none) and description, which may go on indented."""
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


COLUMNS: Final = parse_columns(_TABLE)

COLUMNS_BY_NAME: Final[Mapping[str, Column]] = {column.name: column for column in COLUMNS}


@cache
def file_note() -> Mapping[str, str]:
    """What every file says of itself (Parquet's key-value metadata): versions, and the columns as a JSON object."""
    columns = {column.name: column.note() for column in COLUMNS}
    return {
        "quantsweep.schema_version": str(SCHEMA_VERSION),
        "quantsweep.version": version("quantsweep"),
        "quantsweep.columns": json.dumps(columns, ensure_ascii=False, separators=(",", ":")),
    }


@cache
def arrow_schema() -> Any:
    """The table as a `pyarrow.Schema`, columns in the order of COLUMNS, with what is to be said of each.

    Every field is nullable there, so that a file from before a column existed reads into the same schema; that
    required columns are filled is checked before a row is written.
    """
    return to_arrow(COLUMNS)


def to_arrow(columns: Sequence[Column]) -> Any:
    """A `pyarrow.Schema` of `columns`, all nullable, with what is to be said of each."""
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
    return pa.schema([pa.field(column.name, types[column.type], metadata=column.note()) for column in columns])
