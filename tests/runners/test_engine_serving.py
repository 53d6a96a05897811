"""Both engines, really serving a tiny model: load, chat, measure, fail, stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from runners.chat import (
    CancelledError,
    ChatRequest,
    ContextOverflowError,
    Event,
    GenerationTimeoutError,
    Message,
    RefusedError,
    Sampling,
    ServerCrashError,
)
from runners.engines.base import EngineInfo, LoadError, Served
from runners.engines.llama_cpp import new_key
from runners.engines.wire import get_json
from runners.outcomes import Outcome
from runners.timing import measure
from tests.runners.models import settings_for
from tests.runners.tiny_gguf import CHATML

if TYPE_CHECKING:
    from pathlib import Path

    from runners.engines.base import Engine
    from tests.runners.conftest import Serve


def ask(text: str = "hello there", *, seed: int = 1, timeout_s: float = 60.0, **sampling: Any) -> ChatRequest:
    values = {"temperature": 1.0, "max_tokens": 24, **sampling}
    message = Message(role="user", content=text)
    return ChatRequest(messages=(message,), sampling=Sampling(**values), seed=seed, timeout_s=timeout_s)


def test_is_available_and_says_its_build(engine: Engine) -> None:
    there = engine.available()
    assert isinstance(there, EngineInfo)
    assert there.kind == engine.kind
    assert any(digit.isdigit() for digit in there.build)


def test_a_loaded_model_says_what_it_is(served: Served, engine: Engine) -> None:
    assert served.is_alive()
    assert served.context == 1024
    assert served.chat_template == CHATML
    assert served.load_s > 0
    assert isinstance(there := engine.available(), EngineInfo)
    assert served.engine_build == there.build
    assert served.pid is not None
    assert psutil.pid_exists(served.pid)
    assert served.warm_up is not None
    assert served.warm_up.e2e_s is not None
    assert served.warm_up.e2e_s > 0
    assert served.log_path is not None
    assert "model buffer size" in served.log_path.read_text(encoding="utf-8", errors="replace")


def test_buffers_are_those_the_model_needs(served: Served) -> None:
    assert served.buffers is not None
    assert served.buffers.model_bytes is not None
    # 134,336 parameters of 4 bytes, printed as 0.51 MiB or, without alignment, a little less.
    assert sum(served.buffers.model_bytes.values()) == pytest.approx(134_336 * 4, rel=0.03)
    # 1024 cells x 2 layers x (32 + 32) x 2 bytes.
    assert served.buffers.kv_bytes == {"CPU": 1024 * 2 * 64 * 2}
    assert served.buffers.compute_bytes is not None
    assert served.buffers.recurrent_bytes is None
    assert sum(served.buffers.total_bytes().values()) > 512 * 1024


def test_it_listens_on_loopback_only(served: Served) -> None:
    assert served.pid is not None
    listening = [c for c in psutil.Process(served.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def key_of(served: Served) -> str:
    key = served._key  # type: ignore[attr-defined]  # no part of the protocol: only the server's own client needs it
    assert isinstance(key, str)
    return key


@pytest.mark.parametrize("key", [None, "", "guessed", "guessed-key"])
def test_nobody_without_the_key_is_served(served: Served, key: str | None) -> None:
    """Any user of the machine can connect to a port on loopback."""
    assert served.base_url is not None
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
    paths = ["/v1/chat/completions", "/completion", "/tokenize", "/props", "/slots"]
    for path in paths:
        status, _ = get_json(served.base_url, path, key=key, body=None if path in {"/props", "/slots"} else body)
        assert status == 401, path
    assert get_json(served.base_url, paths[0], key=key_of(served), body=body)[0] == 200


def test_no_list_of_processes_and_no_log_tells_the_key(served: Served) -> None:
    key = key_of(served)
    assert len(key) > 40
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert key not in " ".join(process.cmdline())
    assert served.log_path is not None
    log = served.log_path.read_text(encoding="utf-8", errors="replace")
    assert key not in log
    assert "api_keys: ****-key" in log  # all that llama.cpp ever logs of it
    for part in range(len(key) - 10):
        assert key[part : part + 6] not in log
    assert key not in repr(vars(served)).replace(f"'_key': '{key}'", "")


def test_every_start_has_a_key_of_its_own() -> None:
    assert len({new_key() for _ in range(100)}) == 100


def test_a_reply_is_streamed_and_measured(served: Served) -> None:
    seen: list[Event] = []
    result = served.chat(ask(), on_event=seen.append)
    assert result.finish_reason == "length"
    assert len(result.text) == 24
    assert result.reasoning == ""
    assert tuple(seen) == result.events
    assert result.events[0].kind == "role"
    assert [event.kind for event in result.events][-2:] == ["finish", "usage"]
    assert sum(event.tokens or 0 for event in result.events) == 24
    assert [event.at_s for event in result.events] == sorted(event.at_s for event in result.events)
    assert not result.context_full
    assert not result.warnings
    timing = measure(result)
    assert timing.completion_tokens == timing.answer_tokens == 24
    assert timing.reasoning_tokens == 0
    assert timing.ttft_any_s == timing.ttft_answer_s
    for value in (timing.ttft_any_s, timing.prefill_tps, timing.decode_tps):
        assert value is not None
        assert value > 0
    # On a busy machine the few tokens may reach us in one piece: then the client has no rate of its own.
    assert set(timing.reasons) <= {"draft_accept_rate", "decode_tps_client"}


def test_the_seed_and_nothing_else_decides(served: Served) -> None:
    first, again, other = (served.chat(ask(seed=seed)).text for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_no_seed_profits_from_the_prompt_of_another(served: Served) -> None:
    timings = [measure(served.chat(ask("the same prompt " * 20, seed=seed))) for seed in range(3)]
    assert [timing.cached_tokens for timing in timings] == [0, 0, 0]
    assert len({timing.prompt_tokens for timing in timings}) == 1
    assert all("cached_prompt" not in timing.flags for timing in timings)


def test_sampling_reaches_the_server(served: Served) -> None:
    greedy = {served.chat(ask(seed=seed, temperature=0.0)).text for seed in range(3)}
    assert len(greedy) == 1
    narrow = {served.chat(ask(seed=seed, temperature=5.0, top_k=1)).text for seed in range(3)}
    assert narrow == greedy


def test_a_prompt_that_does_not_fit(served: Served) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        served.chat(ask("x" * 2000))
    assert caught.value.outcome is Outcome.CONTEXT_OVERFLOW
    assert "1024" in caught.value.message
    assert served.chat(ask()).finish_reason == "length"


def test_a_reply_that_fills_the_context(served: Served) -> None:
    result = served.chat(ask("x" * 900, max_tokens=None))
    assert result.finish_reason == "length"
    assert result.context_full
    assert result.usage is not None
    assert result.usage.prompt_tokens is not None
    assert result.usage.completion_tokens is not None
    assert 1000 <= result.usage.prompt_tokens + result.usage.completion_tokens <= 1025


def test_a_request_the_server_refuses(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "supports_tools", None)  # as with a build that does not say
    hi = Message(role="user", content="hi")
    with pytest.raises(RefusedError) as caught:
        served.chat(ChatRequest(messages=(hi,), sampling=Sampling(max_tokens=4), seed=1, tools=({"type": "nonsense"},)))
    assert caught.value.status in {400, 500}
    assert "status" in caught.value.message


def test_cancelling_from_another_thread(served: Served) -> None:
    cancelled = threading.Event()

    def after_some(event: Event) -> None:
        if event.kind == "text":
            cancelled.set()

    with pytest.raises(CancelledError) as caught:
        served.chat(ask(max_tokens=None), cancelled=cancelled, on_event=after_some)
    assert caught.value.partial is not None
    assert caught.value.partial.text
    assert caught.value.partial.finish_reason is None
    assert served.chat(ask()).finish_reason == "length"


def test_out_of_time(served: Served) -> None:
    with pytest.raises(GenerationTimeoutError) as caught:
        # Long enough to be seen: a moment in which our own thread gets no time is nobody's, and not counted.
        served.chat(ask("x" * 400, timeout_s=0.0001, max_tokens=500))
    assert caught.value.outcome is Outcome.GENERATION_TIMEOUT
    assert caught.value.partial is not None
    assert caught.value.partial.ended_s >= caught.value.partial.started_s
    assert served.chat(ask()).finish_reason == "length"


def test_several_requests_at_once(serve: Serve, tiny_model: Path) -> None:
    served = serve(tiny_model, slots=2, context=512)
    assert served.context == 512
    alone = {seed: served.chat(ask(seed=seed)).text for seed in (1, 2)}
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda s=seed: together.update({s: served.chat(ask(seed=s)).text})) for seed in alone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {seed: len(text) for seed, text in together.items()} == {1: 24, 2: 24}


def test_reasoning_is_kept_apart_and_counted(serve: Serve, thinking_model: Path) -> None:
    served = serve(thinking_model, reasoning_budget=30)
    result = served.chat(ask(max_tokens=80))
    timing = measure(result)
    assert result.reasoning
    assert result.text
    assert "think>" not in result.text + result.reasoning
    assert timing.reasoning_tokens is not None
    assert timing.answer_tokens is not None
    assert 25 <= timing.reasoning_tokens <= 32
    assert timing.reasoning_tokens + timing.answer_tokens == 80
    assert timing.ttft_any_s is not None
    assert timing.ttft_answer_s is not None
    assert timing.ttft_any_s <= timing.ttft_answer_s


def test_reasoning_off(serve: Serve, thinking_model: Path) -> None:
    result = serve(thinking_model, reasoning="off").chat(ask())
    assert result.reasoning == ""
    assert len(result.text) == 24


def test_settings_reach_the_engine(serve: Serve, tiny_model: Path) -> None:
    served = serve(tiny_model, cache_type_k="q8_0", cache_type_v="q8_0", flash_attention="on", mmap=False, ubatch=64)
    assert served.buffers is not None
    assert served.buffers.kv_bytes is not None
    # q8_0 holds 32 values in 34 bytes.
    assert served.buffers.kv_bytes["CPU"] == pytest.approx(1024 * 2 * 64 * 34 / 32, rel=0.03)
    assert served.buffers.model_bytes is not None
    assert "CPU_Mapped" not in served.buffers.model_bytes
    assert served.buffers.compute_bytes is not None
    assert served.chat(ask()).finish_reason == "length"


def test_the_cpu_as_a_device(engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(engine, context=256, threads=1)
    served = engine.load(tiny_model, settings, log_path=tmp_path / "log", device="CPU")
    try:
        assert served.chat(ask()).finish_reason == "length"
    finally:
        served.stop()


def test_variables_of_the_user_do_not_change_a_sweep(
    engine: Engine, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "333")
    monkeypatch.setenv("LLAMA_ARG_NO_MMAP", "1")
    monkeypatch.setenv("LLAMA_API_KEY", "secret")
    served = engine.load(tiny_model, settings_for(engine, context=256, threads=1), log_path=tmp_path / "log")
    try:
        assert served.context == 256
        assert served.chat(ask()).finish_reason == "length"
    finally:
        served.stop()


def test_stop_leaves_nothing(serve: Serve, tiny_model: Path) -> None:
    served = serve(tiny_model)
    assert served.pid is not None
    assert served.log_path is not None
    assert list(served.log_path.parent.glob("*.server.json"))
    served.stop()
    served.stop()
    assert not served.is_alive()
    assert not psutil.pid_exists(served.pid)
    assert [path.name for path in served.log_path.parent.iterdir()] == [served.log_path.name]
    with pytest.raises(CancelledError, match="stopped"):
        served.chat(ask())


@pytest.mark.fault
def test_a_server_that_dies_while_it_answers(serve: Serve, tiny_model: Path) -> None:
    served = serve(tiny_model, context=8192)
    assert served.pid is not None

    def kill(event: Event) -> None:
        if event.kind == "text":
            os.kill(served.pid or 0, signal.SIGKILL)

    with pytest.raises(ServerCrashError) as caught:
        served.chat(ask(max_tokens=None), on_event=kill)
    assert caught.value.outcome is Outcome.SERVER_CRASH
    assert "signal 9" in caught.value.message
    assert caught.value.partial is not None
    assert caught.value.partial.text
    assert "slot" in caught.value.log_tail
    assert not served.is_alive()
    with pytest.raises(ServerCrashError):
        served.chat(ask())


class TestModelsThatDoNotLoad:
    def refused(self, engine: Engine, model: Path, tmp_path: Path, **settings: Any) -> LoadError:
        chosen = settings_for(engine, **{"context": 256, "threads": 1, **settings})
        with pytest.raises(LoadError) as caught:
            engine.load(model, chosen, log_path=tmp_path / "server.log")
        assert [path.name for path in tmp_path.glob("server.log*")] == ["server.log"]
        assert caught.value.outcome is not Outcome.SERVER_START  # each failure has a name of its own
        assert caught.value.hint
        return caught.value

    def test_not_there(self, engine: Engine, tmp_path: Path) -> None:
        error = self.refused(engine, tmp_path / "nothing.gguf", tmp_path)
        assert (error.reason, error.outcome, error.refused_by) == ("no_file", Outcome.UNREADABLE_MODEL, "")
        assert "nothing.gguf" in error.message

    def test_not_a_gguf(self, engine: Engine, tmp_path: Path) -> None:
        model = tmp_path / "garbage.gguf"
        model.write_bytes(b"garbage" * 100)
        error = self.refused(engine, model, tmp_path)
        assert error.reason == "bad_file"
        assert "magic" in error.message

    def test_empty(self, engine: Engine, tmp_path: Path) -> None:
        model = tmp_path / "empty.gguf"
        model.touch()
        assert self.refused(engine, model, tmp_path).reason == "bad_file"

    def test_cut_off(self, engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
        model = tmp_path / "cut.gguf"
        model.write_bytes(tiny_model.read_bytes()[:200_000])
        error = self.refused(engine, model, tmp_path)
        assert (error.reason, error.outcome, error.refused_by) == ("bad_file", Outcome.UNREADABLE_MODEL, "program")
        assert "incomplete" in error.message

    def test_an_architecture_it_does_not_know(self, engine: Engine, tmp_path: Path) -> None:
        from tests.runners.tiny_gguf import write_tiny_llama

        model = write_tiny_llama(tmp_path / "llamb.gguf", architecture="llamb")
        error = self.refused(engine, model, tmp_path)
        assert error.reason == "unknown_architecture"
        assert (error.outcome, error.refused_by) == (Outcome.UNSUPPORTED_MODEL, "program")
        assert "llamb" in error.message

    def test_settings_that_contradict_each_other(self, engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
        error = self.refused(engine, tiny_model, tmp_path, cache_type_v="q8_0", flash_attention="off")
        assert (error.reason, error.outcome, error.refused_by) == ("refused_here", Outcome.REFUSED_SETTINGS, "place")
        assert "flash_attn" in error.message

    def test_too_slow(self, engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
        error = self.refused(engine, tiny_model, tmp_path, load_timeout_s=0.0)
        assert (error.reason, error.outcome, error.refused_by) == ("timeout", Outcome.LOAD_TIMEOUT, "")
        assert "load_timeout_s" in error.hint

    def test_cancelled(self, engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
        cancelled = threading.Event()
        cancelled.set()
        settings = settings_for(engine, context=256)
        with pytest.raises(LoadError) as caught:
            engine.load(tiny_model, settings, log_path=tmp_path / "server.log", cancelled=cancelled)
        assert caught.value.reason == "cancelled"
        assert not list(tmp_path.glob("*.server.json"))


def test_the_server_speaks_what_the_reference_says(served: Served) -> None:
    """What our parsing takes for granted, seen on the wire: a first chunk with a role only, counts on each chunk."""
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True, "timings_per_token": True}
    key = {"Authorization": f"Bearer {key_of(served)}"}
    request = urllib.request.Request(f"{served.base_url}/v1/chat/completions", json.dumps(body).encode(), key)
    with urllib.request.urlopen(request) as response:
        lines = [line for line in response.read().split(b"\n") if line]
    assert lines[-1] == b"data: [DONE]"
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    counts = [chunk["timings"]["predicted_n"] for chunk in chunks if "timings" in chunk]
    assert counts[:3] == [1, 2, 3]
