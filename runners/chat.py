"""What is asked of a model and what came back: requests, results, and the ways a request can fail.

    RunnersError
    └── ChatError                 one request did not end as it should; `partial` holds what had arrived
        ├── ServerCrashError      the server's process died; `log_tail` has its last lines
        │   └── ServerStalledError  the server hangs: its process lives, and nothing comes of it
        ├── TransportError        the connection broke while the server lives
        │   └── GarbledError      what came over it was no reply
        ├── RefusedError          the server answered with an error (`status`)
        │   └── AskedToWaitError  it has too much to do, or we asked too often: the same may be asked again
        ├── DeclinedError         the model, or who serves it, would not answer
        ├── ToolFormatError       the reply is no text and no call in the format of the model's template
        ├── ContextOverflowError  the prompt does not fit the context the server was started with
        ├── GenerationTimeoutError  the request's time was used up
        └── CancelledError        somebody asked for it to end

`outcome` on each class is the word the results table uses for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

from runners.errors import RunnersError
from runners.outcomes import Outcome

EventKind: TypeAlias = Literal["role", "reasoning", "text", "tool", "usage", "finish"]


class Event(NamedTuple):
    """One thing that arrived, at the moment its bytes left the socket.

    `at_s` is `time.monotonic()`. `size_bytes` is the UTF-8 length of the text it carried (0 for role, usage and
    finish). `tokens` is how many tokens the server says this event stands for, None where it does not say: several
    tokens may share one event (speculative decoding, incomplete UTF-8), so events are never counted as tokens.
    """

    at_s: float
    kind: EventKind
    size_bytes: int
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. None leaves a value to the server's (or the model's) default and is not sent.

    `max_tokens` caps reasoning and answer together; None leaves only the context as a limit.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model wrote; `arguments` is its JSON text as it came, which need not parse.

    `id` tells it from the others of its reply, and is what a message with its result names (`Message.tool_call_id`).
    """

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any] | None:
        """The arguments by name; None where the text is no JSON object that other programs, too, would read so.

        That leaves out what Python's own reader lets through: NaN, numbers that no double holds, half characters.
        """
        try:
            found = json.loads(self.arguments, parse_constant=_refuse, parse_float=_double, parse_int=_whole)
            json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def _refuse(name: str) -> float:
    raise ValueError(name)


def _double(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _whole(text: str) -> int:
    _double(text)
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation; `role` is system, user, assistant or tool.

    `tool_calls` are what an assistant's turn called; `tool_call_id` says which of them a tool's turn is the result of.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """The message as it was, for a file; what it does not have is left out."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            fields["tool_calls"] = [asdict(call) for call in self.tool_calls]
        return fields | ({"tool_call_id": self.tool_call_id} if self.tool_call_id else {})

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """What `to_json` made a text of; `TypeError` if it is damaged."""
        calls = tuple(ToolCall(**call) for call in fields.get("tool_calls", ()))
        return cls(**{**fields, "tool_calls": calls})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One chat completion.

    `timeout_s` covers connecting to the last byte. `seed` is the sampler's, 0 to 2**32 - 2 (llama.cpp reads
    2**32 - 1 as "draw one"). `tools` are what the model may call, in the form of OpenAI's API; `must_call`: the reply
    has to be a call, as far as the engine can hold the model to that.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    timeout_s: float = 600.0
    tools: tuple[dict[str, Any], ...] = ()
    must_call: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of the server's `usage` object; None where it did not say.

    `prompt_tokens` are all of the prompt, those from a cache (`cached_tokens`) and those written to one included.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_written_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTimings:
    """The server's own clock and counts for one request (llama.cpp's `timings`, raw values only).

    `prompt_n` counts uncached prompt tokens, `cache_n` those taken from the cache. The clock starts after HTTP,
    templating, tokenising and queueing, so `prompt_ms` is not a time to first token.
    """

    prompt_n: int | None = None
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None
    cache_n: int | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResult:
    """What one request brought. Times are `time.monotonic()`.

    `finish_reason` is stop, length or tool_calls as the server said, None if the stream ended before it said so
    (only in the `partial` of a `ChatError`). `started_s` is taken before the connection is opened, `ended_s` after
    the last byte. `context_full`: the reply was cut off because the context was full, not by `max_tokens`.
    `cut_short`: the server says it was cut off by its length although neither was reached; a sentence, else empty.
    `unsound`: what the server said where a number should be, as sentences under the names it said them under.
    `hidden_reasoning`: tokens were generated and counted that were not sent, or not as they are.
    `missed_s`: how long this process did not run meanwhile (stopped, asleep), so that its clock readings are worthless.
    """

    text: str
    reasoning: str
    finish_reason: str | None
    events: tuple[Event, ...]
    started_s: float
    ended_s: float
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    timings: ServerTimings | None = None
    model: str | None = None
    context_full: bool = False
    cut_short: str = ""
    hidden_reasoning: bool = False
    missed_s: float = 0.0
    warnings: tuple[str, ...] = ()
    unsound: Mapping[str, str] = field(default_factory=dict)


OnEvent: TypeAlias = Callable[[Event], None]


class ChatError(RunnersError):
    """A request that did not end as it should; `partial` is what had arrived, None if nothing had."""

    outcome: ClassVar[Outcome] = Outcome.TRANSPORT

    def __init__(self, message: str, *, hint: str = "", partial: ChatResult | None = None) -> None:
        super().__init__(message, hint)
        self.partial = partial


class ServerCrashError(ChatError):
    """The server's process is gone. `log_tail` has the last lines it wrote."""

    outcome = Outcome.SERVER_CRASH

    def __init__(self, message: str, *, hint: str = "", partial: ChatResult | None = None, log_tail: str = "") -> None:
        super().__init__(message, hint=hint, partial=partial)
        self.log_tail = log_tail


class ServerStalledError(ServerCrashError):
    """The server lives and hangs: the machine's fault, which no time limit of a reply is there for."""

    outcome = Outcome.STALLED


class TransportError(ChatError):
    """The connection broke while the server still lives."""


class GarbledError(TransportError):
    """What came over the connection was no reply: a page, lines that are no JSON, more than any reply holds."""

    outcome = Outcome.GARBLED


class RefusedError(ChatError):
    """The server answered with an error; `status` is the HTTP status, None if it came inside the stream.

    `ends` says what else would be refused so: every request of this cell, or every one that this node sends there.
    Empty: it is not known that any would.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        partial: ChatResult | None = None,
        status: int | None = None,
        ends: Literal["", "cell", "node"] = "",
    ) -> None:
        super().__init__(message, hint=hint, partial=partial)
        self.status = status
        self.ends: Literal["", "cell", "node"] = ends


class AskedToWaitError(RefusedError):
    """The server has too much to do, or was asked too often. `wait_s` is how long it wants to be left alone.

    None: it does not say. It is nobody's failure: the same request may be sent again.
    """

    def __init__(
        self, message: str, *, partial: ChatResult | None = None, status: int | None = None, wait_s: float | None = None
    ) -> None:
        super().__init__(message, partial=partial, status=status)
        self.wait_s = wait_s


class DeclinedError(ChatError):
    """The model would not answer, or who serves it held the answer back; `partial` is what there is of it."""

    outcome = Outcome.REFUSAL


class ToolFormatError(ChatError):
    """The model's doing: its reply could not be read in the format of its template, or that has no place for tools.

    `partial` is the reply, None where none was asked for.
    """

    outcome = Outcome.TOOL_FORMAT


class ContextOverflowError(ChatError):
    """The prompt does not fit the context; a reply that filled it up is a result with `context_full` instead."""

    outcome = Outcome.CONTEXT_OVERFLOW


class GenerationTimeoutError(ChatError):
    """`ChatRequest.timeout_s` passed; `partial` has what had been generated."""

    outcome = Outcome.GENERATION_TIMEOUT


class CancelledError(ChatError):
    """The caller's `cancelled` event was set."""

    outcome = Outcome.CANCELLED
