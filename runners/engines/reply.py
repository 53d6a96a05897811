"""A reply put together from the chunks of an OpenAI-style chat stream, as llama.cpp sends them.

One chunk may hold a role only, reasoning, text, parts of tool calls, a finish reason, usage (with no choices), or an
error object. llama.cpp adds `timings`, whose `predicted_n` says how many tokens were generated so far: the difference
from chunk to chunk is the number of tokens an event stands for.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from runners.chat import ChatResult, Event, EventKind, OnEvent, ServerTimings, Usage
from runners.engines.figures import count, milliseconds, shown
from runners.engines.tool_calls import ToolCallBuilder
from runners.errors import RunnersError
from runners.stream import DONE, StreamError
from runners.timing import TOKEN_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# llama.cpp and DeepSeek say reasoning_content, others reasoning.
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_SHOWN_CHARS = 120
REPLY_BYTES = 256 << 20
REPLY_EVENTS = 10_000_000


class ServerSaidError(RunnersError):
    """The server sent an error object; `kind` is its type (exceed_context_size_error ...), `details` all of it."""

    def __init__(self, details: Mapping[str, Any] | str) -> None:
        fields = {"message": details} if isinstance(details, str) else dict(details)
        super().__init__(str(fields.get("message") or "the server reported an error without a message"))
        self.kind = str(fields.get("type") or "")
        self.details = fields


class ReplyTooLargeError(StreamError):
    """A server gone wild: no context holds a reply of this size."""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


class ReplyBuilder:
    """Takes payloads one after another; `result` is what they amount to so far.

    Attributes:
        finished: the server said that this is all.
        generating: a token has come.
        garbled: how many of the payloads were no JSON object.
        signs: how often something came that only an engine that moves on can send: a token, more of the prompt
            processed, a count that grew, the end. Empty chunks, roles and comments are none: a loop that hangs, or the
            threads beside it, may send them for ever.
    """

    def __init__(self, *, started_s: float, on_event: OnEvent | None = None) -> None:
        self.finished = False
        self.generating = False
        self.garbled = 0
        self.signs = 0
        self._started_s = started_s
        self._on_event = on_event
        self._events: list[Event] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tools = ToolCallBuilder()
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._timings: Mapping[str, Any] = {}
        self._highest: dict[str, int] = {}
        self._model: str | None = None
        self._warnings: list[str] = []
        self._bytes = 0

    def take(self, payload: bytes, at_s: float) -> None:
        """Take one payload that arrived at `at_s`. Raises `ServerSaidError` for an error object."""
        if payload == DONE:
            self.finished = True
            self.signs += 1
            return
        try:
            chunk = json.loads(payload)
        except (ValueError, RecursionError):
            self._warn("a line of the stream was not JSON", payload)
            return
        if not isinstance(chunk, dict):
            self._warn("a line of the stream was no JSON object", payload)
            return
        self.take_chunk(chunk, at_s)

    def take_chunk(self, chunk: Mapping[str, Any], at_s: float) -> None:
        """Take a payload that is a JSON object already; raises as `take`."""
        if chunk.get("error") is not None:
            error = chunk["error"]
            raise ServerSaidError(error if isinstance(error, dict) else str(error))
        if self._model is None and isinstance(chunk.get("model"), str):
            self._model = chunk["model"]
        tokens = self._tokens_of(chunk)
        self._grown("processed", _mapping(chunk.get("prompt_progress")).get("processed"))
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            self._take_choice(_mapping(choices[0]), at_s, tokens, is_progress="prompt_progress" in chunk)
        if isinstance(chunk.get("usage"), dict):
            self._take_usage(chunk["usage"], at_s)

    def _tokens_of(self, chunk: Mapping[str, Any]) -> int | None:
        """Tokens generated since the last chunk that said; None if this one does not say."""
        timings = chunk.get("timings")
        if not isinstance(timings, dict):
            return None
        self._timings = timings
        self._grown("prompt_n", timings.get("prompt_n"))
        return self._grown("predicted_n", timings.get("predicted_n"))

    def _grown(self, name: str, value: object) -> int | None:
        """By how much a count of the server's has outgrown all before; None if it said none.

        Against the highest so far: one that goes up and down would add up to more tokens than there are.
        """
        total = count(value)
        if total is None:
            return None
        grown = max(0, total - self._highest.get(name, 0))
        if grown:
            self._highest[name] = total
            self.signs += 1
        return grown

    def _take_choice(
        self, choice: Mapping[str, Any], at_s: float, tokens: int | None, *, is_progress: bool = False
    ) -> None:
        delta = _mapping(choice.get("delta"))
        parts: list[tuple[EventKind, str]] = []
        for name in _REASONING_FIELDS:
            reasoning = delta.get(name)
            if isinstance(reasoning, str) and reasoning:
                self._reasoning.append(reasoning)
                parts.append(("reasoning", reasoning))
                break
        text = delta.get("content")
        if isinstance(text, str) and text:
            self._text.append(text)
            parts.append(("text", text))
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            brought = [self._tools.take(_mapping(call)) for call in calls]
            # An empty piece is no token, unless the server counted one for it.
            parts += [("tool", piece) for piece in brought if piece] or [("tool", "")] * bool(brought and tokens)
        if not parts and delta.get("role") and not is_progress and not self._events:
            parts.append(("role", ""))
        for number, (kind, content) in enumerate(parts, start=1):
            # The count belongs to all parts together; the last one carries it, as the chunks themselves do.
            counted = None if tokens is None or kind == "role" else tokens if number == len(parts) else 0
            self._emit(Event(at_s, kind, len(content.encode(errors="replace")), counted))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.signs += self._finish_reason is None
            self._finish_reason = reason
            self._emit(Event(at_s, "finish", 0, None))

    def _take_usage(self, usage: Mapping[str, Any], at_s: float) -> None:
        self._usage = usage
        for name in ("prompt_tokens", "completion_tokens"):
            self._grown(name, usage.get(name))
        self._emit(Event(at_s, "usage", 0, None))

    def _emit(self, event: Event) -> None:
        self._bytes += event.size_bytes
        if self._bytes > REPLY_BYTES or len(self._events) >= REPLY_EVENTS:
            raise ReplyTooLargeError(f"the reply outgrew {REPLY_BYTES >> 20} MiB or {REPLY_EVENTS:,} events")
        if event.kind in TOKEN_KINDS:
            self.generating = True
            self.signs += event.size_bytes > 0
        self._events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def _warn(self, what: str, payload: bytes) -> None:
        self.garbled += 1
        if len(self._warnings) < 5:
            self._warnings.append(f"{what}: {payload[:_SHOWN_CHARS].decode(errors='replace')!r}")

    @property
    def complete(self) -> bool:
        """Whether the server said how the reply ended."""
        return self._finish_reason is not None

    def result(self, ended_s: float) -> ChatResult:
        """The reply as far as it has come."""
        unsound: dict[str, str] = {}
        usage, timings = self._usage, self._timings
        counts = partial(_sound, unsound, count, "no count of tokens")
        times = partial(_sound, unsound, milliseconds, "no time")
        return ChatResult(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=self._finish_reason,
            events=tuple(self._events),
            started_s=self._started_s,
            ended_s=ended_s,
            tool_calls=self._tools.calls,
            usage=None
            if usage is None
            else Usage(
                prompt_tokens=counts(usage, "prompt_tokens"),
                completion_tokens=counts(usage, "completion_tokens"),
                cached_tokens=counts(_mapping(usage.get("prompt_tokens_details")), "cached_tokens"),
                reasoning_tokens=counts(_mapping(usage.get("completion_tokens_details")), "reasoning_tokens"),
                cache_written_tokens=counts(usage, "cache_written_tokens"),
            ),
            timings=ServerTimings(
                prompt_n=counts(timings, "prompt_n"),
                prompt_ms=times(timings, "prompt_ms"),
                predicted_n=counts(timings, "predicted_n"),
                predicted_ms=times(timings, "predicted_ms"),
                cache_n=counts(timings, "cache_n"),
                draft_n=counts(timings, "draft_n"),
                draft_n_accepted=counts(timings, "draft_n_accepted"),
            )
            if timings
            else None,
            model=self._model,
            warnings=(*self._warnings, *self._tools.warnings, *(f"{name}: {why}" for name, why in unsound.items())),
            unsound=unsound,
        )


_Number = TypeVar("_Number", int, float)


def _sound(
    unsound: dict[str, str],
    sound: Callable[[object], _Number | None],
    no: str,
    mapping: Mapping[str, Any],
    name: str,
) -> _Number | None:
    """The number under `name`; what it was instead, if it is none, goes into `unsound`."""
    value = mapping.get(name)
    number = sound(value)
    if number is None and value is not None:
        unsound[name] = f"the server said {shown(value)}, which is {no}"
    return number
