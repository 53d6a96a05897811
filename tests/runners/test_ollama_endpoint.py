"""Ollama's own API: identity by digests, a load apart from answers, and lines that mean what they mean elsewhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quants.models import EndpointModel
from runners.chat import ChatError, ChatRequest, ChatResult, Message, RefusedError, Sampling, ToolCall, ToolFormatError
from runners.engines import get_endpoint_engine
from runners.engines.base import LoadError
from runners.engines.endpoint_settings import OllamaSettings
from runners.engines.ollama import OllamaEngine
from runners.stream import LineParser, StreamError
from runners.timing import measure
from tests.runners.endpoint_servers import Asked, EndpointServer, Played, bytewise, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runners.engines.base import Served

BLOB, MANIFEST = "ab" * 32, "cd" * 32
MODEL = "qwen3:0.6b"
ASK = ChatRequest(
    messages=(Message(role="user", content="count"),),
    sampling=Sampling(temperature=0.5, top_k=3, max_tokens=50),
    seed=2**32 - 5,
    timeout_s=20.0,
)


def lines(*said: dict[str, Any]) -> bytes:
    return "".join(json.dumps({"model": MODEL, **each}, ensure_ascii=False) + "\n" for each in said).encode()


def message(**parts: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": "", **parts}, "done": False}


def done(reason: str = "stop", **more: Any) -> dict[str, Any]:
    counts = {
        "total_duration": 5_000_000_000,
        "load_duration": 60_000_000,
        "prompt_eval_count": 30,
        "prompt_eval_duration": 300_000_000,
        "eval_count": 11,
        "eval_duration": 200_000_000,
    }
    return {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason, **counts, **more}


WHOLE = lines(message(thinking="hm "), message(content="eins, zwéi"), message(content=" 三"), done())


class Ollama(EndpointServer):
    """One that has a model, and loads it when it is asked to."""

    def __init__(self, *answers: Played) -> None:
        super().__init__(*answers)
        self.loaded = False
        shown = {
            "modelfile": f"# x\nFROM /home/me/.ollama/models/blobs/sha256-{BLOB}\nTEMPLATE hi",
            "template": "{{ .Prompt }}",
            "capabilities": ["completion", "tools"],
        }
        self.routes |= {
            "/api/version": json_answer({"version": "0.20.1"}),
            "/api/tags": json_answer({"models": [{"name": MODEL, "digest": MANIFEST, "size": 5}]}),
            "/api/show": json_answer(shown),
            "/api/ps": self._ps,
            "/api/generate": self._generate,
        }

    def _ps(self, _: Asked) -> Played:
        resident = {"name": MODEL, "model": MODEL, "size": 900, "size_vram": 700, "context_length": 4096}
        return json_answer({"models": [resident] if self.loaded else []})

    def _generate(self, asked: Asked) -> Played:
        self.loaded = asked.body["keep_alive"] != 0
        answer = json_answer({"model": MODEL, "done": True, "done_reason": "load", "load_duration": 10})
        return dataclasses.replace(answer, pieces=[0.3, *answer.pieces])


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    with Ollama(Played(pieces=[WHOLE])) as server:
        yield server


def settings_for(server: EndpointServer, **more: Any) -> OllamaSettings:
    return OllamaSettings(**{"base_url": server.origin, "context": 4096, "load_timeout_s": 10.0, **more})


def connect(server: EndpointServer, **more: Any) -> Served:
    model = EndpointModel("m", server.origin, MODEL, BLOB, MANIFEST)
    return get_endpoint_engine("ollama").connect(model, settings_for(server, **more), log_path=Path("unused"))


def ask(ollama: Ollama, *pieces: bytes) -> ChatResult:
    ollama.answers = [Played(pieces=pieces)]
    return connect(ollama).chat(ASK)


def test_the_load_is_apart_and_what_is_sent_is_all_said(ollama: Ollama) -> None:
    served = connect(ollama, reasoning="on")
    assert served.load_s > 0.25
    assert (served.engine_build, served.context, served.supports_tools) == ("0.20.1", 4096, True)
    assert served.chat_template == "{{ .Prompt }}"
    assert getattr(served, "reported_vram_bytes", None) == 700
    result = served.chat(ASK)
    body = ollama.posts[-1].body
    assert ollama.posts[-1].path == "/api/chat"
    assert body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "count"}],
        "stream": True,
        "keep_alive": "10m",
        "options": {"num_ctx": 4096, "temperature": 0.5, "top_k": 3, "seed": 2**31 - 5, "num_predict": 50},
        "think": True,
    }
    assert (result.text, result.reasoning, result.finish_reason) == ("eins, zwéi 三", "hm ", "stop")
    served.stop()
    assert (ollama.posts[-1].path, ollama.posts[-1].body["keep_alive"]) == ("/api/generate", 0)
    assert not ollama.loaded


def test_only_the_first_answer_after_a_load_has_a_prefill_rate(ollama: Ollama) -> None:
    served = connect(ollama)
    first, second = measure(served.chat(ASK)), measure(served.chat(ASK))
    assert (first.prompt_tokens, first.cached_tokens) == (30, 0)
    assert first.prefill_tps == pytest.approx(100.0)
    assert (second.prompt_tokens, second.cached_tokens, second.prefill_tps) == (30, None, None)
    assert second.reasons["prefill_tps"] == "Ollama counts tokens of its cache among the prompt's, and no time for them"
    assert first.decode_tps == second.decode_tps == pytest.approx(10 / 0.2)


def test_what_was_loaded_before_is_no_load_of_ours(ollama: Ollama) -> None:
    ollama.loaded = True
    served = connect(ollama)
    assert served.load_s == 0.0
    assert measure(served.chat(ASK)).prefill_tps is None
    served.stop()
    assert ollama.loaded, "it stays for whoever had it loaded"


def test_identity_is_the_digests(ollama: Ollama) -> None:
    assert OllamaEngine().identify(MODEL, settings_for(ollama)) == (BLOB, MANIFEST)
    here, there = (EndpointModel("m", url, MODEL, BLOB, MANIFEST) for url in ("http://a", "http://b"))
    assert here.identity() == there.identity()
    with pytest.raises(LoadError, match="has no model 'other'") as caught:
        OllamaEngine().identify("other", settings_for(ollama))
    assert f"it has: {MODEL}" in caught.value.message


def test_other_blobs_under_the_name_are_refused(ollama: Ollama) -> None:
    ollama.routes["/api/tags"] = json_answer({"models": [{"name": MODEL, "digest": "ef" * 32}]})
    with pytest.raises(LoadError, match="has other files under the name") as caught:
        connect(ollama)
    assert caught.value.reason == "no_file"


def test_a_byte_at_a_time_and_with_cr(ollama: Ollama) -> None:
    assert ask(ollama, *bytewise(WHOLE)).text == "eins, zwéi 三"
    assert ask(ollama, WHOLE.replace(b"\n", b"\r\n")).text == "eins, zwéi 三"


def test_calls_come_whole_and_their_results_go_back_by_name(ollama: Ollama) -> None:
    call = {"function": {"name": "look", "arguments": {"a": 1}}}
    result = ask(ollama, lines(message(tool_calls=[call]), message(tool_calls=[call]), done()))
    assert result.finish_reason == "tool_calls"
    assert result.tool_calls == tuple(ToolCall(id=f"call-{n}", name="look", arguments='{"a": 1}') for n in (1, 2))
    ollama.answers = [Played(pieces=[WHOLE])]
    history = (
        *ASK.messages,
        Message(role="assistant", content="", tool_calls=result.tool_calls),
        Message(role="tool", content="seen", tool_call_id="call-1"),
    )
    connect(ollama).chat(dataclasses.replace(ASK, messages=history))
    sent = ollama.posts[-1].body["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"a": 1}}
    assert sent[2]["tool_name"] == "look"


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([lines(message(content="a"))], "transport"),
        ([b"<html>\n"], "garbled"),
        ([lines({"error": "llama runner process has terminated"})], "transport"),
        ([lines({"error": "error parsing tool call: raw='{'"})], "tool_format"),
    ],
)
def test_streams_that_go_wrong(ollama: Ollama, pieces: list[bytes], outcome: str) -> None:
    with pytest.raises(ChatError) as caught:
        ask(ollama, *pieces)
    assert getattr(caught.value, "outcome", None) == outcome


def test_errors_with_a_status(ollama: Ollama) -> None:
    ollama.answers = [json_answer({"error": f"{MODEL} does not support tools"}, 400)]
    with pytest.raises((RefusedError, ToolFormatError), match="does not support tools"):
        connect(ollama).chat(ASK)


def test_lines_are_bounded() -> None:
    parser = LineParser(limit_bytes=10)
    assert parser.feed(b"a\nb") == [b"a"]
    assert parser.feed(b"c\n\n") == [b"bc", b""]
    with pytest.raises(StreamError):
        parser.feed(b"x" * 11)
