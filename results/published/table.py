"""The rows of the published reports, with their flags, and the Parquet file that is made from the sources."""

from __future__ import annotations

import json
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from results.published import REPORTS
from results.published.printed import Figure
from results.published.rules import OF_LINES, Flag, disagreements, judge_claim, of_person
from results.published.source import TEXT, Source, read_source
from results.schema import parse_columns, to_arrow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from results.published.source import Line

PARQUET: Final = Path(__file__).with_name("published.parquet")
"""All rows of all reports, committed beside the sources; a test holds the two together."""

Row = dict[str, Any]

_TABLE: Final = """
# Where it stands
report               string!       -          Name of the report.
table                string!       -          Which table of it; `text` for models that no table names, `claims` for
                                              what the text says of the figures and a rule contradicts.
lines                json!         -          List of the lines of the report's text that say it.
origin               string!       -          `measured`, or `self-reported`: a figure that the report took from others.

# What was run
model                string        -          The model, as the report calls it.
catalogue            string        -          Its short name in our catalogue (`quantsweep models`); null where it has
                                              none.
quant                string        -          As in our tables; null where the report does not say.
variant              string        -          `draft` where a draft model helped.
kind                 string        -          `local` or `cloud`; null where the report does not tell them apart.
architecture         string        -          `dense` or `moe`, as the report says.
parameters           int           -          As the report says, rounded as there.
parameters_active    int           -          As the report says.
exam                 string        -          Name of our exam, or of a benchmark that we do not have.
seeds                json          -          List of the seeds.
temperature          float         -          Sampling temperature; null where the report does not say, as all below.
context              int           tokens     Context window.
max_tokens           int           tokens     Limit on a reply.
timeout_s            float         s          Limit on a reply.
reasoning_mode       string        -          `off` or `on` where the report says so.
cache_type_k         string        -          Type of the K cache.
cache_type_v         string        -          Type of the V cache.
hardware             string        -          The machine; null where somebody else served the model.
card                 string        -          Its GPU as `quantsweep cards` calls it.
backend              string        -          What computed (`cuda`, `vulkan`).
engine               string        -          What served the tokens.
engine_build         string        -          Its build.

# Points
score                float         points     Mean over the seeds, or the one score.
score_low            float         points     Lowest score of a seed.
score_high           float         points     Highest score of a seed.
score_max            float         points     Full marks.
compiles             int           -          Seeds whose program compiled, as the report has the word.
compiles_of          int           -          Of so many.
syntax_valid         bool          -          Whether the program parses.
features             int           -          Features found.
features_max         int           -          Of so many.
functional           int           -          Operations that worked.
functional_max       int           -          Of so many.
outcome              string        -          In a word or a few.

# Figures
decode_tps           float         tokens/s   As the report has it.
ttft_s               float         s          Time to the first token.
e2e_s                float         s          Time of the whole reply.
output_tokens        int           tokens     Tokens of the reply.
total_tokens         int           tokens     All tokens of an episode.
file_bytes           int           bytes      Size of the file, rounded as in the report.
vram_bytes           int           bytes      Memory that it took, rounded as in the report.
messages             int           -          Messages of an episode.
tool_calls           int           -          Its tool calls.
commits              int           -          Commits that were pushed.
build_passed         bool          -          Whether the build passed in the end.
builds               int           -          The try that passed, or all tries where none did.
screenshot           bool          -          Whether the screenshot was taken.
nudges               int           -          How often a person encouraged the model.
stopped              bool          -          Whether a person had to stop it.

# What is wrong
flags                json!         -          List of objects: name of the mistake, by (`rule` or `person`), columns,
                                              reason, source. A figure whose column is flagged is not to be counted.
"""

COLUMNS: Final = parse_columns(_TABLE)
_RENAMED: Final = {"name": "catalogue"}


@cache
def rows_of(report: str) -> tuple[Row, ...]:
    """The rows of a report: its lines, and the claims of its text that are wrong.

    Raises:
        SourceError: there is no such report, or its source contradicts itself.
    """
    return judged(read_source(report))


def judged(source: Source) -> tuple[Row, ...]:
    """The rows of a source, each with its flags."""
    rows = [_row(line, flags) for line, flags in flagged(source)]
    for claim in source.claims:
        if (flag := judge_claim(source, claim)) is not None:
            said = {"report": source.name, "table": TEXT, "lines": json.dumps([claim["line"]]), "origin": "measured"}
            rows.append(_complete(said | {"model": claim.get("label"), "flags": _flags([flag])}))
    return tuple(rows)


def flagged(source: Source) -> Iterator[tuple[Line, list[Flag]]]:
    """Each line with what is wrong with it, by rule and by a person."""
    twice = list(disagreements(source.lines))
    for line in source.lines:
        ruled = [flag for rule in OF_LINES if (flag := rule(line)) is not None]
        yield line, [*ruled, *(flag for other, flag in twice if other is line), *of_person(source, line)]


def _row(line: Line, flags: Iterable[Flag]) -> Row:
    values = {_RENAMED.get(name, name): value for name, value in line.values.items()}
    if "cache_type" in values:
        values |= {"cache_type_k": values["cache_type"], "cache_type_v": values["cache_type"]}
    values |= {"report": line.report, "table": line.table, "lines": json.dumps(line.lines), "flags": _flags(flags)}
    if "seeds" in values:
        values["seeds"] = json.dumps(values["seeds"])
    return _complete({"origin": "measured"} | values)


def _complete(values: Mapping[str, Any]) -> Row:
    """A row with every column; numbers as their column has them."""
    row: Row = {}
    for column in COLUMNS:
        value = values.get(column.name)
        if isinstance(value, Figure):
            value = round(value.value) if column.type == "int" else value.value
        row[column.name] = value
    return row


def _flags(flags: Iterable[Flag]) -> str:
    return json.dumps(
        [
            {"name": flag.name, "by": flag.by, "columns": flag.columns, "reason": flag.reason}
            | ({"source": flag.source} if flag.source else {})
            for flag in flags
        ],
        ensure_ascii=False,
    )


def to_table() -> Any:
    """All rows of all reports as a `pyarrow.Table`."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(chain.from_iterable(map(rows_of, REPORTS))), schema=to_arrow(COLUMNS))


def write(path: Path = PARQUET) -> None:
    """Make the Parquet file from the sources."""
    import pyarrow.parquet as pq

    pq.write_table(to_table(), path, compression="zstd")


if __name__ == "__main__":
    write()
