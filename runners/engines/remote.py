"""What all engines share that ask a server which is not ours: one request, streamed, watched and understood.

An engine says what it sends, how it reads what comes, and what a refusal means; the rest is here.
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from runners.chat import (
    ChatError,
    ChatResult,
    DeclinedError,
    GarbledError,
    ServerStalledError,
    ToolFormatError,
    TransportError,
)
from runners.engines import http
from runners.engines.base import EngineInfo, EngineUnavailable, EngineUnavailableError, LoadError
from runners.engines.keys import KeyMissingError, read_key, why_no_key, without_key
from runners.engines.refusals import refused
from runners.engines.reply import ServerSaidError
from runners.engines.spill import told_apart
from runners.engines.wire import InterruptedReplyError, interruption, said_in
from runners.lookout import Lookout
from runners.stall import Signs
from runners.stream import SseParser, StreamError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from runners.chat import ChatRequest, OnEvent
    from runners.engines.base import BufferSizes, WarmUp
    from runners.engines.http import Server
    from runners.engines.keys import Key
    from runners.engines.llama_told import ServedSettings

_SHOWN_BYTES = 120
_DECLINED = frozenset({"refusal", "content_filter"})
_MALFORMED_CALL = "malformed_function_call"
_OK = 200
_STALL_HINT = "the provider's status page may say more"


class ReplyReader(Protocol):
    """Puts a reply together from its payloads; `runners.engines.reply.ReplyBuilder` is one."""

    @property
    def finished(self) -> bool:
        """Whether the server said that this is all."""
        ...

    @property
    def generating(self) -> bool:
        """Whether a token has come."""
        ...

    @property
    def signs(self) -> int:
        """How often something came that only an engine that moves on can send."""
        ...

    @property
    def garbled(self) -> int:
        """How many payloads were no JSON object."""
        ...

    def take(self, payload: bytes, at_s: float) -> None:
        """Take one payload. Raises `ServerSaidError` for an error object."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the server said how the reply ended."""
        ...

    def result(self, ended_s: float) -> ChatResult:
        """The reply as far as it has come."""
        ...


class Payloads(Protocol):
    """Splits what arrives into payloads; `runners.stream` has such."""

    def feed(self, received: bytes) -> list[bytes]:
        """Those that are complete by now. Raises `StreamError` beyond its limit."""
        ...


def key_of(name: str | None) -> Key | None:
    """The key in that variable of this node; `EngineUnavailableError` if there is none."""
    try:
        return read_key(name)
    except KeyMissingError as error:
        raise EngineUnavailableError(error.message, error.hint) from None


def available_with_key(kind: str, key_env: str | None) -> EngineInfo | EngineUnavailable:
    """An engine of that kind, if the key that it is to send is on this node."""
    why = why_no_key(key_env)
    return EngineInfo(kind=kind, build="") if why is None else EngineUnavailable(kind=kind, reason=why)


class EndpointServed(ABC):
    """A model that somebody else serves. Follows `runners.engines.base.Served`; an engine's own derives from it."""

    path = "/chat/completions"

    def __init__(self, server: Server, *, model: str, who: str, key_env: str | None) -> None:
        self.base_url: str | None = server.base_url
        self.pid: int | None = None
        self.load_s = 0.0
        self.engine_build = ""
        self.buffers: BufferSizes | None = None
        self.log_path: Path | None = None
        self.context: int | None = None
        self.chat_template: str | None = None
        self.supports_tools: bool | None = None
        self.warm_up: WarmUp | None = None
        self.told: ServedSettings | None = None
        self.device_busy: Callable[[], bool | None] | None = None
        self.server, self.model, self.who, self.key_env = server, model, who, key_env
        self.reported_vram_bytes: int | None = None
        """What the server says that it holds on GPUs for the model."""
        self._stopped = False

    # --- what an engine says ------------------------------------------------------------------------------------

    @abstractmethod
    def body(self, request: ChatRequest) -> dict[str, Any]:
        """What is sent for `request`."""

    @abstractmethod
    def reader(self, started_s: float, on_event: OnEvent | None) -> ReplyReader:
        """What reads the reply."""

    def payloads(self) -> Payloads:
        """What splits the stream."""
        return SseParser()

    def read_to_its_end(self, reader: ReplyReader) -> None:  # noqa: B027 - most engines keep nothing of it
        """Called with the reader of a reply that is complete."""

    # --- one request --------------------------------------------------------------------------------------------

    def chat(
        self, request: ChatRequest, *, cancelled: threading.Event | None = None, on_event: OnEvent | None = None
    ) -> ChatResult:
        """Answer one request. Raises a `ChatError`, with what had arrived, if it does not end as it should."""
        # Nothing can be seen of a machine that is not ours: only how long it has been silent.
        lookout = Lookout(Signs)
        started_s = time.monotonic()
        reader = self.reader(started_s, on_event)
        payloads = self.payloads()
        until_s = lookout.own_time() + request.timeout_s
        begins = bytearray()

        def so_far() -> ChatResult:
            result = dataclasses.replace(reader.result(time.monotonic()), missed_s=lookout.own_time.missed_s)
            return self._without_key(result)

        def look() -> None:
            if self._stopped or (cancelled is not None and cancelled.is_set()):
                raise InterruptedReplyError(cancelled=True)
            if lookout.own_time() >= until_s and lookout.time_is_up():
                raise InterruptedReplyError
            if why := lookout.trouble():
                raise InterruptedReplyError(stalled=why)

        def take(piece: bytes, at_s: float) -> bool:
            if len(begins) < _SHOWN_BYTES:
                begins.extend(piece[: _SHOWN_BYTES - len(begins)])
            signs = reader.signs
            for payload in payloads.feed(piece):
                reader.take(payload, at_s)
            if reader.signs > signs:
                lookout.heard(generating=reader.generating)
                if lookout.spent:
                    raise InterruptedReplyError
            return not reader.finished

        failure: ChatError
        try:
            answer = http.stream(self.server, self.path, self.body(request), look=look, take=take)
            if answer.status == _OK and reader.complete:
                self.read_to_its_end(reader)
                return self._checked(so_far())
            failure = self._incomplete(answer, reader, bytes(begins), so_far())
        except InterruptedReplyError as error:
            failure = interruption(error, request.timeout_s, so_far())
            if isinstance(failure, ServerStalledError):
                failure.message = failure.message.replace("the server", self.who, 1)
                failure.hint = _STALL_HINT
        except ServerSaidError as error:
            failure = self._refused(error, None, {}, so_far())
        except (StreamError, http.TooMuchError) as error:
            failure = GarbledError(f"{self.who}: {error.message}", partial=so_far())
        except http.HttpError as error:
            failure = TransportError(self.shown(error.message), partial=so_far())
        finally:
            lookout.close()
        raise failure

    def _incomplete(self, answer: http.Answer, reader: ReplyReader, begins: bytes, partial: ChatResult) -> ChatError:
        """Why there is no whole reply."""
        if answer.status != _OK:
            said = said_in(answer.body, f"status {answer.status}, without a word")
            return self._refused(said, answer.status, answer.headers, None)
        if begins and (reader.garbled or not partial.events):
            beginning = self.shown(repr(begins.decode(errors="replace")))
            return GarbledError(f"what {self.who} sent was no reply: it begins with {beginning}", partial=partial)
        return TransportError(f"{self.who} ended the stream without saying how the reply ended", partial=partial)

    def _refused(
        self, said: ServerSaidError, status: int | None, headers: Any, partial: ChatResult | None
    ) -> ChatError:
        details = {**said.details, "message": self.shown(said.message)}
        return refused(
            ServerSaidError(details),
            who=self.who,
            model=self.model,
            key_env=self.key_env,
            status=status,
            headers=headers,
            partial=partial,
        )

    def _checked(self, result: ChatResult) -> ChatResult:
        result = told_apart(result)
        usage = result.usage
        if usage is not None and usage.reasoning_tokens and not result.reasoning:
            result = dataclasses.replace(result, hidden_reasoning=True)
        if result.finish_reason in _DECLINED:
            raise DeclinedError(f"{self.who}: the reply was ended with {result.finish_reason!r}", partial=result)
        if _MALFORMED_CALL in (result.finish_reason or "").lower():
            raise ToolFormatError(f"{self.who}: the model's call could not be read", partial=result)
        return result

    def shown(self, text: str) -> str:
        """`text` of others as it may be shown and kept: without the key."""
        return without_key(text, self.server.key)

    def _without_key(self, result: ChatResult) -> ChatResult:
        """The result without the key, which a server may send back in any text of its reply."""
        key = self.server.key
        if key is None:
            return result
        return dataclasses.replace(
            result,
            text=key.left_out(result.text),
            reasoning=key.left_out(result.reasoning),
            model=None if result.model is None else key.left_out(result.model),
            finish_reason=None if result.finish_reason is None else key.left_out(result.finish_reason),
            warnings=tuple(key.left_out(each) for each in result.warnings),
            unsound={name: key.left_out(why) for name, why in result.unsound.items()},
            tool_calls=tuple(
                dataclasses.replace(
                    call,
                    id=key.left_out(call.id),
                    name=key.left_out(call.name),
                    arguments=key.left_out(call.arguments),
                )
                for call in result.tool_calls
            ),
        )

    # --- the rest of `Served` -----------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether it was not stopped."""
        return not self._stopped

    def kill(self) -> None:
        """Nothing more is asked; the server itself is not ours to end."""
        self._stopped = True

    def stop(self) -> None:
        """As `kill`."""
        self._stopped = True


def let_in(served: EndpointServed, path: str, *, timeout_s: float, cancelled: threading.Event | None) -> Any:
    """Asks for `path`, which costs nothing, to see that the server is there and takes the key; its answer as JSON.

    None where the server has no such path, which is no fault.

    Raises:
        EngineUnavailableError: it does not take the key.
        LoadError: nobody answers.
    """

    def look() -> None:
        if cancelled is not None and cancelled.is_set():
            raise LoadError(f"asking {served.who} was cancelled", reason="cancelled")

    try:
        answer = http.ask(served.server, path, look=look, timeout_s=timeout_s)
    except http.HttpError as error:
        hint = "see that base_url is right and that this node reaches it"
        raise LoadError(served.shown(error.message), hint=hint) from None
    if answer.status in {401, 403}:
        said = said_in(answer.body, "without a word")
        failure = served._refused(said, answer.status, answer.headers, None)  # noqa: SLF001 -- of this module
        raise EngineUnavailableError(failure.message, failure.hint)
    return answer.json() if answer.status == _OK else None
