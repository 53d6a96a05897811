"""Read a GGUF header from a path, an open file or bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from quants.errors import GGUFError, NeedMoreBytes
from quants.gguf.limits import LIMITS, ArrayMemo, Limits
from quants.gguf.parser import HeaderParser

if TYPE_CHECKING:
    from collections.abc import Collection

    from quants.gguf.header import Header

# One read covers the headers of most models; the others cost a few more, each doubling what was read.
FIRST_READ_BYTES: Final = 4 * 1024 * 1024
MAX_READ_BYTES: Final = 64 * 1024 * 1024


def read_header(
    source: str | os.PathLike[str] | bytes | bytearray | BinaryIO,
    *,
    decode: Collection[str] = (),
    where: str | None = None,
    limits: Limits = LIMITS,
    memo: ArrayMemo | None = None,
    first_bytes: int = FIRST_READ_BYTES,
) -> Header:
    """The GGUF header at the start of `source`; nothing behind the tensor table is read or required.

    Args:
        source: a path, the bytes themselves (of the whole file, or at least its header), or a binary file that is
            read from its present position.
        decode: keys of large arrays or strings to decode too, e.g. {"tokenizer.ggml.tokens"}.
        where: what to call the source in error texts; a path by default.
        limits: caps on counts and lengths.
        memo: shares the work of walking equal tokenizers between several headers.
        first_bytes: how much to read of a file at first; the reads after it double.

    Raises:
        GGUFError: no sound GGUF header, or cut off within it; says what and at which byte.
        OSError: the file cannot be opened or read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        with path.open("rb", buffering=0) as file:
            return _read_file(file, _parser(decode, where or str(path), limits, memo), first_bytes)
    parser = _parser(decode, where, limits, memo)
    if isinstance(source, bytes | bytearray):
        try:
            return parser.parse(source)
        except NeedMoreBytes as short:
            raise cut_off(len(source), short) from None
    return _read_file(source, parser, first_bytes)


def decode_value(path: str | os.PathLike[str], key: str, *, limits: Limits = LIMITS) -> Any:
    """The whole value of `key`, however large: the way to the tokens behind a `Deferred`.

    Raises:
        GGUFError: no sound header.
        KeyError: the header has no such key.
    """
    return read_header(path, decode={key}, limits=limits).metadata[key]


def cut_off(size_bytes: int, short: NeedMoreBytes) -> GGUFError:
    """The error for a file of `size_bytes` that ends within its header."""
    if size_bytes == 0:
        return GGUFError("no GGUF: it is empty", "Download or copy it again", None, short.where)
    return GGUFError(
        f"cut off within its header: {size_bytes:,} bytes, the header goes on to byte {short.needed_bytes:,} at least",
        "Download or copy it again",
        size_bytes,
        short.where,
    )


def _parser(decode: Collection[str], where: str | None, limits: Limits, memo: ArrayMemo | None) -> HeaderParser:
    return HeaderParser(decode=decode, where=where, limits=limits, memo=memo)


def _read_file(file: BinaryIO, parser: HeaderParser, wanted: int) -> Header:
    data = b""
    while True:
        ended = False
        while len(data) < wanted and not ended:
            # In steps: a header that lies about a length must not make us allocate that much at once.
            chunk = file.read(min(wanted - len(data), MAX_READ_BYTES))
            ended = not chunk
            data += chunk
        try:
            return parser.parse(data)
        except NeedMoreBytes as short:
            if ended:
                raise cut_off(len(data), short) from None
            wanted = max(2 * len(data), short.needed_bytes)
