"""Solving in several turns: limits over all of them, whose failure it is, figures of all, and the box between them."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

import runners.exams
from results.rows import validate_row
from runners.chat import (
    CancelledError,
    ChatRequest,
    ChatResult,
    Event,
    GenerationTimeoutError,
    Message,
    Sampling,
    ServerCrashError,
    ServerTimings,
    Usage,
)
from runners.engines.llama_cpp import LlamaCppServed
from runners.exams.base import Reply, Transcript, Turn
from runners.exams.box import Box
from runners.exams.check import check_exam
from runners.exams.transcript import transcript_json, transcript_of
from runners.orders import RowReady
from runners.regrading import graded_again, is_same_grade, why_not
from runners.sandbox import SandboxFailed, open_sandbox
from runners.sandbox.python import python_runtime
from runners.solving import Session, SolveCrashError, Solved, SolveSandboxError, solve
from runners.timing import measure
from runners.turns import measure_turns, turn_figures
from tests.runners.exams.repair import RepairExam
from tests.runners.test_cell import JOB, Lease, order_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXAM = RepairExam()
PLAIN, LOUD = EXAM.tasks()


def result(text: str = "x", *, tokens: int = 10, seconds: float = 1.0, at_s: float = 0.0) -> ChatResult:
    events = tuple(Event(at_s + seconds * n / tokens, "text", 1, 1) for n in range(1, tokens))
    return ChatResult(
        text=text,
        reasoning="",
        finish_reason="stop",
        events=(*events, Event(at_s + seconds, "finish", 0, None)),
        started_s=at_s,
        ended_s=at_s + seconds,
        usage=Usage(prompt_tokens=7, completion_tokens=tokens, cached_tokens=0),
        timings=ServerTimings(prompt_n=7, prompt_ms=70.0, predicted_n=tokens, predicted_ms=seconds * 900, cache_n=0),
    )


class Model:
    """Answers in turn with what it was given, and remembers what it was asked."""

    def __init__(self, *answers: ChatResult | Exception) -> None:
        self.answers, self.asked = list(answers), list[ChatRequest]()

    def __call__(self, request: ChatRequest) -> ChatResult:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box(open_sandbox())
    yield made
    made.close()


def solved(model: Model, box: Box, exam: RepairExam = EXAM, **limits: Any) -> Solved:
    sampling = Sampling(max_tokens=limits.get("max_tokens", 100))
    session = Session(model, sampling=sampling, seed=3, timeout_s=limits.get("timeout_s", 60.0))
    return solve(exam, PLAIN, session, box)


# --- limits and failures ------------------------------------------------------------------------------------------


def test_the_error_of_a_program_is_the_next_turn_and_limits_go_on_from_the_first(box: Box) -> None:
    model = Model(result("1 / 0", tokens=30, seconds=20.0), result("print('pelican')"))
    found = solved(model, box)
    assert [(each.sampling.max_tokens, each.timeout_s, each.seed) for each in model.asked] == [
        (30, 60.0, 3),
        (70, 40.0, 3),
    ]
    assert "ZeroDivisionError" in model.asked[1].messages[-1].content
    assert found.transcript is not None
    assert EXAM.grade(PLAIN, found.transcript, Box(box.sandbox)).scores == {"only": 1.0}


@pytest.mark.parametrize(
    ("limits", "outcome"), [({"max_tokens": 30}, "max_tokens"), ({"timeout_s": 20.0}, "generation_timeout")]
)
def test_what_the_first_turn_used_up_the_second_does_not_have(box: Box, limits: dict[str, Any], outcome: str) -> None:
    model = Model(result("1 / 0", tokens=30, seconds=20.0))
    found = solved(model, box, **limits)
    assert (len(model.asked), found.transcript, len(found.turns)) == (1, None, 1)
    assert found.failure is not None
    assert found.failure.outcome == outcome
    graded = solved(Model(result("1 / 0", tokens=30, seconds=20.0)), box, RepairExam(forgiving=True), **limits)
    assert graded.transcript is not None, "an exam may grade what there is when the budget ends it"


def test_an_engine_that_dies_is_the_infrastructures_whatever_the_exam_makes_of_it(box: Box) -> None:
    crash = ServerCrashError("gone", partial=result("half"))
    found = solved(Model(result("1 / 0"), crash), box, RepairExam(forgiving=True))
    assert (found.transcript, found.failure, found.engine_failure) == (None, crash, crash)
    assert [turn.reply.text for turn in found.turns] == ["1 / 0", "half"]
    late = GenerationTimeoutError("late", partial=result("half"))
    found = solved(Model(result("1 / 0"), late), box, RepairExam(forgiving=True))
    assert found.transcript is not None
    assert (found.transcript.reply.text, found.engine_failure) == ("half", late)


def test_a_bug_between_turns_is_nobodys_zero_and_no_failure_of_the_engine(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: Exception) -> Callable[..., str]:
        def run(*_: object) -> str:
            raise error

        return run

    for error, kind in ((ZeroDivisionError("ours"), SolveCrashError), (SandboxFailed("none"), SolveSandboxError)):
        monkeypatch.setattr(RepairExam, "_run", failing(error))
        found = solved(Model(result()), box)
        assert type(found.failure) is kind
        assert (found.engine_failure, found.transcript, len(found.turns)) == (None, None, 1)


def test_what_the_client_raises_and_a_wish_to_stop_go_through(box: Box) -> None:
    with pytest.raises(KeyError):
        solved(Model(KeyError("a bug of the client")), box)
    with pytest.raises(CancelledError):
        solved(Model(result("1 / 0"), CancelledError("stop")), box, RepairExam(forgiving=True))


# --- figures ------------------------------------------------------------------------------------------------------


def test_one_turn_has_its_own_figures_and_several_have_sums_and_the_first_turns() -> None:
    one, two = result(tokens=10, seconds=1.0), result(tokens=30, seconds=6.0, at_s=10.0)
    assert measure_turns([one]) == measure(one)
    both, first = measure_turns([one, two]), measure(one)
    assert (both.prompt_tokens, both.answer_tokens) == (14, 40)
    assert both.e2e_s == pytest.approx(7.0)
    assert (both.ttft_any_s, both.prefill_tps) == (first.ttft_any_s, first.prefill_tps)
    assert both.decode_tps == pytest.approx((9 + 29) / (0.9 + 5.4))
    assert both.itl_p50_s == pytest.approx(0.2)
    untold = dataclasses.replace(two, usage=None, timings=None, events=())
    both = measure_turns([one, untold])
    assert both.prompt_tokens is None
    assert both.reasons["prompt_tokens"] == "of a turn: the server did not say"
    assert [each.get("prompt_tokens") for each in turn_figures([one, untold])] == [7, None]


def test_a_transcript_survives_its_row_and_what_is_missing_is_said() -> None:
    asked = PLAIN.messages
    more = (*asked, Message(role="assistant", content="a"), Message(role="user", content="no"))
    whole = Transcript((Turn(asked, Reply("a", "hm", "stop")), Turn(more, Reply("b", None, "length"))))
    row = {"turns": 2, "reply": "b", "reasoning": None, "finish_reason": "length"}
    assert transcript_of({**row, "transcript": transcript_json(whole.turns)}, PLAIN) == whole
    assert transcript_of({**row, "turns": 1}, PLAIN) == Transcript.of(PLAIN, Reply("b", None, "length"))
    for damaged, why in ((None, "not kept"), ("{}", "cannot be read"), ('{"turns":[{"kept":9}]}', "cannot be read")):
        with pytest.raises(ValueError, match=why):
            transcript_of({**row, "transcript": damaged}, PLAIN)


# --- with a real engine -------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runners.exams._EXAMS, "repair", "tests.runners.exams.repair")


@pytest.mark.usefixtures("registered")
def test_two_turns_with_a_real_engine_become_one_row_that_can_be_graded_again(tiny_model: Path) -> None:
    lease = Lease(order_for(tiny_model, max_tokens=40, scoring={"repair": "only"}))
    try:
        lease.cell.assign(dataclasses.replace(JOB, exam="repair", task="loud"))
        lease.cell.close()
        row = {**lease.wait_for(RowReady).row, "final": True}
        assert lease.finish().how == "done"
    finally:
        lease.cell.cancel()
    validate_row(row)
    assert (row["exam"], row["task"]) == ("repair", "loud")
    figures = json.loads(row["turn_timings"])
    assert row["turns"] == len(figures) == len(transcript_of(row, LOUD).turns) == 2
    assert [each["answer_tokens"] for each in figures] == [30, 10], "the limit is that of all turns together"
    assert (row["answer_tokens"], row["outcome"]) == (40, "wrong")
    assert row["prompt_tokens"] == sum(each["prompt_tokens"] for each in figures)
    assert row["ttft_any_s"] == figures[0]["ttft_any_s"]


@pytest.mark.usefixtures("registered")
def test_a_row_of_two_turns_is_graded_again_from_its_transcript(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, real = iter([result("1 / 0"), result("print('pelican!')")]), LlamaCppServed.chat

    def chat(served: LlamaCppServed, request: ChatRequest, **more: Any) -> ChatResult:
        is_ours = "pelican" in request.messages[0].content
        return next(answers) if is_ours else real(served, request, **more)  # the warm-up is the engine's own

    monkeypatch.setattr(LlamaCppServed, "chat", chat)
    lease = Lease(order_for(tiny_model, max_tokens=100, scoring={"repair": "only"}))
    try:
        lease.cell.assign(dataclasses.replace(JOB, exam="repair", task="loud"))
        lease.cell.close()
        row = {**lease.wait_for(RowReady).row, "final": True}
        lease.finish()
    finally:
        lease.cell.cancel()
    validate_row(row)
    assert (row["turns"], row["score"], row["reply"], row["prompt_tokens"]) == (2, 1.0, "print('pelican!')", 14)
    kept = {**row, "regrade_of": None}
    assert why_not(kept, EXAM) is None
    assert is_same_grade(graded_again(kept, EXAM, open_sandbox()).row, row)
    assert "no task 'gone'" in (why_not({**kept, "task": "gone"}, EXAM) or "")
    assert "transcript was not kept" in (why_not({**kept, "transcript": None}, EXAM) or "")


@pytest.mark.usefixtures("registered")
def test_the_proof_of_a_grader_knows_tasks() -> None:
    assert check_exam("repair", open_sandbox()).ok


# --- the box ------------------------------------------------------------------------------------------------------

HOSTILE = """
import os
os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe'); os.mkdir('folder'); open('locked', 'w').write('x')
os.chmod('locked', 0); open('large', 'wb').write(b'x' * 2000); os.symlink('/tmp', 'way'); open('fine', 'w').write('ok')
os.remove('input'); os.symlink('/etc/hosts', 'input')
"""


def test_a_box_reads_and_writes_plain_files_whatever_a_program_left(box: Box) -> None:
    runtime = python_runtime(box.sandbox)
    box.write("input", b"first")
    box.write("deep/er/file", b"data")
    assert (box.read("deep/er/file"), box.read("nothing")) == (b"data", None)
    done = box.run([runtime.executable, "-c", HOSTILE], view=runtime.view)
    assert done.status == "ok", done.stderr
    assert box.read("fine") == b"ok"
    assert [box.read(name, 1000) for name in ("link", "pipe", "folder", "large", "way/x", "input")] == [None] * 6
    for name in ("input", "way/x", "pipe", "folder", "locked"):
        box.write(name, b"ours")
        assert box.read(name) == b"ours"
    for name in ("", "/etc/passwd", "../out", "a/../../b", "nul\0"):
        with pytest.raises(ValueError, match="not a relative path"):
            box.read(name)


def test_a_box_that_is_not_used_makes_no_folder_and_one_that_is_leaves_none() -> None:
    unused = Box(open_sandbox())
    unused.close()
    used = Box(open_sandbox())
    folder = used.folder
    assert folder.is_dir()
    used.close()
    assert not folder.exists()
