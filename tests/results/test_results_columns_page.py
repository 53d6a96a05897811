"""docs/columns.md is what the schema says, and the lines that read a run are run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from results.describe import READERS, TIMINGS_QUERY, columns_markdown
from results.store import RunStore
from results.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .conftest import MakeRow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "columns.md"
README = ROOT / "README.md"
MARKED = re.compile(r"<!-- read: (\w+) -->\n+```python\n(.+)\n```")


def lines() -> list[tuple[str, str, str]]:
    """(file, reader, line) of every marked line; the README may have them, the page has to."""
    return [
        (page.name, reader, line)
        for page in (PAGE, README)
        for reader, line in MARKED.findall(page.read_text(encoding="utf-8"))
    ]


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == columns_markdown(), "run: python -m results.describe > docs/columns.md"


def test_the_page_has_a_line_for_each_reader() -> None:
    assert [reader for page, reader, _ in lines() if page == PAGE.name] == list(READERS)


@pytest.mark.parametrize(("page", "reader", "line"), lines())
def test_the_line_prints_score_and_decode_rate_of_every_quant(
    run_of: Callable[..., Path], page: str, reader: str, line: str
) -> None:
    run_of({"Q8_0": (2_000, [100.0, 100.0, 100.0])}, decode_tps=1050.0)
    folder = run_of({"Q2_K": (1_000, [28.0, 60.0, None])}, decode_tps=2250.5)
    (folder / "attempts" / ".half-1.parquet.0.tmp").write_bytes(b"being written")
    done = subprocess.run(
        [sys.executable, "-c", line],
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = [re.findall(r"[\w.]+", shown) for shown in done.stdout.splitlines() if re.search(r"\bQ\d", shown)]
    assert [(quant, float(score), float(rate)) for quant, score, rate in printed] == [
        ("Q8_0", 100.0, 1050.0),
        ("Q2_K", 44.0, 2250.5),
    ]


def test_the_page_speaks_the_truth_about_sql(run_of: Callable[..., Path]) -> None:
    import duckdb

    folder = run_of({"Q8_0": (2_000, [100.0, None])})
    query = f"""
        SELECT count(score) / count(*), json_extract(any_value(scores), '$.strict')
        FROM read_parquet(['{folder}/attempts/*.parquet'], union_by_name = true) WHERE final
    """
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchone() == (0.5, "88")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"cold": True},
        {"cached_tokens": 50},
        {"shared_with": '["grading"]'},
        {"foreign_cpu_share": 0.15},
        {"foreign_cpu_share": 0.16},
        {"foreign_cpu_share": None, "shared_with": None, "cached_tokens": None},
        {"final": False},
        {"decode_tps_client": 262.5},
        {"decode_tps_client": 262.6},
        {"decode_tps_client": 20_447.0},
        {"decode_tps_client": None},
        {"above_ceiling": True},
        {"decode_tps": None, "decode_tps_client": None},
    ],
)
def test_the_query_for_timings_takes_the_rows_that_the_tables_take(
    tmp_path: Path, row: MakeRow, odd: dict[str, Any]
) -> None:
    import duckdb

    store = RunStore(tmp_path)
    figures = enumerate((100.0, 104.0, 108.0, 250.0), 1)
    store.commit_many(
        [
            row(job_id=f"j{seed}", seed=seed, ttft_any_s=rate / 1e4, decode_tps=rate, decode_tps_client=rate)
            | (odd if rate == 250.0 else {})
            for seed, rate in figures
        ]
    )
    (found,) = summarise(store.table())
    query = TIMINGS_QUERY.replace("runs/quickstart/attempts", str(store.attempts_folder))
    with duckdb.connect() as connection:
        shown = connection.execute(query).fetchone()
    timings = found.timings
    assert shown == ("standin", "default", "todo", "Q4_K_M", timings.decode_tps, timings.ttft_any_s)
