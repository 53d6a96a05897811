"""docs/columns.md, written from the schema: `python -m results.describe > docs/columns.md`."""

from __future__ import annotations

import sys
from itertools import groupby
from textwrap import indent
from typing import Final

from results.schema import COLUMNS, SCHEMA_VERSION, Column

READERS: Final = {
    "duckdb": (
        "import duckdb; duckdb.sql(\"FROM 'runs/quickstart/attempts/*.parquet' SELECT quant, avg(score) AS score, "
        'median(decode_tps) AS decode_tps WHERE final GROUP BY quant ORDER BY score DESC").show()'
    ),
    "polars": (
        "import polars as pl; print(pl.scan_parquet('runs/quickstart/attempts/*.parquet').filter('final')"
        ".group_by('quant').agg(pl.mean('score'), pl.median('decode_tps')).sort('score', descending=True).collect())"
    ),
    "pandas": (
        "import pandas as pd; print(pd.read_parquet('runs/quickstart/attempts', columns=['quant', 'score', "
        "'decode_tps', 'final']).query('final').groupby('quant').agg({'score': 'mean', 'decode_tps': 'median'})"
        ".sort_values('score', ascending=False))"
    ),
}
"""One line of Python each that prints every quant's mean score and decode rate, out of the shards themselves."""

FILES_QUERY: Final = """\
SELECT quant, seed, file.name, file.media_type, 'runs/quickstart/files/' || file.sha256 AS path
FROM (SELECT *, unnest(from_json(files, '[{"name":"VARCHAR","media_type":"VARCHAR","sha256":"VARCHAR"}]')) AS file
      FROM 'runs/quickstart/attempts/*.parquet' WHERE final)
"""
"""For DuckDB: every file that the answers of a run left, with its path."""

TIMINGS_QUERY: Final = """\
SELECT model, variant, exam, quant, median(decode_tps) AS decode_tps, median(ttft_any_s) AS ttft_any_s
FROM 'runs/quickstart/attempts/*.parquet'
WHERE final AND NOT coalesce(cold, false) AND coalesce(cached_tokens, 0) = 0 AND coalesce(shared_with, '[]') = '[]'
  AND coalesce(foreign_cpu_share, 0) <= 0.15 AND NOT coalesce(above_ceiling, false)
  AND coalesce(abs(decode_tps_client - decode_tps) <= 0.05 * decode_tps, true)
GROUP BY ALL
"""
"""For DuckDB: the timings of the tables, over the requests that results.timings takes for clean."""

_HEAD: Final = f"""\
# Columns of the results (schema version {SCHEMA_VERSION})

Written by `python -m results.describe` from `results/schema.py`; a test checks that it is current.

A sweep leaves one row for each attempt in `runs/<sweep>/attempts/*.parquet`, a few dozen in a file, which DuckDB,
Polars and pandas read in one line each (`pip install 'quantsweep[read]'`), while it runs as well as afterwards:
"""

_RULES: Final = """\
- `WHERE final` gives each job once. Without it you also count attempts that were retried, earlier grades of answers
  that were graded again (`regrade_of` says of which attempt), and jobs that were taken out of the sweep (`taken_out`).
- Means leave infrastructure failures out, because their score is null; `count(score) / count(*)` is the coverage.
- Intervals, verdicts, `built`, pass@k and the alarms are worked out from these rows when they are shown:
  `quantsweep show --json` has them, and docs/verdicts.md says what each means.
- What could not be measured is null, never 0; `null_reasons` may say why.
- Compare timings within one `hardware_class`, over the rows that the tables of `quantsweep show` take: not `cold`, no
  `cached_tokens`, nothing in `shared_with` (JSON text), a `foreign_cpu_share` of at most 0.15 or null (a request
  shorter than 0.2 s is not known to have been disturbed, and is kept), and a decode rate that neither the client's
  clock (5%) nor the memory bus contradicts. The lines above take every final row; this is the tables' own median. Of a
  quant that has no such row they take those that nothing contradicts, else all, and mark them `*`.

  ```sql
<timings>  ```

  After a load a warm-up request comes first, so rows are seldom `cold`.
- Columns in bold are never null. JSON columns hold text: `json_extract(scores, '$.strict')` in DuckDB.
- Texts are most of a run's bytes: read the columns you need (`columns=` in pandas; DuckDB and `scan_parquet` see it).
- Runs of different versions together: `read_parquet([...], union_by_name = true)` in DuckDB,
  `missing_columns="insert"` in Polars.
- Each file says its own columns: `quantsweep.columns` in its key-value metadata is a JSON object of their units and
  meanings, `quantsweep.schema_version` and `quantsweep.version` stand beside it. In DuckDB
  `SELECT decode(key), decode(value) FROM parquet_kv_metadata('runs/quickstart/attempts/*.parquet')`, in pyarrow
  `pq.read_metadata(file).metadata`, in Polars `pl.read_parquet_metadata(file)`.
- What was asked: `SELECT DISTINCT prompt_sha256, prompt, chat_template_sha256, chat_template FROM ...`. They are texts
  of every row, and take the space of one in each file. Templates are the models', to be looked at and not to be run.
- Files that a grading left (pictures, logs) lie in `files/` beside `attempts/`, under their sha256, equal ones once. A
  file is there before the row that names it. In DuckDB, with a path for each:

  ```sql
<query>  ```

- `attempts.parquet` beside the folder, where there is one, is a copy of all of it in one file. The files in the folder
  have holes, which `cp` keeps and `tar` keeps with `-S`. Damaged files, should there be any, are set aside in
  `quarantine/`, out of the way of every reader.
"""


def columns_markdown() -> str:
    """The whole of docs/columns.md."""
    parts = [_HEAD]
    parts += [f"<!-- read: {name} -->\n```python\n{line}\n```\n" for name, line in READERS.items()]
    parts.append(_rules())
    for title, columns in groupby(COLUMNS, key=lambda column: column.group):
        lines = [f"## {title}\n", "| column | type | unit | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([*lines, *(_line(column) for column in columns), ""]))
    return "\n".join(parts)


def _rules() -> str:
    text = _RULES.replace("<timings>", indent(TIMINGS_QUERY, "  "))
    return text.replace("<query>", indent(FILES_QUERY, "  "))


def _line(column: Column) -> str:
    name = f"`{column.name}`" if column.nullable else f"**`{column.name}`**"
    meaning = column.description.replace("|", "\\|")
    return f"| {name} | {column.type} | {column.unit or ''} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(columns_markdown())
