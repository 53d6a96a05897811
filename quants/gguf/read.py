"""Read a GGUF header from a path, an open file or bytes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from quants.gguf.limits import LIMITS, Limits
from quants.gguf.parser import HeaderParser
from quants.gguf.window import FIRST_BYTES, Window

if TYPE_CHECKING:
    from collections.abc import Collection

    from quants.gguf.header import Header
    from quants.gguf.memo import ArrayMemo


def read_header(
    source: str | os.PathLike[str] | bytes | bytearray | BinaryIO,
    *,
    decode: Collection[str] = (),
    where: str | None = None,
    limits: Limits = LIMITS,
    memo: ArrayMemo | None = None,
    first_bytes: int = FIRST_BYTES,
) -> Header:
    """The GGUF header at the start of `source`; nothing behind the tensor table is read or required.

    Args:
        source: a path, the bytes themselves (of the whole file, or at least its header), or a binary file that can be
            sought, and is read from its present position.
        decode: keys of large arrays or strings to decode too, e.g. {"tokenizer.ggml.tokens"}.
        where: what to call the source in error texts; a path by default.
        limits: caps on counts and lengths.
        memo: shares the work of walking equal tokenizers between several headers.
        first_bytes: how much to read of a file at first; what was read doubles from then on, up to 4 MiB at once.

    Raises:
        GGUFError: no sound GGUF header, or cut off within it; says what and at which byte.
        OSError: the file cannot be opened or read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        with path.open("rb", buffering=0) as file:
            return _parse(_window(file, first_bytes, where or str(path)), decode, limits, memo)
    if isinstance(source, bytes | bytearray):
        view = memoryview(source)
        window = Window(
            lambda start, end: bytes(view[start:end]), size_bytes=len(source), first_bytes=first_bytes, where=where
        )
    else:
        window = _window(source, first_bytes, where)
    return _parse(window, decode, limits, memo)


def decode_value(path: str | os.PathLike[str], key: str, *, limits: Limits = LIMITS) -> Any:
    """The whole value of `key`, however large: the way to the tokens behind a `Deferred`.

    Raises:
        GGUFError: no sound header, or a value beyond what is read for anybody who asks (`Limits.asked_bytes`).
        KeyError: the header has no such key.
    """
    return read_header(path, decode={key}, limits=limits).metadata[key]


def _parse(window: Window, decode: Collection[str], limits: Limits, memo: ArrayMemo | None) -> Header:
    parser = HeaderParser(window, limits=limits, memo=memo)
    header = parser.parse()
    asked = {key: parser.value(key) for key in decode if key in header.metadata}
    return replace(header, metadata={**header.metadata, **asked}) if asked else header


def _window(file: BinaryIO, first_bytes: int, where: str | None) -> Window:
    """On a file, counted from its present position."""
    origin = file.tell()
    size_bytes = file.seek(0, os.SEEK_END) - origin

    def read(start: int, end: int) -> bytes:
        file.seek(origin + start)
        return file.read(end - start)

    return Window(read, size_bytes=size_bytes, first_bytes=first_bytes, where=where)
