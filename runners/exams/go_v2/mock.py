"""The inverter and the sink that a program talks to, outside its sandbox; the sink can be taken away and given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .readings import MOST_READINGS, Readings
from .requests import HEAD_BYTES, BadRequestError, Request, read_request

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

SOURCE, SINK = "/measurements.xml", "/write"
MOST_REQUESTS = 2 * MOST_READINGS
_CONNECTIONS = 256
_LOOK_S = 0.25

Sink = Literal["online", "refusing", "dropping"]
"""It takes readings; answers 503 to everything; or ends connections without an answer."""
_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Arrival:
    """A reading that the sink took: its number, and when (`time.monotonic`)."""

    number: int
    at: float


class Mock:
    """One inverter and one sink, for one run of one program; all of it in the thread of its event loop.

    Attributes:
        arrivals: What the sink took, in order.
        sink: How the sink is now.
        source: Whether the inverter answers.
        tried: The numbers of the readings that came while the sink was away.
        turned_away: How often one did.
        malformed: Bodies that were no reading of this inverter, in the form that is asked for.
        flooded: Whether more requests came than any sound program sends; nothing is answered from then on.
    """

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.sink: Sink = "online"
        self.source = True
        self.tried: set[int] = set()
        self.turned_away = 0
        self.malformed = 0
        self.requests = 0
        self._readings = Readings()
        self._pulse = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def scrapes(self) -> int:
        """The number of the last reading that was given out."""
        return self._readings.count

    @property
    def flooded(self) -> bool:
        """See above."""
        return self.requests > MOST_REQUESTS or self.scrapes > MOST_READINGS

    async def open(self, listener: socket.socket) -> None:
        """Serves what connects to a listening socket, which is the mock's from now on."""
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=HEAD_BYTES)

    async def close(self) -> None:
        """Ends every connection."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self.notify()
        await asyncio.sleep(0)

    def notify(self) -> None:
        """Wakes `until`: something has changed."""
        self._pulse.set()

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until `holds()`, looked at after each request; False if it does not within `timeout_s`.

        Time in which this thread itself got no turn (a stopped or crowded machine) is nobody's, and does not count.
        """
        waited, looked = 0.0, time.monotonic()
        while not holds():
            if waited >= timeout_s:
                return False
            self._pulse.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._pulse.wait(), min(_LOOK_S, timeout_s - waited))
            now = time.monotonic()
            waited += min(now - looked, 2 * _LOOK_S)
            looked = now
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while len(self._writers) <= _CONNECTIONS and not self.flooded:
                request = await read_request(reader, writer)
                if request is None:
                    break
                self.requests += 1
                answer = self._answer(request)
                self.notify()
                if answer is None:
                    break
                writer.write(_encoded(*answer, request))
                await writer.drain()
                if not request.keeps:
                    break
        except BadRequestError:
            self.malformed += 1
        except (OSError, asyncio.CancelledError):
            pass  # the connection broke, or the run is over
        finally:
            self._writers.discard(writer)
            writer.transport.abort() if self.sink == "dropping" else writer.close()

    def _answer(self, request: Request) -> tuple[int, bytes] | None:
        """Status and body; None to end the connection instead."""
        if request.path == SOURCE:
            return (200, self._readings.take()) if self.source else (503, b"")
        if self.sink != "online":
            if request.method == "POST":
                self.turned_away += 1
                self.tried.add(self._readings.number_of(request.body) or 0)
            return (503, b"") if self.sink == "refusing" else None
        if request.method != "POST":
            return 200, b""  # somebody asks whether the sink is there
        if request.path != SINK:
            return 404, b""
        number = self._readings.number_of(request.body)
        if number is None:
            self.malformed += 1
            return 400, b""
        self.arrivals.append(Arrival(number, time.monotonic()))
        return 204, b""


def _encoded(status: int, body: bytes, request: Request) -> bytes:
    head = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    if status != 204:  # No Content has no length either
        head += [f"Content-Length: {len(body)}", "Content-Type: text/xml"]
    if not request.keeps:
        head.append("Connection: close")
    return "\r\n".join([*head, "", ""]).encode() + (b"" if request.method == "HEAD" else body)
