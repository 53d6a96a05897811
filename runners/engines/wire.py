"""HTTP to a local server: a streamed chat completion with the arrival of its bytes timed, and small GET requests.

The standard library's client does the protocol. What it reads from is ours: a raw stream that notes the time of each
`recv`, and between two of them looks whether the request was cancelled or its time is up. So the clock is read where
the bytes arrive, and no second thread is needed to interrupt a read.
"""

from __future__ import annotations

import http.client
import io
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runners.chat import (
    CancelledError,
    ChatError,
    ChatResult,
    ContextOverflowError,
    GenerationTimeoutError,
    OnEvent,
    RefusedError,
    TransportError,
)
from runners.engines.reply import ReplyBuilder, ServerSaidError
from runners.stream import SseParser, StreamError

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

_READ_BYTES = 65536
_LOOK_UP_S = 0.1
_CONNECT_TIMEOUT_S = 10.0
_ERROR_BODY_BYTES = 65536


class _InterruptedError(Exception):
    """The read was given up: cancelled, or out of time."""

    def __init__(self, *, cancelled: bool) -> None:
        super().__init__("cancelled" if cancelled else "out of time")
        self.cancelled = cancelled


class _TimedReader(io.RawIOBase):
    """The receiving side of a socket. `arrived_s` is the time of the last `recv` that brought something."""

    def __init__(self, connected: socket.socket, deadline_s: float, cancelled: threading.Event | None) -> None:
        super().__init__()
        self.arrived_s = time.monotonic()
        self._socket = connected
        self._deadline_s = deadline_s
        self._cancelled = cancelled
        self._socket.settimeout(_LOOK_UP_S)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while True:
            if self._cancelled is not None and self._cancelled.is_set():
                raise _InterruptedError(cancelled=True)
            if time.monotonic() >= self._deadline_s:
                raise _InterruptedError(cancelled=False)
            try:
                count = self._socket.recv_into(buffer)
            except TimeoutError:
                continue
            self.arrived_s = time.monotonic()
            return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What `http.client.HTTPResponse` asks a socket for."""
        return io.BufferedReader(self, _READ_BYTES)


def _connection(base_url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(base_url)
    return http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)


def _headers(key: str | None) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})


def get_json(
    base_url: str, path: str, *, key: str | None = None, body: str | None = None, timeout_s: float = 5.0
) -> tuple[int, Any]:
    """The status of a GET (a POST of `body`, if there is one) and its answer as JSON (None if it is none).

    `key` is the server's, None to ask without one. Raises `OSError` if there was no answer.
    """
    connection = _connection(base_url, timeout_s)
    try:
        connection.request("GET" if body is None else "POST", path, body, _headers(key))
        response = connection.getresponse()
        answer = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"{base_url}{path}: {type(error).__name__}") from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(answer)
    except ValueError:
        return response.status, None


def stream_chat(
    base_url: str,
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    cancelled: threading.Event | None = None,
    on_event: OnEvent | None = None,
    path: str = "/v1/chat/completions",
    key: str | None = None,
) -> ChatResult:
    """POST `body` and read the stream to its end. Raises a `ChatError`, with what had arrived, if it ends otherwise."""
    started_s = time.monotonic()
    reply = ReplyBuilder(started_s=started_s, on_event=on_event)
    connection = _connection(base_url, min(_CONNECT_TIMEOUT_S, timeout_s))
    try:
        connection.request("POST", path, json.dumps(body), _headers(key))
        reader = _TimedReader(connection.sock, started_s + timeout_s, cancelled)
        _read_stream(reader, reply)
    except ServerSaidError as error:
        raise _refusal(error, None, reply.result(time.monotonic())) from None
    except _InterruptedError as error:
        raise _interruption(error, timeout_s, reply.result(time.monotonic())) from None
    except StreamError as error:
        raise TransportError(error.message, partial=reply.result(time.monotonic())) from None
    except ChatError as error:
        error.partial = error.partial or reply.result(time.monotonic())
        raise
    except (OSError, http.client.HTTPException) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message = f"the connection to {base_url} broke: {what}"
        raise TransportError(message, partial=reply.result(time.monotonic())) from error
    finally:
        connection.close()
    result = reply.result(time.monotonic())
    if not reply.complete:
        raise TransportError(f"{base_url} ended the stream without saying how the reply ended", partial=result)
    return result


def _read_stream(reader: _TimedReader, reply: ReplyBuilder) -> None:
    # HTTPResponse only ever calls makefile on what it is given.
    response = http.client.HTTPResponse(reader, method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status != http.client.OK:
            raise _http_refusal(response)
        parser = SseParser()
        while received := response.read1(_READ_BYTES):
            for payload in parser.feed(received):
                reply.take(payload, reader.arrived_s)
            if reply.finished:
                return
    finally:
        response.close()


def _http_refusal(response: http.client.HTTPResponse) -> ChatError:
    body = response.read(_ERROR_BODY_BYTES)
    try:
        answer = json.loads(body)
        error = answer["error"] if isinstance(answer, dict) and "error" in answer else answer
    except ValueError:
        error = body.decode(errors="replace").strip() or response.reason
    said = ServerSaidError(error if isinstance(error, dict) else str(error))
    return _refusal(said, response.status, None)


def _refusal(error: ServerSaidError, status: int | None, partial: ChatResult | None) -> ChatError:
    # llama.cpp: {"type": "exceed_context_size_error", "n_prompt_tokens": ..., "n_ctx": ...}; OpenAI: "code".
    if "exceed_context_size" in error.kind or error.details.get("code") == "context_length_exceeded":
        hint = "give the engine a larger context, or leave out part of the prompt"
        return ContextOverflowError(f"the prompt does not fit the context: {error.message}", hint=hint, partial=partial)
    where = "in the middle of the reply" if status is None else f"with HTTP status {status}"
    return RefusedError(f"the server refused {where}: {error.message}", partial=partial, status=status)


def _interruption(error: _InterruptedError, timeout_s: float, partial: ChatResult) -> ChatError:
    if error.cancelled:
        return CancelledError("the request was cancelled", partial=partial)
    hint = "raise the generation timeout, or lower max_tokens"
    return GenerationTimeoutError(f"the reply was not finished after {timeout_s:g} s", hint=hint, partial=partial)
