"""Reads HTTP/1.1 requests from programs that may send anything: bounded, and nothing of them is believed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

HEAD_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024
_METHOD_CHARS, _HEX_DIGITS = 16, 8


class BadRequestError(Exception):
    """What came is no request, or too large a one; the connection is of no use any more."""


@dataclass(frozen=True)
class Request:
    """One request.

    `path` is without its query; `keeps` says whether another may follow on the connection.
    """

    method: str
    path: str
    body: bytes
    keeps: bool


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection; None where it has ended. The reader's limit is `HEAD_BYTES`.

    Raises:
        BadRequestError: It is none that we take.
        OSError: The connection broke.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequestError("a head without end") from error
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if (
        len(words) != 3 or not words[2].startswith("HTTP/1.") or len(words[0]) > _METHOD_CHARS
    ):  # method, target, version
        raise BadRequestError("no request line")
    headers = _headers(lines)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = await _chunked(reader)
        else:
            body = await reader.readexactly(_length(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequestError("a chunk without end") from error
    keeps = words[2] == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(words[0], _path(words[1]), body, keeps)


def _headers(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        name, _, value = line.partition(":")
        found[name.strip().lower()] = value.strip()
    return found


def _path(target: str) -> str:
    path = target.partition("?")[0]
    if path.startswith("http://"):  # the form for proxies
        path = "/" + path.removeprefix("http://").partition("/")[2]
    return path


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _HEX_DIGITS and int(text) <= BODY_BYTES):
        raise BadRequestError("a body of no size that is taken")
    return int(text)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks (RFC 9112, section 7.1), and the trailer after it."""
    body = bytearray()
    while True:
        digits = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
        if not digits or len(digits) > _HEX_DIGITS or digits.strip(b"0123456789abcdefABCDEF"):
            raise BadRequestError("no size of a chunk")
        size = int(digits, 16)
        if len(body) + size > BODY_BYTES:
            raise BadRequestError("a body that is too large")
        if not size:
            break
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    for _ in range(32):
        if await reader.readuntil(b"\r\n") == b"\r\n":
            return bytes(body)
    raise BadRequestError("a trailer without end")
