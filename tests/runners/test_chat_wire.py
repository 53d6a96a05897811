"""The chat client against real sockets: a server that sends whatever a test wants, as badly as it wants."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.chat import (
    CancelledError,
    ChatError,
    ChatRequest,
    ContextOverflowError,
    GenerationTimeoutError,
    Message,
    RefusedError,
    Sampling,
    ServerCrashError,
    TransportError,
)
from runners.engines import wire
from runners.engines.llama_cpp import request_body
from runners.engines.reply import ReplyBuilder, ServerSaidError
from runners.engines.wire import get_json, stream_chat
from runners.outcomes import Outcome
from runners.stall import OwnTime

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(finish_reason: str | None = None, *, timings: dict[str, Any] | None = None, **fields: Any) -> bytes:
    more = {"timings": timings} if timings else {}
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish_reason}], model="m", **more)


USAGE = event(
    choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
)
END = b"\r\n\r\n{}"  # of each request made here: its body is an empty object
DONE = b"data: [DONE]\n\n"
WHOLE = [delta(role="assistant", content=None), delta(content="he"), delta(content="llo"), delta("stop"), USAGE, DONE]

Behaviour = Callable[[socket.socket], None]
Server = Callable[[Behaviour], str]


@pytest.fixture
def server() -> Iterator[Server]:
    """Starts a server for one request: it reads the request, then does what it is told with the socket."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(behaviour: Behaviour) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    # To the end of the body: closing with something unread would reset the connection.
                    received = b""
                    while not received.endswith(END) and b"GET" not in received:
                        received += connection.recv(65536)
                    behaviour(connection)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def sends(*parts: bytes, end: bool = True) -> Behaviour:
    """A chunked reply, one chunk a part."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for part in parts:
            connection.sendall(chunk(part))
        if end:
            connection.sendall(b"0\r\n\r\n")

    return behave


def answers(status: str, body: bytes) -> Behaviour:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


def test_a_whole_reply(server: Server) -> None:
    result = stream_chat(server(sends(*WHOLE)), {}, timeout_s=30.0)
    assert result.text == "hello"
    assert result.finish_reason == "stop"
    assert result.model == "m"
    assert [event.kind for event in result.events] == ["role", "text", "text", "finish", "usage"]
    assert [event.size_bytes for event in result.events] == [0, 2, 3, 0, 0]
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.usage.cached_tokens) == (5, 2, 0)
    times = [result.started_s, *(event.at_s for event in result.events), result.ended_s]
    assert times == sorted(times)


def test_events_are_timed_as_they_arrive(server: Server) -> None:
    """The second half is sent only after the first was seen: its time must be later than that."""
    seen = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"".join(WHOLE[:2])))
        assert seen.wait(30)
        connection.sendall(chunk(b"".join(WHOLE[2:])) + b"0\r\n\r\n")

    def on_event(event: Any) -> None:
        if event.kind == "text":
            seen.set()

    first, second = (event for event in stream_chat(server(behave), {}, timeout_s=30.0, on_event=on_event).events
                     if event.kind == "text")  # fmt: skip
    assert first.at_s < second.at_s


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_any_chunking(server: Server, size: int) -> None:
    stream = b"".join(WHOLE).replace(b"\n", b"\r\n")
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert stream_chat(server(sends(*parts)), {}, timeout_s=30.0).text == "hello"


def test_a_body_without_chunks(server: Server) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    result = stream_chat(server(lambda connection: connection.sendall(head + b"".join(WHOLE))), {}, timeout_s=30.0)
    assert result.text == "hello"


def test_without_done(server: Server) -> None:
    assert stream_chat(server(sends(*WHOLE[:-1])), {}, timeout_s=30.0).finish_reason == "stop"


class SinceHeard:
    """A clock that stands at 0 until the first event (a role is one), so that what is sent in time arrives in time.

    Without it, a busy machine may bring a first token after a limit of 0.3 s, and the test shows something else.
    """

    def __init__(self) -> None:
        self._heard_s: float | None = None

    def hear(self, _event: object = None) -> None:
        if self._heard_s is None:
            self._heard_s = time.monotonic()

    def __call__(self) -> float:
        return 0.0 if self._heard_s is None else time.monotonic() - self._heard_s


class TestBrokenConnections:
    def fails(self, base_url: str, kind: type[ChatError], text: str = "", **more: Any) -> ChatError:
        with pytest.raises(kind) as caught:
            stream_chat(base_url, {}, **{"timeout_s": 30.0, **more})
        assert caught.value.partial is not None
        assert caught.value.partial.text == text
        return caught.value

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        error = self.fails(f"http://127.0.0.1:{port}", TransportError)
        assert "refused" in error.message
        assert error.outcome is Outcome.TRANSPORT

    def test_closed_without_an_answer(self, server: Server) -> None:
        self.fails(server(lambda connection: None), TransportError)

    def test_closed_in_the_middle(self, server: Server) -> None:
        error = self.fails(server(sends(*WHOLE[:2], end=False)), TransportError, "he")
        assert error.partial is not None
        assert error.partial.finish_reason is None

    def test_closed_inside_a_chunk(self, server: Server) -> None:
        self.fails(server(lambda connection: connection.sendall(HEAD + b"ff\r\ndata: {")), TransportError)

    def test_ended_before_it_finished(self, server: Server) -> None:
        assert "without saying" in self.fails(server(sends(*WHOLE[:3])), TransportError, "hello").message

    def test_no_http(self, server: Server) -> None:
        self.fails(server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")), TransportError)

    def test_an_endless_line(self, server: Server) -> None:
        def behave(connection: socket.socket) -> None:
            connection.sendall(HEAD)
            for _ in range(18):
                connection.sendall(chunk(b"x" * (1 << 20)))

        assert "more than" in self.fails(server(behave), TransportError).message

    def test_silence(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SinceHeard()
        monkeypatch.setattr(wire, "OwnTime", lambda: OwnTime(clock))

        def behave(connection: socket.socket) -> None:
            sends(WHOLE[1], end=False)(connection)
            connection.recv(1)  # until the client hangs up

        error = self.fails(server(behave), GenerationTimeoutError, "he", timeout_s=0.5, on_event=clock.hear)
        assert error.outcome is Outcome.GENERATION_TIMEOUT
        assert "0.5 s" in error.message

    def test_a_stream_that_never_ends_is_cut_at_the_timeout(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = SinceHeard()
        monkeypatch.setattr(wire, "OwnTime", lambda: OwnTime(clock))

        def behave(connection: socket.socket) -> None:
            connection.sendall(HEAD)
            while True:
                connection.sendall(chunk(delta(content="x") * 50))

        with pytest.raises(GenerationTimeoutError) as caught:
            stream_chat(server(behave), {}, timeout_s=0.3, on_event=clock.hear)
        assert caught.value.partial is not None
        assert set(caught.value.partial.text) == {"x"}

    def test_cancelled_before_the_first_byte(self, server: Server) -> None:
        cancelled = threading.Event()

        def behave(connection: socket.socket) -> None:
            cancelled.set()
            connection.recv(1)  # until the client hangs up

        error = self.fails(server(behave), CancelledError, cancelled=cancelled)
        assert error.outcome is Outcome.CANCELLED


class TestRefusals:
    def test_with_a_status(self, server: Server) -> None:
        body = json.dumps({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}).encode()
        with pytest.raises(RefusedError, match="503: Loading model") as caught:
            stream_chat(server(answers("503 Service Unavailable", body)), {}, timeout_s=30.0)
        assert caught.value.status == 503

    @pytest.mark.parametrize(
        "body", [b"", b"<html>no</html>", b"[1]", b'{"detail": "no"}', b'{"error": "plain words"}']
    )
    def test_in_no_known_form(self, server: Server, body: bytes) -> None:
        with pytest.raises(RefusedError, match="HTTP status 500"):
            stream_chat(server(answers("500 Internal Server Error", body)), {}, timeout_s=30.0)

    def test_in_the_middle_of_the_stream(self, server: Server) -> None:
        error = event(error={"code": 500, "message": "out of slots", "type": "server_error"})
        with pytest.raises(RefusedError, match="in the middle of the reply: out of slots") as caught:
            stream_chat(server(sends(*WHOLE[:2], error)), {}, timeout_s=30.0)
        assert caught.value.partial is not None
        assert caught.value.partial.text == "he"

    def test_of_a_prompt_too_long(self, server: Server) -> None:
        error = {"code": 400, "message": "request (99 tokens) exceeds ...", "type": "exceed_context_size_error"}
        with pytest.raises(ContextOverflowError, match="99 tokens"):
            stream_chat(server(answers("400 Bad Request", json.dumps({"error": error}).encode())), {}, timeout_s=30.0)
        with pytest.raises(ContextOverflowError):
            stream_chat(server(sends(b"error: " + json.dumps(error).encode() + b"\n\n")), {}, timeout_s=30.0)


def build(*payloads: bytes) -> ReplyBuilder:
    builder = ReplyBuilder(started_s=0.0)
    for number, payload in enumerate(payloads):
        builder.take(payload.removeprefix(b"data: ").strip(), float(number))
    return builder


class TestReplies:
    def test_tokens_come_from_the_servers_count(self) -> None:
        result = build(
            delta(role="assistant", content=None),
            delta(content="a", timings={"predicted_n": 1}),
            delta(content="bcd", timings={"predicted_n": 5}),
            delta(content="e"),
            delta("stop"),
        ).result(9.0)
        assert [event.tokens for event in result.events] == [None, 1, 4, None, None]

    def test_reasoning_and_answer_in_one_chunk_share_its_tokens(self) -> None:
        result = build(delta(reasoning_content="so", content="yes", timings={"predicted_n": 3})).result(9.0)
        assert (result.reasoning, result.text) == ("so", "yes")
        assert [(event.kind, event.tokens) for event in result.events] == [("reasoning", 0), ("text", 3)]

    def test_reasoning_under_its_other_name(self) -> None:
        assert build(delta(reasoning="hm")).result(9.0).reasoning == "hm"

    def test_tool_calls_come_in_pieces(self) -> None:
        pieces = [
            {"index": 0, "id": "call-1", "function": {"name": "read", "arguments": ""}},
            {"index": 0, "function": {"arguments": '{"path"'}},
            {"index": 1, "id": "call-2", "function": {"name": "list", "arguments": "{}"}},
            {"index": 0, "function": {"arguments": ': "x"}'}},
        ]
        result = build(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls")).result(9.0)
        assert [(call.id, call.name, call.arguments) for call in result.tool_calls] == [
            ("call-1", "read", '{"path": "x"}'),
            ("call-2", "list", "{}"),
        ]
        assert [event.kind for event in result.events] == ["tool", "tool", "tool", "tool", "finish"]
        assert result.finish_reason == "tool_calls"

    def test_lines_that_are_no_chunks_are_noted_and_left(self) -> None:
        result = build(b"data: not JSON", b"data: [1, 2]", b"data: " + b"[" * 100_000, *WHOLE).result(9.0)
        assert result.text == "hello"
        assert len(result.warnings) == 3
        assert "not JSON" in result.warnings[0]

    def test_unicode_is_counted_in_bytes(self) -> None:
        result = build(delta(content="\u00e9\U0001f600"), delta(content="\ud83d")).result(9.0)
        assert [event.size_bytes for event in result.events] == [6, 1]

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "choices",
                            "delta",
                            "content",
                            "role",
                            "usage",
                            "timings",
                            "predicted_n",
                            "tool_calls",
                            "function",
                            "arguments",
                            "finish_reason",
                            "index",
                            "error",
                            "reasoning_content",
                            "prompt_tokens_details",
                            "cached_tokens",
                            "model",
                            "id",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=15,
        )
    )
    @settings(deadline=None)
    def test_whatever_json_comes(self, value: Any) -> None:
        builder = ReplyBuilder(started_s=0.0)
        with suppress(ServerSaidError):
            builder.take(json.dumps(value).encode(), 1.0)
        result = builder.result(2.0)
        assert isinstance(result.text, str)

    @given(st.binary(max_size=100))
    @settings(deadline=None)
    def test_whatever_bytes_come(self, payload: bytes) -> None:
        builder = ReplyBuilder(started_s=0.0)
        with suppress(ServerSaidError):
            builder.take(payload, 1.0)
        assert builder.result(2.0).text == ""


class TestRequests:
    def test_only_what_was_chosen_is_sent(self) -> None:
        request = ChatRequest(
            messages=(Message(role="system", content="be brief"), Message(role="user", content="hi")),
            sampling=Sampling(temperature=0.0, max_tokens=10),
            seed=42,
        )
        assert request_body(request, model="m") == {
            "model": "m",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "seed": 42,
            "temperature": 0.0,
            "max_tokens": 10,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
            "cache_prompt": False,
            "return_progress": True,
        }

    def test_tools(self) -> None:
        request = ChatRequest(messages=(), sampling=Sampling(), seed=0, tools=({"type": "function"},))
        assert request_body(request, model="m")["tools"] == [{"type": "function"}]


def test_get_json(server: Server) -> None:
    assert get_json(server(answers("200 OK", b'{"status": "ok"}')), "/health") == (200, {"status": "ok"})
    assert get_json(server(answers("503 Service Unavailable", b"no JSON")), "/health") == (503, None)
    with pytest.raises(OSError, match=r"BadStatusLine|RemoteDisconnected|reset|closed"):
        get_json(server(lambda connection: connection.sendall(b"garbage\r\n\r\n")), "/health")


def test_errors_cross_process_borders() -> None:
    error = ServerCrashError("it died", hint="see the log", log_tail="last words")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.log_tail) == (ServerCrashError, str(error), "last words")
