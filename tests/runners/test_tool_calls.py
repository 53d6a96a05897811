"""Tool calls from the stream to the row and back into a conversation, whatever a model or a server puts into them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runners.exams
from profiles.programs import NotHereError, find_llama_server
from results.rows import validate_row
from runners.chat import (
    ChatError,
    ChatRequest,
    ChatResult,
    Message,
    RefusedError,
    Sampling,
    ToolCall,
    ToolFormatError,
)
from runners.engines import get_engine
from runners.engines.llama_cpp import request_body
from runners.engines.llama_load import _supports_tools
from runners.engines.reply import ReplyBuilder
from runners.engines.settings import LlamaServerSettings, TextFile
from runners.engines.tool_calls import ARGUMENTS_CHARS, MOST_CALLS, NAME_CHARS, ToolCallBuilder
from runners.engines.wire import stream_chat
from runners.exams.base import Reply, Task, Transcript, Turn
from runners.exams.box import Box
from runners.exams.transcript import transcript_json, transcript_of
from runners.orders import RowReady
from runners.outcomes import Outcome
from runners.regrading import graded_again, is_same_grade, why_not
from runners.row import turn_columns
from runners.sandbox import open_sandbox
from runners.solving import Session, Solved, solve
from runners.stream import SseParser
from tests.runners.exams.errand import TOLD, TOOL, ErrandExam
from tests.runners.test_cell import JOB, Lease, order_for
from tests.runners.test_chat_wire import DONE, Server, answers, delta, event, sends, server
from tests.runners.test_grading import Desk
from tests.runners.test_solving import Model, result

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["server"]

EXAM = ErrandExam()
(TASK,) = EXAM.tasks()
RIGHT = ToolCall(id="c1", name="look_up", arguments='{"word": "pelican"}')


def built(*fragments: dict[str, Any]) -> ToolCallBuilder:
    builder = ToolCallBuilder()
    for fragment in fragments:
        builder.take(fragment)
    return builder


def piece(index: int | None = None, identity: str | None = None, **function: str) -> dict[str, Any]:
    return {"index": index, "id": identity, "function": function}


# --- put together -------------------------------------------------------------------------------------------------


@st.composite
def streamed(draw: st.DrawFn) -> tuple[list[ToolCall], list[bytes]]:
    """Calls, and the bytes of a stream that brings them: in fragments of any size, in turns, in chunks of any size."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    calls = [
        ToolCall(id=f"id {number}", name=draw(texts), arguments=draw(texts))
        for number in range(draw(st.integers(1, 4)))
    ]
    queues = []
    for index, call in enumerate(calls):
        cuts = sorted(draw(st.lists(st.integers(0, len(call.arguments)), max_size=4)))
        parts = [call.arguments[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        queues.append([head, *({"index": index, "function": {"arguments": part}} for part in parts)])
    # A call begins before the next one does.
    events = [delta(role="assistant", content=None), *(delta(tool_calls=[queue.pop(0)]) for queue in queues)]
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        events.append(delta(tool_calls=[queue.pop(0)]))
    stream = b"".join([*events, delta("tool_calls"), DONE])
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return calls, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


@given(streamed())
@settings(deadline=None, max_examples=80)
def test_calls_come_out_whole_however_they_are_cut(drawn: tuple[list[ToolCall], list[bytes]]) -> None:
    calls, chunks = drawn
    parser, reply = SseParser(), ReplyBuilder(started_s=0.0)
    for chunk in chunks:
        for payload in parser.feed(chunk):
            reply.take(payload, 1.0)
    found = reply.result(2.0)
    assert list(found.tool_calls) == calls
    assert (found.finish_reason, found.warnings) == ("tool_calls", ())


def test_servers_that_leave_the_index_out_or_use_it_twice() -> None:
    by_id = built(
        piece(None, "a", name="read", arguments="{"),
        piece(None, None, arguments="}"),
        piece(None, "b", name="list", arguments="["),
        piece(None, "a", arguments="!"),
        piece(None, "b", arguments="]"),
    )
    assert [(call.id, call.name, call.arguments) for call in by_id.calls] == [("a", "read", "{}!"), ("b", "list", "[]")]
    one_index = built(
        piece(0, "a", name="read", arguments="{}"),
        piece(0, "b", name="list", arguments="["),
        piece(0, "b", arguments="]"),
        piece(0, None, arguments=" "),
    )
    assert [(call.id, call.arguments) for call in one_index.calls] == [("a", "{}"), ("b", "[] ")]


def test_every_call_has_an_id_that_no_other_has() -> None:
    builder = built(piece(0, name="a"), piece(1, "call-0", name="b"), piece(2, "call-0", name="c"), piece(3, name="d"))
    ids = [call.id for call in builder.calls]
    assert len(set(ids)) == 4
    assert ids[0] == "call-0"
    assert all(ids)


def test_what_no_reply_holds_is_bounded_and_said() -> None:
    builder = built(*(piece(number, f"id {number}", name="n", arguments="{}") for number in range(5 * MOST_CALLS)))
    for _ in range(1000):  # of one that was left out: of no other
        builder.take(piece(None, None, arguments="x"))
    assert len(builder.calls) == MOST_CALLS
    assert {call.arguments for call in builder.calls} == {"{}"}
    assert builder.warnings == (f"the reply held more than {MOST_CALLS} tool calls: those beyond are left out",)

    long = built(*(piece(0, "i" * 10_000, name="n" * 150, arguments="a" * (ARGUMENTS_CHARS // 2)) for _ in range(5)))
    (call,) = long.calls
    assert (len(call.id), len(call.name), len(call.arguments)) == (NAME_CHARS, NAME_CHARS, ARGUMENTS_CHARS)
    assert "longer name, id or arguments" in long.warnings[0]


def test_empty_fragments_without_end_take_no_memory() -> None:
    reply = ReplyBuilder(started_s=0.0)
    for number in range(20 * MOST_CALLS):
        payload = {"choices": [{"delta": {"tool_calls": [{"index": number, "function": {"arguments": ""}}]}}]}
        reply.take(json.dumps(payload).encode(), 1.0)
    found = reply.result(2.0)
    assert len(found.tool_calls) == MOST_CALLS
    assert found.events == ()


@pytest.mark.parametrize(
    "arguments",
    [
        *("", "{", "[1]", "7", "null", '"text"', "{'a': 1}", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}'),
        *('{"a": ' + "9" * 400 + "}", '{"a": "\\ud83d"}', '{"a": "\n"}', "[" * 100_000, '{"a":' * 50_000),
    ],
)
def test_arguments_that_are_no_object_for_everybody_have_no_values(arguments: str) -> None:
    call = ToolCall(id="a", name="b", arguments=arguments)
    assert call.parsed() is None
    sent = request_body(asked(Message(role="assistant", content="", tool_calls=(call,))), model="m")["messages"][0]
    assert sent["tool_calls"][0]["function"]["arguments"] == "{}"


def asked(*messages: Message, **more: Any) -> ChatRequest:
    return ChatRequest(messages=messages, sampling=Sampling(), seed=0, **more)


def test_a_conversation_with_tools_as_it_is_sent() -> None:
    body = request_body(
        asked(
            Message(role="user", content="go"),
            Message(role="assistant", content="\ud83d", tool_calls=(RIGHT,)),
            Message(role="tool", content="a bird", tool_call_id="c1"),
            tools=(TOOL,),
            must_call=True,
        ),
        model="m",
    )
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "required")
    assert body["messages"] == [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "\ufffd",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "pelican"}'}}
            ],
        },
        {"role": "tool", "content": "a bird", "tool_call_id": "c1"},
    ]
    assert "tool_choice" not in request_body(asked(tools=(TOOL,)), model="m")


# --- whose doing --------------------------------------------------------------------------------------------------

NOT_IN_FORMAT = "The model produced output that does not match the expected peg-native format"


def test_a_reply_that_the_server_cannot_read_is_the_models_doing(server: Server) -> None:
    body = json.dumps({"error": {"code": 500, "message": NOT_IN_FORMAT, "type": "server_error"}}).encode()
    said = [delta(content="half of "), delta(content="a call"), event(error=json.loads(body)["error"]), DONE]
    with pytest.raises(ToolFormatError, match="not in the model's format") as streamed:
        stream_chat(server(sends(*said)), {}, timeout_s=30.0)
    assert streamed.value.partial is not None
    assert streamed.value.partial.text == "half of a call"
    with pytest.raises(ToolFormatError):
        stream_chat(server(answers("500 Internal Server Error", body)), {}, timeout_s=30.0)
    other = body.replace(NOT_IN_FORMAT.encode(), b"Failed to parse tools: no name")
    with pytest.raises(RefusedError):
        stream_chat(server(answers("500 Internal Server Error", other)), {}, timeout_s=30.0)


def calling(*calls: ToolCall, text: str = "") -> ChatResult:
    return replace(result(text), tool_calls=calls, finish_reason="tool_calls" if calls else "stop")


def unreadable(text: str = "<tool_call>{") -> ToolFormatError:
    return ToolFormatError("the reply is not in the model's format", partial=result(text))


def solved(model: Model, exam: ErrandExam = EXAM) -> Solved:
    session = Session(model, sampling=Sampling(max_tokens=100), seed=1, timeout_s=60.0)
    box = Box(open_sandbox())
    try:
        return solve(exam, TASK, session, box)
    finally:
        box.close()


def test_a_tool_is_called_its_result_sent_and_the_transcript_keeps_it_all() -> None:
    bad = ToolCall(id="c2", name="look_up", arguments="{word: pelican}")
    model = Model(calling(RIGHT, bad), result("A bird."))
    found = solved(model)
    assert model.asked[0].tools == (TOOL,)
    assert [(each.role, each.content, each.tool_call_id) for each in model.asked[1].messages[1:]] == [
        ("assistant", "", ""),
        ("tool", "a large water bird", "c1"),
        ("tool", "these are no arguments", "c2"),
    ]
    assert found.transcript is not None
    assert EXAM.grade(TASK, found.transcript, None).scores == {"only": 2.0}  # type: ignore[arg-type]  # it runs nothing
    columns = turn_columns(found, {})
    kept = {**columns, "reply": "A bird.", "reasoning": None, "finish_reason": "stop"}
    assert transcript_of(kept, TASK) == found.transcript
    assert found.transcript.turns[0].reply.tool_calls == (RIGHT, bad)  # raw, as it came


def test_one_turn_that_calls_a_tool_is_kept_as_a_transcript() -> None:
    turn = Turn(TASK.messages, Reply("", None, "tool_calls", (RIGHT,)))
    found = Solved(results=(calling(RIGHT),), turns=(turn,), transcript=None, failure=None, engine_failure=None)
    columns = turn_columns(found, {})
    row = {**columns, "reply": "", "reasoning": None, "finish_reason": "tool_calls"}
    assert transcript_of(row, TASK) == Transcript((turn,))
    with pytest.raises(ValueError, match="transcript was not kept"):
        transcript_of({**row, "transcript": None}, TASK)


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "", "tool_calls": [{"id": "a"}]},
        {"text": "", "tool_calls": 7},
        {"text": "", "tool_calls": [[]]},
        [],
    ],
)
def test_a_transcript_of_somebody_else_with_odd_calls_is_named_unreadable(reply: Any) -> None:
    text = json.dumps({"turns": [{"kept": 0, "asked": [], "reply": reply}]})
    with pytest.raises(ValueError, match="cannot be read"):
        transcript_of({"turns": 2, "transcript": text, "finish_reason": None}, TASK)
    odd = json.dumps({"turns": [{"kept": 0, "asked": [{"role": "user", "content": "", "tool_calls": reply}]}]})
    with pytest.raises(ValueError, match="cannot be read"):
        transcript_of({"turns": 2, "transcript": odd, "finish_reason": None}, TASK)


def test_without_calls_a_transcript_is_as_it_was() -> None:
    turn = Turn((Message(role="user", content="a"),), Reply("b"))
    (said,) = json.loads(transcript_json([turn]))["turns"]
    assert said == {
        "kept": 0,
        "asked": [{"role": "user", "content": "a"}],
        "reply": {"text": "b", "reasoning": None, "finish_reason": None},
    }


def test_an_exam_may_tell_the_model_that_its_call_could_not_be_read() -> None:
    model = Model(unreadable(), calling(RIGHT), result("A bird."))
    found = solved(model, ErrandExam(patient=True))
    assert [each.content for each in model.asked[1].messages[-2:]] == ["<tool_call>{", TOLD]
    assert (found.failure, found.engine_failure) == (None, None)
    assert found.transcript is not None
    assert len(found.transcript.turns) == 3


def test_one_that_does_not_has_a_zero_of_the_models_and_the_engine_is_not_blamed(tmp_path: Path) -> None:
    found = solved(Model(unreadable()))
    assert isinstance(found.failure, ToolFormatError)
    assert (found.transcript, found.engine_failure, len(found.turns)) == (None, None, 1)
    desk = Desk(tmp_path / "spool")
    desk.submit_failure(found.failure)
    desk.grader.drain()
    row = desk.only_row()
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("tool_format", "model", 0.0)
    assert desk.grader.close(10)


def test_a_template_without_tools_is_asked_once_and_never_again() -> None:
    without = ToolFormatError("the chat template of this model has no place for tools")
    model = Model(*[without] * 9)
    found = solved(model, ErrandExam(patient=True))
    assert (len(model.asked), found.failure, len(found.turns)) == (1, without, 0)
    assert without.outcome is Outcome.TOOL_FORMAT


# --- the real thing -----------------------------------------------------------------------------------------------

TEMPLATE = Path(__file__).with_name("tools.jinja")
try:
    ORIGINAL: str | None = str(find_llama_server().path)
except NotHereError:
    ORIGINAL = None


@pytest.mark.parametrize(
    "program",
    [
        "xllamacpp",
        pytest.param("original", marks=pytest.mark.skipif(ORIGINAL is None, reason="there is no llama-server here")),
    ],
)
def test_a_real_server_constrains_a_call_and_takes_the_conversation_back(
    program: str, llama_server: Path, stand_in: Path, tmp_path: Path
) -> None:
    """The template's calls begin as the stand-in's answers do, and from there on llama.cpp's grammar holds it."""
    binary = str(llama_server) if program == "xllamacpp" else ORIGINAL
    template = TextFile("tools.jinja", TEMPLATE.read_text(encoding="utf-8"))
    chosen = LlamaServerSettings(context=2048, threads=1, chat_template=template)
    served = get_engine("llama-server", binary=binary).load(stand_in, chosen, log_path=tmp_path / "log", device="CPU")
    greedy = Sampling(temperature=0.0, max_tokens=500)
    try:
        first = served.chat(ChatRequest(messages=TASK.messages, sampling=greedy, seed=1, tools=(TOOL,), must_call=True))
        assert first.finish_reason in {"tool_calls", "length"}  # it may go on with more of them
        assert (first.text, {call.name for call in first.tool_calls}) == ("", {"look_up"})
        assert (first.tool_calls[0].parsed() or {}).get("word") in {"pelican", "stork"}
        assert {event.kind for event in first.events} >= {"tool", "finish"}
        broken = ToolCall(id="broken", name="look_up", arguments="{word: pelican}")
        reply = Reply(first.text, None, first.finish_reason, (*first.tool_calls, broken))
        results = [Message(role="tool", content="a bird", tool_call_id=each.id) for each in reply.tool_calls]
        history = (*TASK.messages, reply.as_message(), *results)
        second = served.chat(ChatRequest(messages=history, sampling=greedy, seed=1, tools=(TOOL,)))
        assert second.usage is not None
        assert first.usage is not None
        assert (second.usage.prompt_tokens or 0) > (first.usage.prompt_tokens or 0)
    finally:
        served.stop()


def test_a_lease_plays_an_exam_with_a_tool_and_its_row_can_be_graded_again(
    llama_server: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runners.exams._EXAMS, "errand", "tests.runners.exams.errand")
    order = order_for(stand_in, scoring={"errand": "only"})
    template = TextFile("tools.jinja", TEMPLATE.read_text(encoding="utf-8"))
    engine = LlamaServerSettings(context=4096, threads=1, chat_template=template, binary=str(llama_server))
    cell = replace(order.cell, engine=engine, sampling=Sampling(temperature=0.0, max_tokens=2000))
    lease = Lease(replace(order, cell=cell))
    try:
        lease.cell.assign(replace(JOB, exam="errand"))
        lease.cell.close()
        row = {**lease.wait_for(RowReady).row, "final": True}
        lease.finish()
    finally:
        lease.cell.cancel()
    validate_row(row)
    assert (row["outcome_class"], row["error"]) == ("model", None)
    assert row["score"] >= 1.0  # a call that could be read
    said = json.loads(row["transcript"])["turns"]
    assert row["turns"] == len(said) > 1
    call = said[0]["reply"]["tool_calls"][0]
    assert (call["name"], ToolCall(**call).parsed()) in [("look_up", {"word": word}) for word in ("pelican", "stork")]
    answer = next(each for each in said[1]["asked"] if each["role"] == "tool")
    assert answer["tool_call_id"] == call["id"]
    kept = {**row, "regrade_of": None, "reused_from": None}
    assert why_not(kept, EXAM) is None
    assert is_same_grade(graded_again(kept, EXAM, open_sandbox()).row, row)


def test_a_template_that_knows_no_tools_refuses_them_in_a_sentence(serve: Callable[..., Any], stand_in: Path) -> None:
    """llama.cpp would leave them out of the prompt without a word."""
    served = serve(stand_in)
    assert served.supports_tools is False
    with pytest.raises(ToolFormatError, match="has no place for tools") as caught:
        served.chat(ChatRequest(messages=TASK.messages, sampling=Sampling(max_tokens=5), seed=1, tools=(TOOL,)))
    assert caught.value.partial is None
    assert "chat_template" in caught.value.hint
    try:
        without = served.chat(ChatRequest(messages=TASK.messages, sampling=Sampling(max_tokens=5), seed=1))
    except ChatError as error:
        raise AssertionError(str(error)) from None
    assert without.text


@pytest.mark.parametrize(
    "said", [None, [], {}, {"chat_template_caps": []}, {"chat_template_caps": {"supports_tools": 1}}]
)
def test_a_build_that_does_not_say_may_know_tools(said: Any) -> None:
    assert _supports_tools(said) is None
    assert _supports_tools({"chat_template_caps": {"supports_tools": True}}) is True


def test_a_task_without_tools_is_asked_as_ever() -> None:
    model = Model(result("x"))
    session = Session(model, sampling=Sampling(), seed=1, timeout_s=9.0)
    session.ask(Task("main", TASK.messages).messages)
    assert (model.asked[0].tools, model.asked[0].must_call) == ((), False)
