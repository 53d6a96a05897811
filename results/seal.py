"""How a part proves that it is whole: a checksum of its rows and one of its description, between the two.

    PAR1 | row groups | zeros, where there is room for more | seal | footer | length of the footer | PAR1

Parquet's own checksums are of pages; the footer, which says where the pages are, has none. Readers that know nothing of
seals skip it: they go from the end of the file to the footer, and from there to the pages.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"PAR1"
_NAME: Final = b"qs-part1"
_FIELDS: Final = struct.Struct("<8sQQIB")
"""Name, where the rows begin and end, their CRC-32, whether the part is closed."""
_CHECK: Final = struct.Struct("<I")
"""CRC-32 of the fields and of everything behind the seal."""
SEAL_BYTES: Final = _FIELDS.size + _CHECK.size

_END_BYTES: Final = 1 << 15
"""Read at once from the end of a file: seal and footer of a closed part."""
_CHUNK_BYTES: Final = 1 << 20


class TornFileError(Exception):
    """A file that is not, whole and unchanged, what was committed."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What a part says of itself: its rows are in bytes `begin` to `end`, and nothing is added to a closed one."""

    begin: int
    end: int
    crc: int
    closed: bool

    def tail(self, footer: bytes) -> bytes:
        """What the file ends with: this seal and `footer`, which is the last part of a Parquet file."""
        fields = _FIELDS.pack(_NAME, self.begin, self.end, self.crc, self.closed)
        return fields + _CHECK.pack(zlib.crc32(footer, zlib.crc32(fields))) + footer


def footer_begin(end: bytes | memoryview, size: int) -> int:
    """Where the footer begins in a Parquet file of `size` bytes that ends with `end`.

    Raises:
        TornFileError: It does not end as a Parquet file does.
    """
    length = int.from_bytes(end[-8:-4], "little")
    if len(end) < 12 or end[-4:] != MAGIC or length > size - 12:
        raise TornFileError("it is cut off, or no Parquet file")
    return size - 8 - length


def read_seal(descriptor: int) -> Seal | None:
    """The seal of the open file, its description checked; None where the file has none, as before parts were sealed.

    Raises:
        TornFileError: Cut off, or changed in its description.
    """
    size = os.fstat(descriptor).st_size
    begin = max(0, size - _END_BYTES)
    end = os.pread(descriptor, size - begin, begin)
    footer = footer_begin(end, size)
    if footer - SEAL_BYTES < begin:
        begin = max(0, footer - SEAL_BYTES)
        end = os.pread(descriptor, size - begin, begin)
    fields = end[footer - SEAL_BYTES - begin :][: _FIELDS.size]
    if footer < SEAL_BYTES or not fields.startswith(_NAME):
        return None
    (check,) = _CHECK.unpack_from(end, footer - _CHECK.size - begin)
    if zlib.crc32(memoryview(end)[footer - begin :], zlib.crc32(fields)) != check:
        raise TornFileError("its description has changed since it was written")
    _, first, last, crc, closed = _FIELDS.unpack(fields)
    return Seal(first, last, crc, bool(closed))


def check_rows(descriptor: int, seal: Seal) -> None:
    """Read all that `seal` vouches for.

    Raises:
        TornFileError: It is not what was written.
    """
    place, crc = seal.begin, 0
    while chunk := os.pread(descriptor, min(_CHUNK_BYTES, seal.end - place), place):
        crc = zlib.crc32(chunk, crc)
        place += len(chunk)
    if place != seal.end or crc != seal.crc:
        raise TornFileError("its rows have changed since they were written")
