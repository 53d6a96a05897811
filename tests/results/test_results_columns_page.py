"""docs/columns.md is what the schema says, and the lines that read a run are run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from results.describe import READERS, columns_markdown

if TYPE_CHECKING:
    from collections.abc import Callable

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
