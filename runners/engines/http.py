"""HTTP to servers that are not ours: TLS, proxies and redirects by httpx, and every wait of it bounded.

One request has an event loop of its own in the thread that asks, so that it ends within a fraction of a second when
somebody wants it to, wherever it waits: for a name, a connection, a handshake, headers, the next byte. The clock is
read where the bytes come out of the connection. A server of our own is asked by `runners.engines.wire` instead, which
costs less for each chunk (`python -m tests.bench.bench_endpoint_client`).

The key goes to the origin that the spec names and to no other: a redirect is followed there only.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from runners.engines.endpoint_settings import is_loopback
from runners.engines.keys import without_key
from runners.errors import RunnersError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Mapping

    import httpx2

    from runners.engines.keys import Key

LOOK_S: Final = 0.1
"""How often a request is looked at: whether it was cancelled, or its time is up."""
CLOSE_S: Final = 2.0
"""What taking down a connection may take."""
CONNECT_S: Final = 30.0
BODY_BYTES: Final = 4 << 20
"""Of an answer that is read whole."""
ERROR_BYTES: Final = 64 << 10
STREAM_BYTES: Final = 1 << 30
"""Of a streamed answer, comments and empty lines included."""
MOST_REDIRECTS: Final = 3
_SHOWN: Final = 300
OK: Final = 200
"""The one status with which there is an answer."""
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD: Final = frozenset({307, 308})


class HttpError(RunnersError):
    """There was no answer, or none that may be used. Made of our words: it holds no request, and so no key."""


class TooMuchError(HttpError):
    """The answer is larger than any that makes sense."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked, and how it knows us.

    Attributes:
        base_url: without a slash at the end; paths are put behind it.
        key: goes into the header `key_header`, after `Bearer ` if that is `Authorization`.
        headers: further ones, none of them secret.
    """

    base_url: str
    key: Key | None = None
    key_header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """The address of `path`, which begins with a slash."""
        return self.base_url + path

    def sent_headers(self) -> dict[str, str]:
        """All headers, the key included: for whoever sends them, and never to be kept."""
        known = {"Accept-Encoding": "identity", "User-Agent": "quantsweep", **self.headers}
        if self.key is not None:
            bearer = "Bearer " if self.key_header == "Authorization" else ""
            known[self.key_header] = bearer + self.key.reveal()
        return known


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, and its body where that was read whole (of a stream only if it is no 200)."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON, None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def ask(
    server: Server,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    look: Callable[[], None] | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """GET `path`, or POST `body` there; the answer is read whole.

    `look` is called ten times a second, and ends the request by what it raises.

    Raises:
        HttpError: there was no answer within `timeout_s`, or none that may be used.
    """
    until_s = time.monotonic() + timeout_s

    def both() -> None:
        if look is not None:
            look()
        if time.monotonic() > until_s:
            raise HttpError(f"{shown_url(server.base_url)} did not answer within {timeout_s:g} s")

    return _exchange(server, path, body, both, take=None)


def stream(
    server: Server,
    path: str,
    body: Mapping[str, Any],
    *,
    look: Callable[[], None],
    take: Callable[[bytes, float], bool],
) -> Answer:
    """POST `body` and hand over what comes, each piece with the time of its arrival, until `take` returns False.

    `look` is called ten times a second, and ends the request by what it raises; so does `take`. An answer other than
    200 is read whole instead.

    Raises:
        HttpError: as `ask`; the connection broke, or more came than any reply holds.
    """
    return _exchange(server, path, body, look, take=take)


def shown_url(url: str) -> str:
    """An address as it may be shown: without user, password and query, and not endless."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{_port(url)}" if parts.netloc.rpartition("@")[2].rpartition("]")[2].count(":") else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"[:_SHOWN]


@cache
def _trust() -> ssl.SSLContext:
    """Certificates that the system trusts, or those of SSL_CERT_FILE; made once, as it takes tens of milliseconds."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=True)


def _exchange(
    server: Server,
    path: str,
    body: Mapping[str, Any] | None,
    look: Callable[[], None],
    *,
    take: Callable[[bytes, float], bool] | None,
) -> Answer:
    import httpx2

    said = ""
    kind: type[HttpError] = HttpError
    try:
        return _run(_guarded(_converse(server, path, body, take), look))
    except HttpError as error:
        # Its words are ours, and what it came from is not let out along with it.
        said, kind = error.message, type(error)
    except httpx2.LocalProtocolError:  # its text quotes the header that is wrong
        said = f"the request to {shown_url(server.base_url)} could not be sent: a header is not valid"
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        said = f"the connection to {shown_url(server.base_url)} broke: {without_key(text, server.key)[:_SHOWN]}"
    # Outside of `except`: httpx's error holds the request with its headers, and would come along as the context.
    raise kind(said)


def _run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs it in a loop of its own. `asyncio.run` would wait for a resolver that hangs in a thread."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _guarded(work: Coroutine[Any, Any, Answer], look: Callable[[], None]) -> Answer:
    """Does `work` and looks beside it, whatever it waits for."""
    task = asyncio.ensure_future(work)
    while True:
        await asyncio.wait({task}, timeout=LOOK_S)
        if task.done():
            return task.result()
        try:
            look()
        except BaseException:
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_S)
            if task.done() and not task.cancelled():
                task.exception()  # what it says is of no interest any more
            raise


async def _converse(
    server: Server, path: str, body: Mapping[str, Any] | None, take: Callable[[bytes, float], bool] | None
) -> Answer:
    import httpx2

    own = is_loopback(server.base_url)
    url = server.url(path)
    content = None if body is None else json.dumps(body).encode()
    async with httpx2.AsyncClient(
        verify=_trust(),
        trust_env=not own,
        follow_redirects=False,
        timeout=httpx2.Timeout(None, connect=CONNECT_S),
        limits=httpx2.Limits(max_connections=1, max_keepalive_connections=0),
    ) as client:
        for _ in range(MOST_REDIRECTS + 1):
            headers = server.sent_headers() | ({} if content is None else {"Content-Type": "application/json"})
            request = client.build_request("GET" if content is None else "POST", url, content=content, headers=headers)
            response = await client.send(request, stream=True)
            try:
                if response.status_code not in _MOVED:
                    return await _read(server, response, take)
                url = _next_url(server, url, response, post=content is not None)
            finally:
                await response.aclose()
    raise HttpError(f"{shown_url(server.base_url)} redirects on and on")


async def _read(server: Server, response: httpx2.Response, take: Callable[[bytes, float], bool] | None) -> Answer:
    head = Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()})
    if head.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        raise HttpError(f"{shown_url(server.base_url)} answers in a compressed form, which was not asked for")
    streamed = take is not None and response.status_code == OK
    most = STREAM_BYTES if streamed else BODY_BYTES if response.status_code == OK else ERROR_BYTES
    body = bytearray()
    size = 0
    async for piece in response.aiter_raw():
        at_s = time.monotonic()
        size += len(piece)
        if size > most:
            if response.status_code != OK:
                break  # the beginning of an error says what it is
            raise TooMuchError(f"{shown_url(server.base_url)} sent more than {most >> 20} MiB")
        if not streamed:
            body += piece
        elif take is not None and not take(piece, at_s):
            break
    return Answer(head.status, head.headers, bytes(body))


def _next_url(server: Server, url: str, response: httpx2.Response, *, post: bool) -> str:
    """Where a redirect leads, if that is the same origin and the request may be sent there again."""
    try:
        there = urljoin(url, response.headers.get("location", ""))
        _origin(there)
    except ValueError:
        raise HttpError(f"{shown_url(server.base_url)} redirects to what is no address") from None
    who = f"{shown_url(server.base_url)} redirects (status {response.status_code}) to {_origin_shown(there)}"
    if _origin(there) != _origin(server.base_url):
        raise HttpError(f"{who}, another server: neither key nor prompt is sent there; if it is the right one, name it")
    if post and response.status_code not in _SAME_METHOD:
        raise HttpError(f"{who}, where the request could only be repeated without its content; name the right address")
    return there


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    try:
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), _port(url)


def _origin_shown(url: str) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"[:_SHOWN]
