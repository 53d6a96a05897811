"""An OpenAI-compatible endpoint: what is sent, what is made of what comes, and how each way of going wrong ends."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quants.models import EndpointModel
from runners.chat import (
    AskedToWaitError,
    CancelledError,
    ChatError,
    ChatRequest,
    ChatResult,
    ContextOverflowError,
    DeclinedError,
    GarbledError,
    GenerationTimeoutError,
    Message,
    RefusedError,
    Sampling,
    ServerStalledError,
    ToolCall,
    ToolFormatError,
    TransportError,
)
from runners.engines import get_endpoint_engine
from runners.engines.base import EngineUnavailableError, LoadError
from runners.engines.endpoint_settings import OpenAISettings
from runners.timing import measure
from tests.runners.endpoint_servers import KEY, EndpointServer, Played, bytewise, endless, json_answer, sse, wait_until

if TYPE_CHECKING:
    from runners.engines.base import Served

VARIABLE = "QS_TEST_PROVIDER_KEY"
ASK = ChatRequest(
    messages=(Message(role="user", content="count to three"),),
    sampling=Sampling(temperature=0.5, max_tokens=50),
    seed=7,
    timeout_s=20.0,
)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def connect(server: EndpointServer, **more: Any) -> Served:
    own = OpenAISettings(**{"base_url": server.url, "key_env": VARIABLE, "load_timeout_s": 5.0, **more})
    return get_endpoint_engine("openai").connect(EndpointModel("m", server.url, "gpt-x"), own, log_path=Path("unused"))


def ask(*pieces: bytes | float, request: ChatRequest = ASK, **played: Any) -> ChatResult:
    with EndpointServer(Played(pieces=pieces, **played)) as server:
        return connect(server).chat(request)


def failing(*pieces: bytes | float, request: ChatRequest = ASK, **played: Any) -> ChatError:
    with pytest.raises(ChatError) as caught:
        ask(*pieces, request=request, **played)
    assert caught.value.__context__ is None or KEY not in repr(vars(caught.value.__context__))
    assert KEY not in str(caught.value)
    return caught.value


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"model": "gpt-x-2026-01-01", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
WHOLE = sse(
    chunk(role="assistant", content=""), chunk(content="eins, zwéi"), chunk(content=" 三"), chunk("stop"), USAGE
)


def test_what_is_sent_and_what_is_made_of_it() -> None:
    with EndpointServer(Played(pieces=[WHOLE])) as server:
        served = connect(server)
        result = served.chat(ASK)
        (listed,) = [each for each in server.asked if each.method == "GET"]
        (asked,) = server.posts
    assert listed.path == "/v1beta/openai/models"
    assert asked.path == "/v1beta/openai/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.body == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "count to three"}],
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 50,
    }
    assert (result.text, result.finish_reason, result.model) == ("eins, zwéi 三", "stop", "gpt-x-2026-01-01")
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.cached_tokens, result.usage.completion_tokens) == (20, 16, 9)
    timing = measure(result)
    assert (timing.reasoning_tokens, timing.answer_tokens, timing.cached_tokens) == (0, 9, 16)
    assert timing.reasons["prefill_tps"] == "the server gave no prompt timings"
    assert timing.reasons["itl_p50_s"] == "the server does not say how many tokens came with each chunk"
    assert timing.itl_p50_s is None
    assert served.is_alive()


@given(cuts=st.lists(st.integers(1, len(WHOLE) - 1), max_size=12, unique=True))
@settings(max_examples=15, deadline=None)
def test_however_the_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[begin:end] for begin, end in itertools.pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, KEY)
        assert ask(*pieces).text == "eins, zwéi 三"


@pytest.mark.parametrize(
    "pieces",
    [
        bytewise(WHOLE),
        [WHOLE.replace(b"\n", b"\r\n")],
        [b": comment\n\n" + WHOLE.replace(b"data: ", b": ping\ndata:")],
        [WHOLE.replace(b"data: [DONE]\n\n", b"")],
        [b"\xef\xbb\xbf", WHOLE],
    ],
    ids=["a byte at a time", "CRLF", "comments", "no [DONE]", "a byte order mark"],
)
def test_forms_of_a_stream_that_are_right(pieces: list[bytes]) -> None:
    assert ask(*pieces).text == "eins, zwéi 三"


@pytest.mark.parametrize(
    ("options", "sent", "absent"),
    [
        ({"max_tokens_key": "max_completion_tokens"}, {"max_completion_tokens": 50}, {"max_tokens"}),
        ({"omit": ("seed", "stream_options")}, {"max_tokens": 50}, {"seed", "stream_options"}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}, {"max_completion_tokens"}),
    ],
)
def test_settings_change_what_is_sent(options: dict[str, Any], sent: dict[str, Any], absent: set[str]) -> None:
    with EndpointServer(Played(pieces=[WHOLE])) as server:
        connect(server, **options).chat(ASK)
        body = server.posts[0].body
    assert sent.items() <= body.items()
    assert not absent & body.keys()


def test_openai_itself_gets_the_newer_name_and_its_usual_key() -> None:
    own = OpenAISettings()
    assert (own.base_url, own.key_env, own.tokens_key) == (
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "max_completion_tokens",
    )
    assert OpenAISettings(base_url="http://127.0.0.1:1234/v1").key_env is None
    assert OpenAISettings(base_url="http://127.0.0.1:1234/v1/").provider == "http://127.0.0.1:1234/v1"


def test_tools_go_out_and_calls_come_back() -> None:
    fragments = [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"a"'}}]
    stream = sse(
        chunk(role="assistant"),
        chunk(tool_calls=fragments),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        chunk("tool_calls"),
        USAGE,
    )
    before = Message(role="assistant", content="", tool_calls=(ToolCall(id="c0", name="look", arguments="no JSON"),))
    messages = (*ASK.messages, before, Message(role="tool", content="seen", tool_call_id="c0"))
    with EndpointServer(Played(pieces=[stream])) as server:
        request = dataclasses.replace(ASK, messages=messages, tools=(TOOL,), must_call=True)
        result = connect(server).chat(request)
        body = server.posts[0].body
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "required")
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert body["messages"][2] == {"role": "tool", "content": "seen", "tool_call_id": "c0"}
    assert result.tool_calls == (ToolCall(id="c1", name="look", arguments='{"a": 1}'),)
    assert result.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_that_is_told_apart(name: str) -> None:
    result = ask(sse(chunk(**{name: "hm"}), chunk(content="two"), chunk("stop"), USAGE))
    assert (result.reasoning, result.text) == ("hm", "two")
    assert [event.kind for event in result.events[:2]] == ["reasoning", "text"]


@pytest.mark.parametrize(
    ("said", "reasoning", "text"),
    [
        (("<thi", "nk>I wonder", "</th", "ink>\n\nforty-two"), "I wonder", "forty-two"),
        (("I wonder", "</think>", "forty-two"), "I wonder", "forty-two"),
        (("<think>I wonder and won",), "I wonder and won", ""),
        (("a < b and <think about it>",), "", "a < b and <think about it>"),
        (("see <think>x</think>",), "see <think>x", ""),
    ],
)
def test_reasoning_that_spilled_into_the_content(said: tuple[str, ...], reasoning: str, text: str) -> None:
    result = ask(sse(*(chunk(content=each) for each in said), chunk("stop"), USAGE))
    assert (result.reasoning, result.text) == (reasoning, text)
    assert bool(reasoning) == any("was told apart" in each for each in result.warnings)
    timing = measure(result)
    if reasoning and text:
        assert timing.ttft_answer_s is not None
        assert timing.reasons["answer_tokens"] == "the server counts reasoning and answer together"


def test_hidden_reasoning_is_in_no_rate() -> None:
    """4096 tokens over the 2.7 s after a reasoning that nobody saw made 1,510 tokens a second of 132."""
    usage = {
        "choices": [],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 4096,
            "completion_tokens_details": {"reasoning_tokens": 4086},
        },
    }
    result = ask(0.2, sse(chunk(content="a"), done=False), 0.2, sse(chunk(content="b"), chunk("stop"), usage))
    timing = measure(result)
    assert (timing.ttft_any_s, timing.reasoning_tokens, timing.answer_tokens) == (None, 4086, 10)
    assert "not sent" in timing.reasons["ttft_any_s"]
    assert timing.ttft_answer_s is not None
    assert timing.ttft_answer_s > 0.15
    assert timing.decode_tps_client is not None
    assert timing.decode_tps_client < 9 / 0.15


def test_counts_that_are_not_sent_are_null_with_a_reason() -> None:
    timing = measure(ask(sse(chunk(content="a"), chunk(content="b"), chunk("stop"))))
    assert (timing.prompt_tokens, timing.answer_tokens, timing.decode_tps_client) == (None, None, None)
    assert timing.reasons["prompt_tokens"] == "the server did not say"


@pytest.mark.parametrize(
    ("finish", "kind", "outcome"),
    [
        ("content_filter", DeclinedError, "refusal"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", ToolFormatError, "tool_format"),
    ],
)
def test_ends_that_are_the_models(finish: str, kind: type[ChatError], outcome: str) -> None:
    error = failing(sse(chunk(content="I"), chunk(finish), USAGE))
    assert type(error) is kind
    assert error.outcome == outcome
    assert error.partial is not None
    assert error.partial.text == "I"


@pytest.mark.parametrize(
    ("pieces", "kind", "outcome", "said"),
    [
        ([sse(chunk(content="a"), done=False)], TransportError, "transport", "without saying how the reply ended"),
        ([b"<html>\n<h1>log in</h1>\n"], GarbledError, "garbled", "was no reply: it begins with '<html>"),
        ([b"data: {not json\n\ndata: {}}\n\n"], GarbledError, "garbled", "was no reply"),
        ([sse({"error": {"message": "it burns", "type": "server_error"}})], RefusedError, "transport", "it burns"),
        (
            [sse(chunk(content="a"), {"error": {"message": "too many", "code": "rate_limit_exceeded"}})],
            AskedToWaitError,
            "transport",
            "too many",
        ),
        (
            [sse({"error": {"message": "Failed to parse tool call arguments", "code": "tool_use_failed"}})],
            ToolFormatError,
            "tool_format",
            "Failed to parse",
        ),
        ([], TransportError, "transport", "without saying"),
    ],
)
def test_streams_that_go_wrong(pieces: list[bytes], kind: type[ChatError], outcome: str, said: str) -> None:
    error = failing(*pieces)
    assert type(error) is kind
    assert error.outcome == outcome
    assert said in error.message


def test_a_stream_that_is_cut() -> None:
    error = failing(sse(chunk(content="half"), done=False), cut=True)
    assert type(error) is TransportError
    assert error.partial is not None
    assert error.partial.text == "half"
    assert "broke" in error.message


def test_a_stream_of_garbage_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.engines.http.STREAM_BYTES", 3 << 20)
    with EndpointServer(Played(pieces=endless(b": " + b"x" * 65536 + b"\n"))) as server, pytest.raises(GarbledError):
        connect(server).chat(ASK)


def test_a_line_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.stream._DEFAULT_LIMIT_BYTES", 1 << 20)
    with EndpointServer(Played(pieces=endless(b"data: x" * 9000))) as server, pytest.raises(GarbledError, match="line"):
        connect(server).chat(ASK)


@pytest.mark.usefixtures("hasty")
def test_a_stream_that_stalls_is_the_machines_and_one_that_goes_on_the_budgets() -> None:
    first = sse(chunk(content="a"), done=False)
    stalled = failing(first, 60.0, request=dataclasses.replace(ASK, timeout_s=120.0))
    assert type(stalled) is ServerStalledError
    assert stalled.outcome == "stalled"
    with EndpointServer(Played(pieces=endless(first, 0.05))) as server, pytest.raises(GenerationTimeoutError) as late:
        connect(server).chat(dataclasses.replace(ASK, timeout_s=1.0))
    assert late.value.partial is not None
    assert late.value.partial.text.startswith("aaa")
    with (
        EndpointServer(Played(pieces=endless(b": ping\n\n", 0.05))) as server,
        pytest.raises(ServerStalledError, match="silent"),
    ):
        connect(server).chat(dataclasses.replace(ASK, timeout_s=1.0))


@pytest.mark.parametrize("before", [[], [sse(chunk(content="a"), done=False)]], ids=["headers", "stream"])
def test_a_request_can_be_cancelled_wherever_it_waits(before: list[bytes]) -> None:
    cancelled = threading.Event()
    ended: list[tuple[float, ChatError]] = []
    with EndpointServer(Played(pieces=[*before, 60.0])) as server:
        served = connect(server)

        def run() -> None:
            with pytest.raises(CancelledError) as caught:
                served.chat(ASK, cancelled=cancelled)
            ended.append((time.monotonic(), caught.value))

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: bool(server.posts))
        time.sleep(0.2)
        began = time.monotonic()
        cancelled.set()
        thread.join(20)
        assert not thread.is_alive()
    assert ended[0][0] - began < 5.0, "fractions of a second, on a machine that does nothing else"


REFUSALS = [
    (400, {"message": "Unsupported parameter: 'max_tokens' is not supported with this model.", "param": "max_tokens"}),
    (400, {"message": "Unsupported value: 'temperature' does not support 0.5.", "param": "temperature"}),
    (400, {"message": "Unrecognized request argument supplied: seed"}),
    (400, {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}),
    (401, {"message": f"Incorrect API key provided: {KEY}."}),
    (404, {"message": "The model `gpt-x` does not exist", "code": "model_not_found"}),
    (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    (500, {"message": "oops"}),
    (400, {"message": "bad day"}),
]
MEANT: list[tuple[type[ChatError], str, str]] = [
    (RefusedError, "cell", 'max_tokens_key = "max_completion_tokens"'),
    (RefusedError, "cell", 'omit = ["temperature"]'),
    (RefusedError, "cell", 'omit = ["seed"]'),
    (ContextOverflowError, "", "larger context"),
    (RefusedError, "node", f"see that {VARIABLE} holds a valid key"),
    (RefusedError, "cell", "source is what the provider calls the model"),
    (RefusedError, "node", "balance"),
    (RefusedError, "", ""),
    (RefusedError, "", ""),
]


@pytest.mark.parametrize(("given", "meant"), list(zip(REFUSALS, MEANT, strict=True)))
def test_refusals_say_what_to_change(
    given: tuple[int, dict[str, Any]], meant: tuple[type[ChatError], str, str]
) -> None:
    status, error = given
    failure = failing(json.dumps({"error": error}).encode(), status=status)
    kind, ends, hint = meant
    assert type(failure) is kind
    assert getattr(failure, "ends", "") == ends
    assert hint in failure.hint


def test_who_is_asked_to_wait_knows_how_long() -> None:
    error = failing(b"{}", status=429, headers={"Retry-After": "12"})
    assert isinstance(error, AskedToWaitError)
    assert error.wait_s == 12.0


def test_a_redirect_to_another_host_gets_neither_key_nor_prompt() -> None:
    with EndpointServer(Played(pieces=[WHOLE])) as other:
        error = failing(status=307, headers={"Location": f"{other.url}/chat/completions"})
        assert isinstance(error, TransportError)
        assert "another server: neither key nor prompt is sent there" in error.message
        assert other.asked == []


def test_a_redirect_of_the_same_host_is_followed() -> None:
    with EndpointServer(Played(307, {"Location": "/elsewhere"}), Played(pieces=[WHOLE])) as server:
        assert connect(server).chat(ASK).text == "eins, zwéi 三"
        assert [each.path for each in server.posts] == ["/v1beta/openai/chat/completions", "/elsewhere"]
        assert {each.headers["authorization"] for each in server.posts} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (302, "/elsewhere", "only be repeated without its content"),
        (308, "/v1beta/openai/chat/completions", "on and on"),
        (307, "http://[::1", "no address"),
        (307, "https://127.0.0.1/x", "another server"),
        (307, "//evil.example/x", "another server"),
    ],
)
def test_redirects_that_are_not_followed(status: int, location: str, said: str) -> None:
    assert said in failing(status=status, headers={"Location": location}).message


def test_headers_without_end_and_compressed_replies_are_refused() -> None:
    big = {f"X-{number}": "x" * 1000 for number in range(200)}
    assert isinstance(failing(headers=big), TransportError)
    assert "compressed" in failing(WHOLE, headers={"Content-Encoding": "gzip"}).message


def test_a_server_that_sends_the_key_back_gets_it_into_nothing() -> None:
    call = [{"index": 0, "id": KEY, "function": {"name": KEY, "arguments": KEY}}]
    stream = sse(
        {**chunk(content=KEY[:9]), "model": KEY}, chunk(content=KEY[9:], reasoning_content=KEY), chunk(tool_calls=call)
    )
    stream = stream.replace(b"data: [DONE]\n\n", b"") + b"data: " + KEY.encode() + b"\n\n" + sse(chunk(KEY))
    assert KEY not in repr(ask(stream))
    assert KEY not in repr(vars(failing(KEY.encode() * 3)))


@pytest.mark.parametrize(
    ("prepared", "said"),
    [({"key_env": "QS_NOT_SET_ANYWHERE"}, "QS_NOT_SET_ANYWHERE, which should hold the key, is not set")],
)
def test_without_a_key_nothing_is_asked(prepared: dict[str, Any], said: str) -> None:
    with EndpointServer(Played()) as server:
        with pytest.raises(EngineUnavailableError, match=said):
            connect(server, **prepared)
        assert server.asked == []


def test_a_key_that_is_not_taken_is_said_before_anything_is_generated() -> None:
    with EndpointServer(Played(), models=json_answer({"error": {"message": f"no: {KEY}"}}, 401)) as server:
        with pytest.raises(EngineUnavailableError, match="does not let us in") as caught:
            connect(server)
        assert KEY not in str(caught.value)
        assert server.posts == []


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoadError, match="broke") as caught:
        get_endpoint_engine("openai").connect(
            EndpointModel("m", "x", "y"),
            OpenAISettings(base_url="http://127.0.0.1:9/v1", key_env=VARIABLE),
            log_path=Path("unused"),
        )
    assert KEY not in str(caught.value)


def test_a_key_with_a_line_break_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sk-first\r\nX-Evil: second")
    with EndpointServer(Played()) as server, pytest.raises(EngineUnavailableError) as caught:
        connect(server)
    assert "sk-first" not in str(caught.value)


def test_the_context_is_what_the_list_of_models_says() -> None:
    listed = json_answer({"data": [{"id": "other", "max_model_len": 1}, {"id": "gpt-x", "max_model_len": 32768}]})
    with EndpointServer(Played(), models=listed) as server:
        assert connect(server).context == 32768
