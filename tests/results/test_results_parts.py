"""A part, version by version: what readers see that have one version's description, or size, and another's rows."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import parts
from results.columnar import as_table
from results.parts import Part, forget_past, is_open_size
from results.rows import complete_row
from results.seal import SEAL_BYTES, TornFileError, read_seal

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow


def rows_of(make: MakeRow, count: int, reply_bytes: int = 300) -> list[dict[str, Any]]:
    return [
        complete_row(make(job_id=f"j{number}", seed=number, reply=os.urandom(reply_bytes // 2).hex()))
        for number in range(count)
    ]


def versions_of(path: Path, rows: list[dict[str, Any]]) -> list[bytes]:
    """Every version of a part that is filled row by row, closed, and changed once more."""
    part, found = Part(path), []
    for row in rows[:-2]:
        part.add(as_table([row]))
        found.append(path.read_bytes())
    part.rewrite(as_table(rows[:-1]), closed=True)
    found.append(path.read_bytes())
    part.rewrite(as_table(rows), closed=True)
    found.append(path.read_bytes())
    return found


@pytest.mark.parametrize("reply_bytes", [20, 30_000])
def test_no_version_contradicts_an_earlier_one(tmp_path: Path, row: MakeRow, reply_bytes: int) -> None:
    """What DuckDB does, which opens a file twice, and Polars, which asks for its size first."""
    rows = rows_of(row, 9, reply_bytes)
    versions = versions_of(tmp_path / "part.parquet", rows)
    whole = as_table(rows)
    assert len({len(version) for version in versions}) < 8
    for earlier, description in enumerate(versions):
        metadata = pq.read_metadata(pa.BufferReader(description))
        for later in range(earlier, len(versions)):
            content = versions[later]
            with pq.ParquetFile(
                pa.BufferReader(content), metadata=metadata, page_checksum_verification=True
            ) as described_before:
                assert described_before.read().equals(whole.slice(0, earlier + 1))
            sized_before = pq.read_table(pa.BufferReader(content[: len(description)]))
            assert earlier < sized_before.num_rows <= later + 1
            assert sized_before.equals(whole.slice(0, sized_before.num_rows))


def test_a_part_goes_on_where_a_killed_process_left_it(tmp_path: Path, row: MakeRow) -> None:
    rows = rows_of(row, 12)
    path = tmp_path / "part.parquet"
    before = b""
    for number, one in enumerate(rows):
        part = Part.load(path) if number else Part(path)
        part.add(as_table([one]))
        content = path.read_bytes()
        metadata = pq.read_metadata(path)
        assert metadata.num_rows == metadata.num_row_groups == number + 1
        if len(content) == len(before):
            end = pq.read_metadata(pa.BufferReader(before)).row_group(number - 1).column(0).data_page_offset
            assert content[:end] == before[:end]
        before = content
    assert Part.load(path).table().equals(as_table(rows))


def test_a_closed_part_is_one_row_group_and_takes_no_more_disk_than_its_rows(tmp_path: Path, row: MakeRow) -> None:
    rows = rows_of(row, 48, 4_000)
    path, alone = tmp_path / "part.parquet", tmp_path / "alone.parquet"
    part = Part(path)
    for number, one in enumerate(rows[:-1]):
        part.add(as_table([one]))
        assert is_open_size(path.stat().st_size)
        assert part.would_be_full(as_table(rows[:1])) == (number == 46)
    part.rewrite(as_table(rows), closed=True)
    Part(alone).rewrite(as_table(rows), closed=True)
    assert not is_open_size(path.stat().st_size)
    assert pq.read_metadata(path).num_row_groups == 1
    before = path.stat().st_blocks
    forget_past(path)
    after = path.stat().st_blocks
    forget_past(path)
    assert path.stat().st_blocks == after
    assert after < before  # the file systems of our tests can punch holes
    assert after * 512 <= alone.stat().st_blocks * 512 + 2 * 4096
    again = Part.load(path)
    assert again.closed
    assert again.table().equals(as_table(rows))
    again.rewrite(again.table().slice(0, 3), closed=True)
    assert path.stat().st_blocks < before / 2  # the hole is still one


def test_rows_without_end_are_bounded_by_their_bytes(tmp_path: Path, row: MakeRow) -> None:
    part = Part(tmp_path / "part.parquet")
    big, rows = as_table(rows_of(row, 1, 500_000)), 0
    while not part.would_be_full(big):
        part.add(big)
        rows += 1
    assert 2 <= rows < 10


def test_a_part_that_has_become_too_large_is_written_without_its_past(
    tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_PAST_BYTES", 200_000)
    part = Part(tmp_path / "part.parquet")
    table = as_table(rows_of(row, 5, 20_000))
    part.add(table)
    assert part.takes_rows
    sizes = []
    for _ in range(12):
        part.rewrite(table, closed=True)
        sizes.append(part.path.stat().st_size)
    assert 200_000 < max(sizes) < 300_000
    assert min(sizes[1:]) < 100_000
    assert Part.load(part.path).table().equals(table)


def test_every_changed_byte_of_its_rows_and_its_description_is_noticed(tmp_path: Path, row: MakeRow) -> None:
    path = tmp_path / "part.parquet"
    part = Part(path)
    for one in rows_of(row, 2):
        part.add(as_table([one]))
    whole = path.read_bytes()
    (length,) = struct.unpack("<I", whole[-8:-4])
    description = len(whole) - 8 - length - SEAL_BYTES
    with path.open("rb") as file:
        seal = read_seal(file.fileno())
    assert seal is not None
    for place in [*range(40), *range(40, len(whole), 211), *range(description, description + SEAL_BYTES)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if seal.begin <= place < seal.end or place >= description:
            with pytest.raises(TornFileError):
                Part.load(path)
        else:
            assert Part.load(path).table().equals(part.table())


def test_readers_that_know_nothing_of_us_read_open_and_closed_parts(tmp_path: Path, row: MakeRow) -> None:
    import duckdb
    import polars as pl

    rows = rows_of(row, 9, 2_000)
    for name, closed in (("open", False), ("closed", True)):
        part = Part(tmp_path / f"{name}.parquet")
        for one in rows[:-1]:
            part.add(as_table([one]))
        if closed:
            part.rewrite(as_table(rows), closed=True)
        else:
            part.add(as_table(rows[-1:]))
        expected = [(found["job_id"], found["reply"], json.loads(found["scores"])["strict"]) for found in rows]
        with duckdb.connect() as connection:
            query = f"SELECT job_id, reply, CAST(json_extract(scores, '$.strict') AS INT) FROM '{part.path}'"
            assert connection.execute(query).fetchall() == expected
        frame = pl.read_parquet(part.path)
        assert frame["reply"].to_list() == [found["reply"] for found in rows]
        assert frame.width == len(rows[0])
