"""Server-sent events from bytes as they arrive: incremental, bounded, the same whatever the chunking.

Follows the HTML standard's event stream format (section 9.2.6): lines end in LF, CR or CRLF; a line beginning with a
colon is a comment; `data` lines of one event are joined by LF; an empty line ends the event; other fields do not
matter here. What an unfinished last event holds is not delivered, as the standard says.
"""

from __future__ import annotations

from runners.errors import RunnersError

DONE = b"[DONE]"
_DEFAULT_LIMIT_BYTES = 16 * 1024 * 1024


class StreamError(RunnersError):
    """What arrived is no event stream we can take: one event larger than the limit."""


class SseParser:
    """Feed it bytes, get the `data` payloads that are now complete.

    One line and one event are each held to `limit_bytes`, so that a server gone wild costs bounded memory.
    """

    def __init__(self, *, limit_bytes: int = _DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False
        self._at_start = True

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads completed by `received`, in order. Raises `StreamError` past the limit."""
        payloads: list[bytes] = []
        if self._after_cr and received:
            # The CR that ended the last chunk has ended its line already; an LF after it belongs to it.
            self._after_cr = False
            if received.startswith(b"\n"):
                received = received[1:]
        if not received:
            return payloads
        # bytes.splitlines splits at LF, CR and CRLF and at nothing else.
        lines = received.splitlines(keepends=True)
        for piece in lines:
            text = piece.rstrip(b"\r\n")
            if len(self._line) + len(text) > self._limit_bytes:
                raise StreamError(f"the stream holds a line of more than {self._limit_bytes} bytes")
            if len(text) == len(piece):
                self._line += text
                break
            if self._line:
                self._line += text
                text = bytes(self._line)
                self._line.clear()
            self._take_line(text, payloads)
        self._after_cr = received.endswith(b"\r")
        return payloads

    def _take_line(self, line: bytes, payloads: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._limit_bytes:
                raise StreamError(f"the stream holds an event of more than {self._limit_bytes} bytes")
            self._data.append(value)
        elif not line:
            if self._data:
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        elif line == b"data":
            self._data.append(b"")
        elif line.startswith(b"error:"):
            # llama.cpp builds of 2024 and 2025 report an error under a field of its own, which the standard ignores.
            payloads.append(b'{"error":' + line[6:] + b"}")


class LineParser:
    """Feed it bytes, get the lines that are now complete, without their ends: JSON, one object a line."""

    def __init__(self, *, limit_bytes: int = _DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._line = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """The lines completed by `received`, in order. Raises `StreamError` past the limit."""
        *whole, rest = (bytes(self._line) + received).split(b"\n") if b"\n" in received else [received]
        if whole:
            self._line.clear()
        self._line += rest
        if len(self._line) > self._limit_bytes or any(len(line) > self._limit_bytes for line in whole):
            raise StreamError(f"the stream holds a line of more than {self._limit_bytes} bytes")
        return [line.rstrip(b"\r") for line in whole]
