"""A server of somebody else's for tests: it plays what a provider documents, and misbehaves on demand.

It writes bytes as they are, so that a test says how they are cut: a byte at a time, all at once, in the middle of a
character. What it was sent is kept, headers included.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

KEY = "sk-the-key-that-nobody-may-see-0123456789"


@dataclass(slots=True)
class Played:
    """One answer. `pieces` are written one after the other; a number among them is a pause in seconds."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes | float] = ()
    cut: bool = False
    """End the connection as if the machine had died: the body is not complete."""


@dataclass(slots=True)
class Asked:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def sse(*events: object, done: bool = True) -> bytes:
    """Events as OpenAI and others write them."""
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return "".join([*lines, *(["data: [DONE]\n\n"] if done else [])]).encode()


def named_sse(*events: dict[str, Any]) -> bytes:
    """Events as Anthropic writes them: under the name of their type."""
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events).encode()


def bytewise(content: bytes) -> list[bytes]:
    return [content[place : place + 1] for place in range(len(content))]


class EndpointServer:
    """Answers by `routes`; other GETs with an empty list of models, and POSTs with what is in line: the last stays."""

    def __init__(self, *answers: Played, models: Played | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.models = models or json_answer({"object": "list", "data": []})
        self.routes: dict[str, Played | Callable[[Asked], Played]] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1beta/openai"

    @property
    def posts(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "POST"]

    def _next(self, asked: Asked) -> Played:
        with self._lock:
            self.asked.append(asked)
            if (route := self.routes.get(asked.path)) is not None:
                return route if isinstance(route, Played) else route(asked)
            if asked.method == "GET":
                return self.models
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_DELETE(self) -> None:
                self._answer()

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, json.loads(content) if content else None)
                played = server._next(asked)
                self.close_connection = True
                try:
                    self.send_response(played.status)
                    known = {"Content-Type": "text/event-stream", "Connection": "close"} | played.headers
                    if played.cut:
                        known["Content-Length"] = "1000000"
                    for name, value in known.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for piece in played.pieces:
                        if isinstance(piece, float):
                            if server.closing.wait(piece):
                                return
                        else:
                            self.wfile.write(piece)
                            self.wfile.flush()
                except OSError:
                    pass  # whoever asked has hung up

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def json_answer(content: object, status: int = 200, **headers: str) -> Played:
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Played(status, sent, [json.dumps(content).encode()])


def endless(piece: bytes, pause_s: float = 0.0) -> Iterator[bytes | float]:
    while True:
        yield piece
        if pause_s:
            yield pause_s


def wait_until(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
