"""Any server of Anthropic's Messages API, streamed: thinking, text, tool use, usage that counts up.

Its events are put into the form of OpenAI's chunks, so that every column means the same whatever the engine. Blocks of
thinking are signed, and have to come back as they were beside the calls of their reply: they are kept until the
conversation goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from runners.engines import http
from runners.engines.endpoint_settings import AnthropicSettings
from runners.engines.figures import count
from runners.engines.messages import whole_text
from runners.engines.remote import EndpointServed, available_with_key, key_of, let_in
from runners.engines.reply import ReplyBuilder, ServerSaidError
from runners.engines.settings import of_kind

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from quants.models import EndpointModel
    from runners.chat import ChatRequest, ChatResult, Message, OnEvent
    from runners.engines.base import EngineInfo, EngineUnavailable
    from runners.engines.remote import ReplyReader
    from runners.engines.settings import EngineSettings

KIND = AnthropicSettings.kind
VERSION: Final = "2023-06-01"
FALLBACK_TOKENS: Final = 8192
"""The API demands a cap; this is sent where the spec names none."""
_MOST_KEPT: Final = 512
_FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
_CONTEXT_FULL: Final = "model_context_window_exceeded"
_OMITTED_THINKING: Final = frozenset({"redacted_thinking"})

Blocks = tuple[dict[str, Any], ...]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class MessageReader:
    """Takes the events of a message; a `ReplyReader`.

    Attributes:
        thought: the blocks of thinking, as they have to be sent back.
        call_ids: of the tools that were called.
    """

    def __init__(self, started_s: float, on_event: OnEvent | None) -> None:
        self._reply = ReplyBuilder(started_s=started_s, on_event=on_event)
        self._usage: dict[str, Any] = {}
        self._said_usage = False
        self._kinds: dict[int, str] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._full = False
        self._hidden = False
        self.call_ids: list[str] = []
        self.finished = False

    @property
    def generating(self) -> bool:
        """Whether a token has come."""
        return self._reply.generating

    @property
    def signs(self) -> int:
        """As `ReplyBuilder.signs`; a ping is none."""
        return self._reply.signs + self.finished

    @property
    def garbled(self) -> int:
        """How many payloads were no JSON object."""
        return self._reply.garbled

    @property
    def complete(self) -> bool:
        """Whether the server said why the message ended."""
        return self._reply.complete

    @property
    def thought(self) -> Blocks:
        """In the order of the message."""
        return tuple(self._blocks[index] for index in sorted(self._blocks))

    def take(self, payload: bytes, at_s: float) -> None:
        """Take one event. Raises `ServerSaidError` for one of an error."""
        try:
            event = json.loads(payload)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self._reply.take(payload, at_s)  # which says what is wrong with it
            return
        match event.get("type"):
            case "message_start":
                message = _mapping(event.get("message"))
                self._count(message.get("usage"))
                self._chunk({"role": "assistant"}, at_s, model=message.get("model"))
            case "content_block_start":
                self._begin(event, at_s)
            case "content_block_delta":
                self._go_on(event, at_s)
            case "message_delta":
                self._count(event.get("usage"))
                self._finish(_mapping(event.get("delta")).get("stop_reason"), at_s)
            case "message_stop":
                self.finished = True
            case "error":
                raise ServerSaidError(_mapping(event.get("error")) or "an error without a word")
            case _:  # a ping, the end of a block, and what later versions of the API add
                if "type" not in event:
                    self._reply.take(payload, at_s)  # another API's error, or garbage

    def result(self, ended_s: float) -> ChatResult:
        """The reply as far as it has come."""
        found = self._reply.result(ended_s)
        hidden = self._hidden or any(block.get("type") in _OMITTED_THINKING for block in self._blocks.values())
        # Newer models send a summary of their thinking, and count the whole of it.
        return dataclasses.replace(found, context_full=self._full, hidden_reasoning=hidden or bool(found.reasoning))

    def _begin(self, event: Mapping[str, Any], at_s: float) -> None:
        index = count(event.get("index")) or 0
        block = _mapping(event.get("content_block"))
        kind = _text(block.get("type"))
        if len(self._kinds) >= _MOST_KEPT:
            return
        self._kinds[index] = kind
        if kind in {"thinking", "redacted_thinking"}:
            self._blocks[index] = dict(block)
            self._hidden = self._hidden or not block.get("thinking")
            self._thinking(_text(block.get("thinking")), at_s)
        elif kind == "tool_use":
            self.call_ids.append(_text(block.get("id")))
            given = block.get("input")
            first = json.dumps(given) if isinstance(given, dict) and given else ""
            self._call(index, at_s, id=block.get("id"), function={"name": _text(block.get("name")), "arguments": first})
        elif kind == "text" and (text := _text(block.get("text"))):
            self._chunk({"content": text}, at_s)

    def _go_on(self, event: Mapping[str, Any], at_s: float) -> None:
        index = count(event.get("index")) or 0
        delta = _mapping(event.get("delta"))
        match delta.get("type"):
            case "text_delta":
                self._chunk({"content": _text(delta.get("text"))}, at_s)
            case "thinking_delta":
                piece = _text(delta.get("thinking"))
                if index in self._blocks:
                    self._blocks[index]["thinking"] = _text(self._blocks[index].get("thinking")) + piece
                self._thinking(piece, at_s)
            case "signature_delta":
                if index in self._blocks:
                    self._blocks[index]["signature"] = _text(delta.get("signature"))
            case "input_json_delta":
                self._call(index, at_s, function={"arguments": _text(delta.get("partial_json"))})

    def _thinking(self, piece: str, at_s: float) -> None:
        if piece:
            self._hidden = False
            self._chunk({"reasoning_content": piece}, at_s)

    def _call(self, index: int, at_s: float, **fragment: Any) -> None:
        self._chunk({"tool_calls": [{"index": index, **fragment}]}, at_s)

    def _chunk(self, delta: Mapping[str, Any], at_s: float, *, model: object = None, finish: str | None = None) -> None:
        choice = {"delta": delta, "finish_reason": finish}
        self._reply.take_chunk({"choices": [choice], **({} if model is None else {"model": model})}, at_s)

    def _count(self, usage: object) -> None:
        """Counts are of all so far, and may be left out later: the last that was said of each stands."""
        self._usage.update({name: value for name, value in _mapping(usage).items() if value is not None})

    def _finish(self, reason: object, at_s: float) -> None:
        if not isinstance(reason, str) or not reason:
            return
        self._full = reason == _CONTEXT_FULL
        self._chunk({}, at_s, finish=_FINISHES.get(reason, reason))
        if self._usage:
            self._reply.take_chunk({"usage": self._in_openais_form()}, at_s)

    def _in_openais_form(self) -> dict[str, Any]:
        """Anthropic counts the tokens that it read from its cache, or wrote to it, apart from the prompt's others."""
        said = self._usage
        read, written = said.get("cache_read_input_tokens"), said.get("cache_creation_input_tokens")
        parts = [count(said.get("input_tokens")), *(count(each or 0) for each in (read, written))]
        prompt: object = None if None in parts else sum(part or 0 for part in parts)
        usage: dict[str, Any] = {
            "prompt_tokens": said.get("input_tokens") if prompt is None else prompt,
            "completion_tokens": said.get("output_tokens"),
            "prompt_tokens_details": {"cached_tokens": read},
            "cache_written_tokens": written,
        }
        return usage


def message_body(
    request: ChatRequest, *, model: str, settings: AnthropicSettings, thought: Mapping[str, Blocks]
) -> dict[str, Any]:
    """The JSON of a streamed message. `thought` has, by the id of a call, the thinking that came before it."""
    sampling = {name: value for name, value in dataclasses.asdict(request.sampling).items() if value is not None}
    most = sampling.pop("max_tokens", None) or FALLBACK_TOKENS
    system = "\n\n".join(whole_text(each.content) for each in request.messages if each.role == "system")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": most,
        "messages": _turns(request.messages, thought),
        "stream": True,
        **sampling,
    }
    if system:
        body["system"] = system
    body |= _thinking_of(settings, most)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        thinks = _mapping(body.get("thinking")).get("type") in {"enabled", "adaptive"}
        if request.must_call and not thinks:  # the API refuses the two together
            body["tool_choice"] = {"type": "any"}
    return {name: value for name, value in body.items() if name not in (settings.omit or ())}


def _thinking_of(settings: AnthropicSettings, most: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if settings.reasoning == "off":
        found["thinking"] = {"type": "disabled"}
    elif settings.reasoning_budget is not None:
        # It has to be below the cap, which a later turn of a solve may have used up but for a little.
        found["thinking"] = {"type": "enabled", "budget_tokens": max(1024, min(settings.reasoning_budget, most - 1))}
    elif settings.reasoning == "on":
        found["thinking"] = {"type": "adaptive"}
    if settings.reasoning_effort is not None:
        found["output_config"] = {"effort": settings.reasoning_effort}
    return found


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in the form of OpenAI's API as Anthropic's has it."""
    function = _mapping(tool.get("function"))
    return {
        "name": function.get("name"),
        "description": function.get("description") or "",
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def _turns(messages: Iterable[Message], thought: Mapping[str, Blocks]) -> list[dict[str, Any]]:
    """The conversation in turns that take each other's place: results of several calls are one turn of the user's."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks_of(message, thought)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks_of(message: Message, thought: Mapping[str, Blocks]) -> list[dict[str, Any]]:
    text = whole_text(message.content)
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": whole_text(message.tool_call_id), "content": text}]
    blocks: list[dict[str, Any]] = []
    if message.tool_calls:
        blocks += next((thought[call.id] for call in message.tool_calls if call.id in thought), ())
    if text.strip():  # the API refuses empty texts
        blocks.append({"type": "text", "text": text})
    blocks += [
        {
            "type": "tool_use",
            "id": whole_text(call.id),
            "name": whole_text(call.name),
            "input": call.parsed() or {},
        }
        for call in message.tool_calls
    ]
    return blocks


class AnthropicServed(EndpointServed):
    """A model behind the Messages API."""

    path = "/messages"

    def __init__(self, server: http.Server, settings: AnthropicSettings, model: str) -> None:
        super().__init__(server, model=model, who=settings.provider, key_env=settings.key_env)
        self._settings = settings
        self._thought: OrderedDict[str, Blocks] = OrderedDict()

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """See `message_body`."""
        return message_body(request, model=self.model, settings=self._settings, thought=self._thought)

    def reader(self, started_s: float, on_event: OnEvent | None) -> MessageReader:
        """Events of the Messages API."""
        return MessageReader(started_s, on_event)

    def read_to_its_end(self, reader: ReplyReader) -> None:
        """Keeps the thinking of a reply that calls tools: the API wants it back in the next turn."""
        if not isinstance(reader, MessageReader) or not reader.thought:
            return
        for identity in reader.call_ids:
            self._thought[identity] = reader.thought
            while len(self._thought) > _MOST_KEPT:
                self._thought.popitem(last=False)


class AnthropicEngine:
    """Follows `runners.engines.base.EndpointEngine`."""

    kind = KIND

    def available(self, settings: EngineSettings) -> EngineInfo | EngineUnavailable:
        """Whether the key is on this node."""
        return available_with_key(KIND, of_kind(settings, AnthropicSettings).key_env)

    def connect(
        self,
        model: EndpointModel,
        settings: EngineSettings,
        *,
        log_path: Path,  # noqa: ARG002 -- nothing is worth reading there
        cancelled: threading.Event | None = None,
    ) -> AnthropicServed:
        """Finds the key, and sees that the server takes it, by asking for its list of models."""
        own = of_kind(settings, AnthropicSettings)
        headers = {"anthropic-version": VERSION}
        server = http.Server(own.base_url, key_of(own.key_env), key_header="x-api-key", headers=headers)
        served = AnthropicServed(server, own, model.model_id)
        let_in(served, "/models", timeout_s=own.load_timeout_s, cancelled=cancelled)
        return served
