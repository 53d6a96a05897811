"""Whatever a server says where a number should be: the figure is null with its reason, and nothing else is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.chat import ChatResult, Event
from runners.engines import llama_load
from runners.engines.figures import MOST_TOKENS, count, milliseconds, shown
from runners.engines.llama_cpp import _cut, _steps
from runners.engines.reply import ReplyBuilder
from runners.engines.wire import stream_chat
from runners.process import ServerProcess
from runners.row import timing_columns
from runners.timing import measure
from tests.runners.test_chat_wire import Server, build, delta, sends, server

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["server"]  # a fixture

NO_NUMBERS = ["Infinity", "-Infinity", "NaN", "1e999", "-1", "true", '"7"', "1" + "0" * 40, "1" + "0" * 400, "[]", "{}"]
NO_COUNTS = [*NO_NUMBERS, "1.5"]


def chunk_of(**objects: str) -> bytes:
    """One chunk with objects that are written as they stand, since they are no JSON of ours."""
    more = "".join(f', "{name}": {text}' for name, text in objects.items())
    return f'data: {{"choices": [{{"delta": {{"content": "x"}}, "finish_reason": "stop"}}]{more}}}'.encode()


@pytest.mark.parametrize("said", NO_COUNTS)
@pytest.mark.parametrize(
    ("column", "objects"),
    [
        ("prompt_tokens", {"usage": '{"prompt_tokens": %s, "completion_tokens": 3}'}),
        ("completion_tokens", {"usage": '{"prompt_tokens": 3, "completion_tokens": %s}'}),
        ("cached_tokens", {"usage": '{"prompt_tokens_details": {"cached_tokens": %s}}'}),
        ("completion_tokens", {"timings": '{"predicted_n": %s, "predicted_ms": 3.0}'}),
        ("decode_tps", {"timings": '{"predicted_n": %s, "predicted_ms": 3.0}'}),
        ("prefill_tps", {"timings": '{"prompt_n": %s, "prompt_ms": 3.0}'}),
        ("cached_tokens", {"timings": '{"cache_n": %s}'}),
        ("draft_accept_rate", {"timings": '{"draft_n": 5, "draft_n_accepted": %s}'}),
    ],
)
def test_a_count_that_is_none_is_null_with_its_reason(said: str, column: str, objects: dict[str, str]) -> None:
    filled = {name: text % said for name, text in objects.items()}
    result = build(chunk_of(**filled)).result(9.0)
    assert result.text == "x"
    timing = measure(result)
    assert getattr(timing, column) is None
    assert timing.reasons[column].startswith("the server said ")
    assert timing.reasons[column].endswith("which is no count of tokens")
    assert any("the server said" in warning for warning in result.warnings)
    reasons: dict[str, str] = {}
    timing_columns(timing, reasons)
    assert column == "completion_tokens" or reasons[column] == timing.reasons[column]


@pytest.mark.parametrize("said", NO_NUMBERS)
@pytest.mark.parametrize(("column", "name"), [("prefill_tps", "prompt"), ("decode_tps", "predicted")])
def test_a_time_that_is_none(said: str, column: str, name: str) -> None:
    timings = f'{{"{name}_n": 5, "{name}_ms": {said}}}'
    timing = measure(build(chunk_of(timings=timings)).result(9.0))
    assert getattr(timing, column) is None
    assert "which is no time" in timing.reasons[column]


@pytest.mark.parametrize("said", ["Infinity", "1e999"])
def test_over_a_socket_the_reply_stands(server: Server, said: str) -> None:
    """A figure gone wild ended the lease with a Python exception."""
    wild = (
        f'data: {{"choices": [], "usage": {{"prompt_tokens": {said}, "completion_tokens": 2}},'
        f' "timings": {{"predicted_n": {said}}}}}\n\n'
    )
    parts = (delta(content="hello", timings={"predicted_n": 1}), delta("stop"), wild.encode(), b"data: [DONE]\n\n")
    result = stream_chat(server(sends(*parts)), {}, timeout_s=30.0)
    assert (result.text, result.finish_reason) == ("hello", "stop")
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (None, 2)
    assert result.unsound["prompt_tokens"] == "the server said Infinity, which is no count of tokens"


def test_a_sound_count_that_comes_later_counts() -> None:
    wild, sound = ('{"predicted_n": Infinity}', '{"predicted_n": 4, "predicted_ms": 3.0}')
    result = build(chunk_of(timings=wild), chunk_of(timings=sound)).result(9.0)
    assert not result.unsound
    assert [event.tokens for event in result.events if event.kind == "text"] == [None, 4]


def test_counts_that_go_up_and_down_do_not_add_up() -> None:
    said = [10, 0, 10, 3, 12]
    result = build(*(delta(content="x", timings={"predicted_n": total}) for total in said)).result(9.0)
    assert [event.tokens for event in result.events] == [10, 0, 0, 0, 2]


def test_an_event_of_a_billion_tokens_takes_no_memory() -> None:
    """Gaps were listed token by token: one number of the server's was gigabytes of ours."""
    events = (Event(1.0, "text", 1, 1), Event(2.0, "text", 1, MOST_TOKENS), Event(5.0, "text", 1, 1))
    reply = ChatResult(text="xxx", reasoning="", finish_reason="stop", events=events, started_s=0.0, ended_s=5.0)
    timing = measure(reply)
    assert timing.itl_p50_s == pytest.approx(1.0 / MOST_TOKENS)


NUMBERS: st.SearchStrategy[Any] = st.sampled_from(
    [
        float("inf"),
        float("-inf"),
        float("nan"),
        -1,
        True,
        "5",
        10**40,
        10**400,
        1e300,
        1.5,
        0,
        5,
        2**30,
        2**31,
        None,
        [],
    ]
)
FIELDS = ["prompt_tokens", "completion_tokens", "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "cache_n"]
SAID = st.dictionaries(st.sampled_from([*FIELDS, "draft_n", "draft_n_accepted", "processed"]), NUMBERS)


@given(st.lists(st.tuples(SAID, SAID, SAID), min_size=1, max_size=4))
@settings(deadline=None)
def test_any_numbers_make_a_timing(chunks: list[tuple[dict[str, Any], ...]]) -> None:
    builder = ReplyBuilder(started_s=0.0)
    for at, (usage, timings, progress) in enumerate(chunks):
        said = {"usage": usage, "timings": timings, "prompt_progress": progress}
        builder.take(json.dumps({"choices": [{"delta": {"content": "x"}}], **said}).encode(), float(at))
        builder.take(
            json.dumps({"choices": [{"delta": {"tool_calls": [usage | {"index": 1e999}]}}]}).encode(), at + 0.5
        )
    timing = measure(builder.result(9.0))
    assert timing.e2e_s == 9.0


@given(NUMBERS | st.floats() | st.integers())
@settings(deadline=None)
def test_what_is_taken_for_a_number_is_one(value: object) -> None:
    number, time_ms = count(value), milliseconds(value)
    assert number is None or (type(number) is int and 0 <= number <= MOST_TOKENS)
    assert time_ms is None or 0.0 <= time_ms < 1e13
    assert len(shown(value)) <= 40


@given(st.recursive(NUMBERS | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)))
@settings(deadline=None)
def test_any_list_of_slots(said: Any) -> None:
    for slots in (said, [{"n_prompt_tokens_processed": said, "next_token": [{"n_decoded": said}]}]):
        assert _steps(slots) is None or isinstance(_steps(slots), int)


def test_slots_are_counted() -> None:
    slot = {"n_prompt_tokens_processed": 40, "next_token": [{"n_decoded": 2}]}
    assert _steps([slot, slot]) == 84
    assert _steps([slot, {**slot, "n_prompt_tokens_processed": float("inf")}]) is None


@pytest.mark.parametrize("said", [float("inf"), float("nan"), -5, True, "2048", 10**40, None])
def test_a_context_that_is_no_number_is_the_one_that_was_asked_for(said: object) -> None:
    assert llama_load._context({"default_generation_settings": {"n_ctx": said}}) is None


@pytest.mark.parametrize("said", [None, [], "x", {}, {"chat_template": 3}, {"chat_template": ""}])
def test_properties_that_are_none_name_no_context_and_no_template(said: object) -> None:
    assert llama_load._context(said) is None
    assert llama_load._chat_template(said) is None


# --- how a reply ended ----------------------------------------------------------------------------------------------


def cut(prompt: int | None, generated: int | None, *, finish: str = "length", cap: int | None = None) -> Any:
    usage = {"prompt_tokens": prompt, "completion_tokens": generated}
    builder = build(delta(content="x"), delta(finish))
    builder.take(json.dumps({"choices": [], "usage": usage}).encode(), 3.0)
    return _cut(builder.result(9.0), cap, 2048)


@pytest.mark.parametrize(("prompt", "generated", "cap"), [(1000, 1048, None), (2000, 40, 900), (1, 2047, None)])
def test_a_reply_that_filled_the_context(prompt: int, generated: int, cap: int | None) -> None:
    assert cut(prompt, generated, cap=cap) == (True, "")


@pytest.mark.parametrize("cap", [None, 900])
@pytest.mark.parametrize("prompt", [None, 40, 1900])
def test_a_server_that_claims_a_length_which_was_not_reached(prompt: int | None, cap: int | None) -> None:
    full, sentence = cut(prompt, 3, cap=cap)
    assert not full
    assert "the server claimed" in sentence
    assert "after 3 tokens" in sentence
    assert "2048 tokens of context" in sentence
    assert (cap is None) == ("max_tokens" not in sentence)


@pytest.mark.parametrize(("generated", "finish"), [(900, "length"), (3, "stop"), (None, "length")])
def test_a_reply_that_ended_at_its_cap_or_by_itself(generated: int | None, finish: str) -> None:
    assert cut(40, generated, finish=finish, cap=900) == (False, "")


# --- how an engine ended --------------------------------------------------------------------------------------------


def test_the_exit_code_is_waited_for(tmp_path: Path) -> None:
    """The kernel shows a death before the supervisor has told of it: "it ended with exit code None"."""
    process = ServerProcess.start(["sh", "-c", "exit 7"], log_path=tmp_path / "log")
    try:
        assert "exit code 7" in llama_load.load_error(process, "llama-server").message
    finally:
        process.stop()


def test_an_end_that_nobody_saw_is_said_to_be_one(tmp_path: Path) -> None:
    import psutil

    process = ServerProcess.start(["sleep", "60"], log_path=tmp_path / "log")
    psutil.Process(psutil.Process(process.pid).ppid()).kill()
    try:
        message = llama_load.load_error(process, "llama-server").message
    finally:
        process.stop()
    assert "None" not in message
    assert "what watched over it was not there to say how" in message


@pytest.mark.parametrize("said", ["Infinity", '"7"', "true", "1e999", "[]"])
def test_an_exit_code_that_is_none(tmp_path: Path, said: str) -> None:
    """An engine may write to the descriptor that its supervisor writes to."""
    tell = f"echo '{{\"exit\": {said}}}' >&$QUANTSWEEP_STATUS_FD; sleep 60"
    process = ServerProcess.start(["bash", "-c", tell], log_path=tmp_path / "log", grace_s=0.1)
    try:
        assert process.told("exit", timeout_s=30.0) is not None
        assert process.exit_code is None
    finally:
        process.stop()
