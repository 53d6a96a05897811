"""What a file of a run says of itself: versions, units and meanings, to every reader, whatever was done to the file."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from results.columnar import as_table
from results.parts import MOST_ROWS, Part, forget_past
from results.rows import complete_row
from results.schema import COLUMNS, SCHEMA_VERSION, arrow_schema
from results.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import MakeRow


def by_pyarrow(path: Path) -> dict[str, str]:
    found: dict[bytes, bytes] = pq.read_metadata(path).metadata
    return {key.decode(): value.decode() for key, value in found.items()}


def by_duckdb(path: Path) -> dict[str, str]:
    query = f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{path}')"
    with duckdb.connect() as connection:
        return dict(connection.execute(query).fetchall())


def by_polars(path: Path) -> dict[str, str]:
    return dict(pl.read_parquet_metadata(path))


READERS = [by_pyarrow, by_duckdb, by_polars]


def check(read: Callable[[Path], dict[str, str]], path: Path) -> None:
    """All that a file is to say."""
    said = read(path)
    assert said["quantsweep.schema_version"] == str(SCHEMA_VERSION)
    assert said["quantsweep.version"] == version("quantsweep")
    columns = json.loads(said["quantsweep.columns"])
    assert list(columns) == pq.read_schema(path).names
    assert columns["decode_tps"]["unit"] == "tokens/s"
    for column in COLUMNS:
        assert columns[column.name] == {"meaning": column.description} | ({"unit": column.unit} if column.unit else {})


def one_row(path: Path, rows: list[dict[str, Any]]) -> None:
    Part(path).add(as_table(rows[:1]))


def many_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    part = Part(path)
    for row in rows:
        part.add(as_table([row]))


def loaded_and_added_to(path: Path, rows: list[dict[str, Any]]) -> None:
    one_row(path, rows)
    Part.load(path).add(as_table(rows[1:2]))


def closed(path: Path, rows: list[dict[str, Any]]) -> None:
    many_rows(path, rows)
    part = Part.load(path)
    part.rewrite(part.table(), closed=True)
    forget_past(path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("make", [one_row, many_rows, loaded_and_added_to, closed])
def test_every_version_of_a_part_says_what_it_is(
    tmp_path: Path, row: MakeRow, make: Callable[..., None], read: Callable[[Path], dict[str, str]]
) -> None:
    path = tmp_path / "part-000001-00000000.parquet"
    make(path, [complete_row(row(job_id=f"j{number}")) for number in range(9)])
    check(read, path)


@pytest.mark.parametrize("read", READERS)
def test_what_a_store_leaves_says_what_it_is(
    tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow, read: Callable[[Path], dict[str, str]]
) -> None:
    """A part that was filled, one that took a retry of a failure, one whose job was taken out, and the copy of all."""
    with RunStore(tmp_path) as store:
        store.commit(infrastructure_row(job_id="failed"))
        store.commit_many([row(job_id=f"j{number}") for number in range(MOST_ROWS + 3)])
        store.commit(row(job_id="failed", attempt=2))
        store.count_only({f"j{number}" for number in range(MOST_ROWS)})
        copy = store.compact()
    files = sorted((tmp_path / "attempts").iterdir())
    assert len(files) == 2
    for path in [*files, copy]:
        check(read, path)


def test_pyarrow_finds_it_at_each_column_of_the_copy(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row())
        schema = pq.read_schema(store.compact())
    assert schema.field("decode_tps").metadata[b"unit"] == b"tokens/s"
    assert schema.field("quant").metadata == {b"meaning": arrow_schema().field("quant").metadata[b"meaning"]}


def test_a_text_that_all_rows_share_takes_its_space_once(tmp_path: Path, row: MakeRow) -> None:
    """48 prompts of 5 kB that no compression shortens, as if they were one; read back as they were."""
    chance = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(1700))
    sizes: dict[str, int] = {}
    for name, changes in {"without": {}, "with": {"prompt": chance, "chat_template": chance[::-1]}}.items():
        rows = [complete_row(row(job_id=f"j{number}", **changes)) for number in range(MOST_ROWS)]
        path = tmp_path / f"part-000001-0000000{len(sizes)}.parquet"
        Part(path).rewrite(as_table(rows), closed=True)
        sizes[name] = path.stat().st_size
        assert Part.load(path).table().equals(as_table(rows))
    assert sizes["with"] - sizes["without"] < 2 * len(chance.encode()) + 1000
