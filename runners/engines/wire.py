"""HTTP to a local server: a streamed chat completion with the arrival of its bytes timed, and small GET requests.

The standard library's client does the protocol. What it reads from is ours: a raw stream that notes the time of each
`recv`, and between two of them looks whether the request was cancelled or its time is up. So the clock is read where
the bytes arrive, and no second thread is needed to interrupt a read.
"""

from __future__ import annotations

import dataclasses
import http.client
import io
import json
import re
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
    ServerStalledError,
    ToolFormatError,
    TransportError,
)
from runners.engines.reply import ReplyBuilder, ServerSaidError
from runners.stall import OwnTime
from runners.stream import SseParser, StreamError

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

    from runners.lookout import Lookout

_READ_BYTES = 65536
_LOOK_UP_S = 0.1
_CONNECT_TIMEOUT_S = 10.0
_ERROR_BODY_BYTES = 65536
# llama.cpp since 2026, and before. Of the request, it says "Failed to parse messages", "tools" and the like.
_NOT_IN_FORMAT = re.compile(r"does not match the expected \S{1,60} format|Failed to parse input at pos")
_ANSWER_BYTES = 4 * 1024 * 1024


class InterruptedReplyError(Exception):
    """The read was given up: cancelled, out of time, or (`stalled` says why) because the server hangs."""

    def __init__(self, *, cancelled: bool = False, stalled: str = "") -> None:
        super().__init__("cancelled" if cancelled else stalled or "out of time")
        self.cancelled, self.stalled = cancelled, stalled


class _TimedReader(io.RawIOBase):
    """The receiving side of a socket. `arrived_s` is the time of the last `recv` that brought something."""

    def __init__(
        self,
        connected: socket.socket,
        timeout_s: float,
        own_time: OwnTime,
        *,
        cancelled: threading.Event | None,
        lookout: Lookout | None,
    ) -> None:
        super().__init__()
        self.arrived_s = time.monotonic()
        self._socket = connected
        self._own_time = own_time
        self._deadline_s = own_time() + timeout_s
        self._cancelled, self._lookout = cancelled, lookout
        self._socket.settimeout(_LOOK_UP_S)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while True:
            if self._cancelled is not None and self._cancelled.is_set():
                raise InterruptedReplyError(cancelled=True)
            lookout = self._lookout
            if self._own_time() >= self._deadline_s and (lookout is None or lookout.time_is_up()):
                raise InterruptedReplyError
            # Not only after a silence: who sends something without meaning all the time is looked at as well.
            if lookout is not None and (why := lookout.trouble()):
                raise InterruptedReplyError(stalled=why)
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
        answer = _read_all(response, time.monotonic() + timeout_s)
    except http.client.HTTPException as error:
        raise OSError(f"{base_url}{path}: {type(error).__name__}") from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(answer)
    except (ValueError, RecursionError):
        return response.status, None


def _read_all(response: http.client.HTTPResponse, deadline_s: float) -> bytes:
    """The body, if it is short and does not trickle in: whoever answers may be a stranger on our port."""
    body = bytearray()
    while piece := response.read1(_READ_BYTES):
        body += piece
        if len(body) > _ANSWER_BYTES or time.monotonic() > deadline_s:
            raise OSError("the answer is too long, or takes too long")
    return bytes(body)


def stream_chat(
    base_url: str,
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    cancelled: threading.Event | None = None,
    on_event: OnEvent | None = None,
    path: str = "/v1/chat/completions",
    key: str | None = None,
    lookout: Lookout | None = None,
) -> ChatResult:
    """POST `body` and read the stream to its end. Raises a `ChatError`, with what had arrived, if it ends otherwise.

    `lookout` tells a server that hangs from one that is slow; without one a silence ends with `timeout_s`.
    """
    own_time = OwnTime() if lookout is None else lookout.own_time
    started_s = time.monotonic()
    reply = ReplyBuilder(started_s=started_s, on_event=on_event)

    def so_far() -> ChatResult:
        return dataclasses.replace(reply.result(time.monotonic()), missed_s=own_time.missed_s)

    connection = _connection(base_url, min(_CONNECT_TIMEOUT_S, timeout_s))
    try:
        connection.request("POST", path, json.dumps(body), _headers(key))
        reader = _TimedReader(connection.sock, timeout_s, own_time, cancelled=cancelled, lookout=lookout)
        _read_stream(reader, reply, lookout)
    except ServerSaidError as error:
        raise refusal(error, None, so_far()) from None
    except InterruptedReplyError as error:
        raise interruption(error, timeout_s, so_far()) from None
    except StreamError as error:
        raise TransportError(error.message, partial=so_far()) from None
    except ChatError as error:
        error.partial = error.partial or so_far()
        raise
    except (OSError, http.client.HTTPException) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message = f"the connection to {base_url} broke: {what}"
        raise TransportError(message, partial=so_far()) from error
    finally:
        connection.close()
        if lookout is not None:
            lookout.close()
    result = so_far()
    if not reply.complete:
        raise TransportError(f"{base_url} ended the stream without saying how the reply ended", partial=result)
    return result


def _read_stream(reader: _TimedReader, reply: ReplyBuilder, lookout: Lookout | None) -> None:
    # HTTPResponse only ever calls makefile on what it is given.
    response = http.client.HTTPResponse(reader, method="POST")  # type: ignore[arg-type]  # typed as a socket
    try:
        response.begin()
        if response.status != http.client.OK:
            raise _http_refusal(response)
        parser = SseParser()
        while received := response.read1(_READ_BYTES):
            signs = reply.signs
            for payload in parser.feed(received):
                reply.take(payload, reader.arrived_s)
            if lookout is not None and reply.signs > signs:
                lookout.heard(generating=reply.generating)
                if lookout.spent:
                    raise InterruptedReplyError
            if reply.finished:
                return
    finally:
        response.close()


def _http_refusal(response: http.client.HTTPResponse) -> ChatError:
    body = response.read(_ERROR_BODY_BYTES)
    return refusal(said_in(body, response.reason), response.status, None)


def said_in(body: bytes, otherwise: str) -> ServerSaidError:
    """What an answer says that is an error; `otherwise` if it says nothing."""
    try:
        answer = json.loads(body)
        error = answer["error"] if isinstance(answer, dict) and "error" in answer else answer
    except (ValueError, RecursionError):
        error = body.decode(errors="replace").strip() or otherwise
    return ServerSaidError(error if isinstance(error, dict) else str(error))


def refusal(error: ServerSaidError, status: int | None, partial: ChatResult | None) -> ChatError:
    """What a server's error means, in whose words it says so."""
    # llama.cpp: {"type": "exceed_context_size_error", "n_prompt_tokens": ..., "n_ctx": ...}; OpenAI: "code".
    if "exceed_context_size" in error.kind or error.details.get("code") == "context_length_exceeded":
        hint = "give the engine a larger context, or leave out part of the prompt"
        return ContextOverflowError(f"the prompt does not fit the context: {error.message}", hint=hint, partial=partial)
    if _NOT_IN_FORMAT.search(error.message):
        # The server reads the reply by a grammar of the model's template: the model wrote something else.
        return ToolFormatError(f"the reply is not in the model's format: {error.message}", partial=partial)
    where = "in the middle of the reply" if status is None else f"with HTTP status {status}"
    return RefusedError(f"the server refused {where}: {error.message}", partial=partial, status=status)


def interruption(error: InterruptedReplyError, timeout_s: float, partial: ChatResult) -> ChatError:
    """What it means that a read was given up."""
    if error.cancelled:
        return CancelledError("the request was cancelled", partial=partial)
    if error.stalled:
        return ServerStalledError(f"the server {error.stalled}", partial=partial)
    hint = "raise the generation timeout, or lower max_tokens"
    return GenerationTimeoutError(f"the reply was not finished after {timeout_s:g} s", hint=hint, partial=partial)
