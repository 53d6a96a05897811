"""Complete rows as Arrow tables, and tables as Parquet."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from results.schema import arrow_schema, file_note

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from results.index import Key, Mark

_SAME: Final = ("prompt", "chat_template")
"""Texts that are the same in many rows."""
_LONG: Final = ("reply", "reasoning", *_SAME)
_TEXTS: Final = (*_LONG, "grader_log", "grade_items", "events")


def as_table(rows: list[dict[str, Any]]) -> Any:
    """Complete rows (`schema.complete_row`) as a `pyarrow.Table`."""
    import pyarrow as pa

    # As one column of structs, because the way by `Table.from_pylist` takes a call for every column.
    batch = pa.RecordBatch.from_struct_array(pa.array(rows, type=pa.struct(list(arrow_schema()))))
    return pa.Table.from_batches([batch], schema=arrow_schema())


def joined(before: Any, after: Any) -> Any:
    """One table of two."""
    import pyarrow as pa

    return pa.concat_tables([before, after]).combine_chunks()


def without_mark(table: Any, keys: Collection[Key]) -> Any:
    """`table` with `final` false for these attempts."""
    if not keys:
        return table
    rows = zip(_keys_of(table), table["final"].to_pylist(), strict=True)
    final = [is_final and key not in keys for key, is_final in rows]
    return _with_column(table, "final", final)


def with_marks(table: Any, marks: Mapping[Key, Mark]) -> Any:
    """`table` with `final` and `taken_out` of these attempts as they are given."""
    found = zip(table["final"].to_pylist(), table["taken_out"].to_pylist(), strict=True)
    pairs = [marks.get(key, pair) for key, pair in zip(_keys_of(table), found, strict=True)]
    table = _with_column(table, "final", [final for final, _ in pairs])
    return _with_column(table, "taken_out", [taken_out for _, taken_out in pairs])


def _with_column(table: Any, name: str, values: list[bool | None] | list[bool]) -> Any:
    import pyarrow as pa

    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, pa.bool_()))


def without(table: Any, keys: Collection[Key]) -> Any:
    """`table` without these attempts."""
    import pyarrow as pa

    return table.filter(pa.array([key not in keys for key in _keys_of(table)]))


def _keys_of(table: Any) -> Iterator[Key]:
    return zip(table["job_id"].to_pylist(), table["attempt"].to_pylist(), strict=True)


@cache
def parquet_options(*, closed: bool) -> Mapping[str, Any]:
    """How we write Parquet.

    Most of a small file is description: dictionaries, statistics and Arrow's own schema would treble it. Compression
    is set up anew for every column, which costs more than it saves where there is one short value. A text that all rows
    share stands once in a closed part, as a dictionary's only entry.
    """
    compression = dict.fromkeys(arrow_schema().names, "snappy") | dict.fromkeys(_TEXTS, "zstd")
    if not closed:
        compression = dict.fromkeys(_LONG, "zstd")
    return {
        "compression": compression,
        "use_dictionary": list(_SAME) if closed else False,
        "write_statistics": False,
        "store_schema": False,
        "write_page_checksum": True,
    }


def note_of(table: Any) -> Mapping[Any, Any]:
    """What a file of `table` is to say of itself; one with the columns of another version says what it said."""
    return file_note() if table.schema.equals(arrow_schema()) else table.schema.metadata or {}


def encode_alone(table: Any) -> bytes:
    """`table` as a plain Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **parquet_options(closed=True)) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(note_of(table))
    return bytes(memoryview(sink.getvalue()))
