"""A part: a Parquet file of up to 48 attempts that takes one more at each commit, and misleads no reader meanwhile.

Every change writes the whole file anew, durably, and renames it over the old one: whoever opens it gets one version or
the other. But some readers open a file twice, first for its description and then for its rows (DuckDB), or ask for its
size long before they open it (Polars). So that these do not fail, or worse, when a commit falls in between, no version
contradicts an earlier one:

- rows that were written stay where they are, so an earlier version's description holds for every later version;
- a new row group goes into the free space before the footer, and the size stays the same: the end that belongs to an
  earlier size is still a footer. Where the space does not suffice, the old file is kept as it is, footer and all, and
  the new one goes on behind it, with twice the size.

The free space is a hole, for which the disk keeps nothing. A row group for each row would make the file slow to read,
so that the last version, when the part is full and closed, writes all rows as one, behind what was there before. What
is dead then is given back to the disk (`forget_past`), when nobody reads it any more.
"""

from __future__ import annotations

import errno
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from results import durable
from results.columnar import note_of, parquet_options
from results.schema import arrow_schema
from results.seal import MAGIC, Seal, TornFileError, check_rows, footer_begin, read_seal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_ROWS: Final = 48
MOST_BYTES: Final = 5 << 18
"""A part is full with so many rows, or when those in it take so many bytes, one by one.

A commit writes the part, so that more would make commits slow; fewer make more files, and all readers slow.
"""

MOST_PAST_BYTES: Final = 16 << 20
"""A part that has become this large by changes is written without its past, as if it were new."""

_LEAST_SIZE: Final = 1 << 16
_BLOCK_BYTES: Final = 512  # of `st_blocks`, on every system

Identity = tuple[int, int, int, int]
"""What tells that a file is still the one that we know: device, inode, size, time of its last change."""


def identity_of(path: Path) -> Identity:
    """Identity of the file at `path` as it is now."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Version:
    """A part as it is on disk, or about to be.

    Attributes:
        body: From the beginning to the end of the last row group.
        hole: Bytes 4 to `hole` of the body are zeros that the disk does not keep.
        size: Of the file. Between body and tail there are zeros.
        tail: Seal and footer.
        description: The `pyarrow.parquet.FileMetaData` of the footer.
    """

    body: memoryview
    hole: int
    size: int
    seal: Seal
    tail: bytes
    description: Any

    def content(self) -> tuple[durable.Piece, ...]:
        """The file."""
        free = self.size - len(self.body) - len(self.tail)
        return MAGIC, self.hole - len(MAGIC), self.body[self.hole :], free, self.tail

    def bytes(self) -> bytes:
        """The file, in memory."""
        return b"".join((self.body, bytes(self.size - len(self.body) - len(self.tail)), self.tail))


class Part:
    """One part, for the process that writes it. After an error it does not know what is on disk: load it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity: Identity | None = None
        self._version: _Version | None = None
        self._tables: list[Any] = []
        self._rows = 0
        self._least_tail = 0

    @classmethod
    def load(cls, path: Path) -> Part:
        """The part at `path`, every byte of its rows checked.

        Raises:
            TornFileError: It is damaged.
            OSError: Not there, or not readable.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        part = cls(path)
        part.identity = identity_of(path)
        with path.open("rb") as file:
            seal = read_seal(file.fileno())
            if seal is None:
                raise TornFileError("it has no seal")
            check_rows(file.fileno(), seal)
            data = memoryview(file.read())
        try:
            with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as parquet:
                part._tables = [parquet.read(use_threads=False)]
                part._rows = part._tables[0].num_rows
                description = parquet.metadata
        except (pa.ArrowException, OSError) as error:
            raise TornFileError(str(error)) from error
        # Rows are added behind these; and what is dead already need not be written again.
        footer = footer_begin(data[-1 << 20 :], len(data))
        tail = bytes(data[footer - len(seal.tail(b"")) :])
        hole = seal.begin if not any(data[len(MAGIC) : seal.begin]) else len(MAGIC)
        part._version = _Version(data[: seal.end], hole, len(data), seal, tail, description)
        return part

    @property
    def closed(self) -> bool:
        """Whether nothing is added any more."""
        return self._version is not None and self._version.seal.closed

    @property
    def takes_rows(self) -> bool:
        """Whether rows can be put into it: it has the columns of this version, and is not outgrown by its past."""
        size = 0 if self._version is None else self._version.size
        return size <= MOST_PAST_BYTES and all(bool(table.schema.equals(arrow_schema())) for table in self._tables)

    def would_be_full(self, table: Any) -> bool:
        """Whether it is to be closed when `table` has been added."""
        seal = None if self._version is None else self._version.seal
        return self._rows + int(table.num_rows) >= MOST_ROWS or (
            seal is not None and seal.end - seal.begin >= MOST_BYTES
        )

    def table(self) -> Any:
        """Its attempts."""
        import pyarrow as pa

        if len(self._tables) != 1:
            self._tables = [pa.concat_tables(self._tables or [arrow_schema().empty_table()]).combine_chunks()]
        return self._tables[0]

    def add(self, table: Any) -> None:
        """Add the attempts in `table`, durably, as a row group.

        Raises:
            OSError: They may be there or not; what was there before is.
        """
        version = self._version
        if version is None:
            self._publish(_new_version(table, MAGIC, len(MAGIC), closed=False), [table])
            return
        body, own = _encode(table, version.body)
        self._least_tail = self._least_tail or len(_footer(own))
        size, tail_bytes = version.size, len(version.tail) + self._least_tail  # at most so many: both have the columns
        if len(body) + tail_bytes > size:
            body, own = _encode(table, version.bytes())
            size = _roomy(len(body) + tail_bytes)
        description = version.description
        self._version = None  # what describes it is changed from here on
        description.append_row_groups(own)
        crc = zlib.crc32(body[len(version.body) :], version.seal.crc)
        seal = Seal(version.seal.begin, len(body), crc, closed=False)
        tail = seal.tail(_footer(description))
        self._publish(_Version(body, version.hole, size, seal, tail, description), [*self._tables, table])

    def rewrite(self, table: Any, *, closed: bool) -> None:
        """Put `table` in place of all its attempts, durably, as one row group.

        Raises:
            OSError: The one or the other is there.
        """
        version = self._version
        if version is None or version.size > MOST_PAST_BYTES:
            before, hole = MAGIC, len(MAGIC)
        else:
            before, hole = version.bytes(), version.hole
        self._publish(_new_version(table, before, hole, closed=closed), [table])

    def _publish(self, version: _Version, tables: list[Any]) -> None:
        self._version = None
        if self.identity is not None:
            durable.replace(self.path, *version.content())
        elif not durable.create_exclusive(self.path, *version.content()):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
        self.identity = identity_of(self.path)
        self._version, self._tables = version, tables
        self._rows = sum(int(table.num_rows) for table in tables)


def is_open_size(size: int) -> bool:
    """Whether a part of `size` bytes may be one that is not closed."""
    return size >= _LEAST_SIZE and size & (size - 1) == 0


def forget_past(path: Path) -> None:
    """Give the disk space back that a closed part takes up for what it was before it was closed.

    Raises:
        TornFileError, OSError: It is damaged or gone.
    """
    with path.open("rb") as file:
        seal = read_seal(file.fileno())
        found = os.fstat(file.fileno())
    if seal is not None and seal.closed and found.st_blocks * _BLOCK_BYTES > found.st_size - seal.begin + _LEAST_SIZE:
        durable.punch_hole(path, len(MAGIC), seal.begin)


def _new_version(table: Any, before: bytes, hole: int, *, closed: bool) -> _Version:
    """A file of one row group behind `before`, with room for more unless it is closed."""
    body, description = _encode(table, before, closed=closed, note=note_of(table))
    seal = Seal(len(before), len(body), zlib.crc32(body[len(before) :]), closed)
    tail = seal.tail(_footer(description))
    size = len(body) + len(tail)
    return _Version(body, hole, size if closed else _roomy(size), seal, tail, description)


def _roomy(size: int) -> int:
    """A power of two, so that a part has as few sizes as possible, and more than `size`."""
    return max(_LEAST_SIZE, 1 << size.bit_length())


def _encode(
    table: Any, before: bytes | memoryview, *, closed: bool = False, note: Mapping[Any, Any] | None = None
) -> tuple[memoryview, Any]:
    """`before`, and `table` as a row group that counts its places from the beginning of `before`; its description.

    `note` is what the file says of itself; not for a row group that is added, as its first version has said it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    described: list[Any] = []
    options = parquet_options(closed=closed)
    with pq.ParquetWriter(sink, table.schema, metadata_collector=described, **options) as writer:
        sink.write(memoryview(before)[len(MAGIC) :])  # the writer has written MAGIC, and asks the sink where it is
        writer.write_table(table)
        if note:
            writer.add_key_value_metadata(note)
    data = memoryview(sink.getvalue())
    return data[: footer_begin(data[-1 << 20 :], len(data))], described[0]


def _footer(description: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    description.write_metadata_file(sink)
    return bytes(memoryview(sink.getvalue())[len(MAGIC) :])
