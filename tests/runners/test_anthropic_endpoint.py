"""An endpoint of the Messages API: what is sent, and what is made of its events."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quants.models import EndpointModel
from runners.chat import (
    AskedToWaitError,
    ChatError,
    ChatRequest,
    ChatResult,
    ContextOverflowError,
    DeclinedError,
    Message,
    Sampling,
    ToolCall,
    TransportError,
)
from runners.engines import get_endpoint_engine
from runners.engines.endpoint_settings import AnthropicSettings
from runners.timing import measure
from tests.runners.endpoint_servers import KEY, EndpointServer, Played, bytewise, named_sse

if TYPE_CHECKING:
    from runners.engines.base import Served

VARIABLE = "QS_TEST_PROVIDER_KEY"
ASK = ChatRequest(
    messages=(Message(role="system", content="be brief"), Message(role="user", content="count")),
    sampling=Sampling(temperature=0.5, max_tokens=500),
    seed=7,
    timeout_s=20.0,
)
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "looks", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def connect(server: EndpointServer, **more: Any) -> Served:
    own = AnthropicSettings(**{"base_url": server.url, "key_env": VARIABLE, "load_timeout_s": 5.0, **more})
    model = EndpointModel("m", server.url, "claude-x")
    return get_endpoint_engine("anthropic").connect(model, own, log_path=Path("unused"))


def ask(*pieces: bytes | float, **played: Any) -> ChatResult:
    with EndpointServer(Played(pieces=pieces, **played)) as server:
        return connect(server).chat(ASK)


def failing(*pieces: bytes | float, **played: Any) -> ChatError:
    with pytest.raises(ChatError) as caught:
        ask(*pieces, **played)
    return caught.value


def start(**usage: Any) -> dict[str, Any]:
    message = {"id": "m1", "role": "assistant", "model": "claude-x-20260101", "content": [], "usage": usage}
    return {"type": "message_start", "message": message}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def text(*pieces: str, index: int = 0) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": each} for each in pieces))


PING = {"type": "ping"}
START = start(input_tokens=20, cache_read_input_tokens=5, cache_creation_input_tokens=0, output_tokens=1)
WHOLE = [START, PING, *text("eins, zwéi", " 三"), PING, *end(output_tokens=9)]


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "a byte at a time"])
def test_what_is_sent_and_what_is_made_of_it(cut: bool) -> None:
    content = named_sse(*WHOLE)
    with EndpointServer(Played(pieces=bytewise(content) if cut else [content])) as server:
        result = connect(server).chat(ASK)
        listed, asked = server.asked
    assert (listed.path, asked.path) == ("/v1beta/openai/models", "/v1beta/openai/messages")
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in asked.headers
    assert asked.body == {
        "model": "claude-x",
        "max_tokens": 500,
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "count"}]}],
        "stream": True,
        "temperature": 0.5,
    }
    assert (result.text, result.finish_reason, result.model) == ("eins, zwéi 三", "stop", "claude-x-20260101")
    timing = measure(result)
    assert (timing.prompt_tokens, timing.cached_tokens, timing.completion_tokens) == (25, 5, 9)
    assert (timing.reasoning_tokens, timing.answer_tokens) == (0, 9)


def test_usage_counts_up_and_the_last_stands() -> None:
    first, last = end(output_tokens=30), end(output_tokens=70, input_tokens=21)
    result = ask(named_sse(START, *text("a"), first[0], *last))
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (26, 70)


THOUGHT = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "I "},
    {"type": "thinking_delta", "thinking": "wonder"},
    {"type": "signature_delta", "signature": "EqQB"},
)
CALL = block(
    1,
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
    {"type": "input_json_delta", "partial_json": ""},
    {"type": "input_json_delta", "partial_json": '{"a":'},
    {"type": "input_json_delta", "partial_json": " 1}"},
)


def test_thinking_is_reasoning_whose_tokens_are_counted_with_the_rest() -> None:
    result = ask(named_sse(START, *THOUGHT, *text("two", index=1), *end(output_tokens=400)))
    assert (result.reasoning, result.text, result.hidden_reasoning) == ("I wonder", "two", True)
    timing = measure(result)
    assert timing.ttft_any_s is not None
    assert timing.ttft_answer_s is not None
    assert (timing.answer_tokens, timing.decode_tps_client) == (None, None)
    assert timing.reasons["answer_tokens"] == "the server counts reasoning and answer together"
    assert timing.reasons["decode_tps_client"] == "the server counts reasoning that it did not send, or not as it is"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "signature_delta", "signature": "x"}],
        [{"type": "redacted_thinking", "data": "EmwKAhgB"}],
    ],
)
def test_thinking_that_is_not_shown_is_hidden(content: list[dict[str, Any]]) -> None:
    result = ask(named_sse(START, *block(0, content[0], *content[1:]), *text("two", index=1), *end(output_tokens=400)))
    assert (result.reasoning, result.hidden_reasoning) == ("", True)
    assert measure(result).ttft_any_s is None


def test_thinking_goes_back_beside_the_calls_that_it_led_to() -> None:
    calling = named_sse(START, *THOUGHT, *CALL, *end("tool_use", output_tokens=40))
    with EndpointServer(Played(pieces=[calling]), Played(pieces=[named_sse(*WHOLE)])) as server:
        served = connect(server, reasoning_budget=2000)
        first = served.chat(dataclasses.replace(ASK, tools=(TOOL,), must_call=True))
        assert first.tool_calls == (ToolCall(id="toolu_1", name="look", arguments='{"a": 1}'),)
        assert first.finish_reason == "tool_calls"
        history = (
            *ASK.messages,
            Message(role="assistant", content=first.text, tool_calls=first.tool_calls),
            Message(role="tool", content="seen", tool_call_id="toolu_1"),
            Message(role="user", content="go on"),
        )
        served.chat(dataclasses.replace(ASK, messages=history, tools=(TOOL,)))
        one, two = server.posts
    assert one.body["thinking"] == {"type": "enabled", "budget_tokens": 1024}, "the least that the API takes"
    assert one.body["tools"] == [
        {"name": "look", "description": "looks", "input_schema": {"type": "object", "properties": {}}}
    ]
    assert "tool_choice" not in one.body, "the API refuses it beside thinking"
    assert two.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I wonder", "signature": "EqQB"},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"},
                {"type": "text", "text": "go on"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"reasoning": "on"}, {"thinking": {"type": "adaptive"}}),
        ({"reasoning": "off"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
        ({}, {"tool_choice": {"type": "any"}}),
    ],
)
def test_settings_change_what_is_sent(options: dict[str, Any], sent: dict[str, Any]) -> None:
    with EndpointServer(Played(pieces=[named_sse(*WHOLE)])) as server:
        connect(server, **options).chat(dataclasses.replace(ASK, tools=(TOOL,), must_call=True))
        assert sent.items() <= server.posts[0].body.items()


@pytest.mark.parametrize(
    ("reason", "finish", "full"),
    [
        ("stop_sequence", "stop", False),
        ("max_tokens", "length", False),
        ("model_context_window_exceeded", "length", True),
        ("something_new", "something_new", False),
    ],
)
def test_reasons_mean_what_they_mean_elsewhere(reason: str, finish: str, full: bool) -> None:
    result = ask(named_sse(START, *text("a"), *end(reason, output_tokens=3)))
    assert (result.finish_reason, result.context_full) == (finish, full)


def test_a_refusal_is_the_models() -> None:
    error = failing(named_sse(START, *text("I can"), *end("refusal", output_tokens=3)))
    assert isinstance(error, DeclinedError)
    assert error.outcome == "refusal"


def test_errors_inside_a_stream_and_before_it() -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    inside = failing(named_sse(START, *text("a")[:2], overloaded))
    assert isinstance(inside, AskedToWaitError)
    assert inside.partial is not None
    assert inside.partial.text == "a"
    before = failing(json.dumps(overloaded).encode(), status=529, headers={"Retry-After": "3"})
    assert isinstance(before, AskedToWaitError)
    assert before.wait_s == 3.0
    said = {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}
    assert isinstance(failing(json.dumps({"type": "error", "error": said}).encode(), status=400), ContextOverflowError)
    unknown = {"type": "invalid_request_error", "message": "top_k: Extra inputs are not permitted"}
    refused = failing(json.dumps({"type": "error", "error": unknown}).encode(), status=400)
    assert getattr(refused, "ends", "") == "cell"
    assert 'omit = ["top_k"]' in refused.hint


def test_a_stream_that_is_cut_or_garbage() -> None:
    assert type(failing(named_sse(START, *text("a")))) is TransportError
    assert failing(b"data: nonsense\n\n" + named_sse(START)).outcome == "garbled"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 10**40, "delta": {"type": "text_delta", "text": 5}},
        {"type": "content_block_start", "index": -1, "content_block": None},
        {"type": "content_block_delta", "index": 0, "delta": []},
        {"type": "message_delta", "delta": None, "usage": 7},
        {"type": ["x"]},
        {"type": "message_start", "message": {"usage": {"input_tokens": "many", "cache_read_input_tokens": -4}}},
    ],
)
def test_events_that_are_not_what_they_should_be_break_nothing(event: dict[str, Any]) -> None:
    content = named_sse(START, *text("fine")) + f"data: {json.dumps(event)}\n\n".encode() + named_sse(*end())
    result = ask(content)
    assert result.text == "fine"
    assert measure(result).e2e_s is not None
