"""Whatever fails while a lease begins, works or ends: the driver hears of its end exactly once, and nothing is left."""

from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest

import profiles.sampler
import quants.cache
import runners.engines
import runners.sandbox
from runners import cell, hosted, row
from runners.cell import CellRun
from runners.chat import (
    ChatError,
    ChatResult,
    Event,
    GenerationTimeoutError,
    RefusedError,
    ServerCrashError,
    TransportError,
)
from runners.devicelock import DeviceLock
from runners.engines.base import LoadError
from runners.exams import get_exam
from runners.grading import Grader
from runners.modelfile import HeldFiles
from runners.orders import CellEnded, JobOrder, ModelLoaded, NodeFacts, PhaseChanged, RowReady
from runners.process import ServerProcess
from runners.spool import Spool
from tests.runners.test_cell import order_for
from tests.runners.test_grading import FULL, FakeSandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.engines.base import Served
    from runners.orders import CellEvent

JOB = JobOrder(job_id="v1-a", attempt=1, exam="todo", prompt_version="1", seed=1, number=1, total=2)
RESULT = ChatResult(
    text="an answer",
    reasoning="",
    finish_reason="stop",
    events=(Event(0.5, "text", 9, 1),),
    started_s=0.0,
    ended_s=1.0,
)


class FakeServed:
    """An engine whose process is real and whose answers are not."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.pid = process.pid
        self.load_s = 0.1
        self.engine_build = "fake"
        self.base_url = self.buffers = self.log_path = self.warm_up = self.told = None
        self.context = 1024
        self.chat_template = "{{ messages }}"

    def chat(self, request: object, *, cancelled: object = None, on_event: Any = None) -> ChatResult:
        on_event(RESULT.events[0])
        return RESULT

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.stop()


class FakeEngine:
    def load(self, model: Path, settings: object, *, log_path: Path, on_spawn: Any, held: Any, **_: Any) -> Served:
        process = ServerProcess.start(["sleep", "120"], log_path=log_path, held=held)
        try:
            on_spawn(process.pid)
        except BaseException:
            process.stop()
            raise
        return cast("Served", FakeServed(process))


@pytest.fixture
def order(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a lease is asked; everything around it is real but the engine, the sandbox and the grade."""
    engine = FakeEngine()
    monkeypatch.setattr(runners.engines, "get_engine", lambda *_, **__: engine)
    monkeypatch.setattr(runners.sandbox, "open_sandbox", FakeSandbox)
    monkeypatch.setattr(type(get_exam("todo")), "grade", lambda *_: FULL)
    return order_for(tiny_model)


def left_behind() -> list[str]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in found if "sleep 120" in line or "supervisor" in line]


def play(
    order: Any, emit: Callable[[CellEvent], None] | None = None, *, jobs: int = 2
) -> tuple[CellEnded, list[CellEvent]]:
    """The whole of a lease of some jobs; demands what holds in every history."""
    heard: list[CellEvent] = []

    def hear(event: CellEvent) -> None:
        if emit is not None:
            emit(event)
        heard.append(event)

    run = CellRun(order, node=NodeFacts(hostname="box"), devices=(), emit=hear)
    for number in range(1, jobs + 1):
        run.assign(replace(JOB, job_id=f"v1-{number}", seed=number, number=number, total=jobs))
    run.close()
    thread = threading.Thread(target=run.run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), heard
    ends = [event for event in heard if isinstance(event, CellEnded)]
    assert len(ends) == 1, heard
    assert heard[-1] is ends[0]
    deadline = time.monotonic() + 20
    while (left := left_behind()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left
    locks = Path(os.environ["QUANTSWEEP_LOCKS"])
    assert not (list(locks.iterdir()) if locks.is_dir() else [])
    return ends[0], heard


def test_the_undisturbed_history(order: Any) -> None:
    ended, heard = play(order)
    assert ended.how == "done"
    outcomes = [event.row["outcome"] for event in heard if isinstance(event, RowReady)]
    assert outcomes == ["passed", "passed"]


@pytest.mark.parametrize(
    ("reason", "outcome", "refused_by"),
    [("bad_settings", "refused_settings", "program"), ("out_of_memory", "out_of_memory", "")],
)
def test_an_engine_that_refuses_the_settings_would_do_so_again(
    order: Any, monkeypatch: pytest.MonkeyPatch, reason: Any, outcome: str, refused_by: str
) -> None:
    def refuse(*_: object, **__: object) -> Served:
        raise LoadError("error: invalid argument: --no-such-thing", hint="change the settings", reason=reason)

    monkeypatch.setattr(FakeEngine, "load", refuse)
    ended, _ = play(order)
    assert (ended.how, ended.outcome, ended.refused_by) == ("failed", outcome, refused_by)


# Where a collaborator may fail: its owner, its name, at which call, and whether the cell can still be served.
POINTS: dict[str, tuple[Any, str, int]] = {
    "fetch": (quants.cache, "fetch", 1),
    "sandbox": (runners.sandbox, "open_sandbox", 1),
    "grader": (Grader, "__init__", 1),
    "lock": (cell, "take", 1),
    "baseline": (profiles.sampler, "take_baseline", 1),
    "files": (HeldFiles, "__init__", 1),
    "files after the load": (HeldFiles, "moved", 1),
    "sampler": (profiles.sampler.Sampler, "start", 1),
    "load": (FakeEngine, "load", 1),
    "figures of the load": (profiles.sampler.Sampler, "reset", 1),
    "alive": (FakeServed, "is_alive", 1),
    "exam": (runners.exams, "get_exam", 1),
    "identity": (row, "identity_columns", 1),
    "figures before": (profiles.sampler.Sampler, "reset", 2),
    "first token": (profiles.sampler.Sampler, "mark", 1),
    "chat": (FakeServed, "chat", 2),
    "figures after": (profiles.sampler.Sampler, "reset", 3),
    "files after an answer": (HeldFiles, "written_to", 2),
    "timing": (cell, "measure_turns", 1),
    "submit": (Grader, "submit", 2),
    "spool": (Spool, "put", 2),
    "drain": (Grader, "drain", 1),
    "sampler's end": (profiles.sampler.Sampler, "stop", 1),
    "engine's end": (FakeServed, "stop", 1),
    "engine's kill": (FakeServed, "kill", 1),
    "files' end": (HeldFiles, "close", 1),
    "lock's end": (DeviceLock, "release", 2),  # the first gives back the place in the line
    "grader's end": (Grader, "close", 1),
    "log": (CellRun, "_log_tail", 1),
}
# These end or release something themselves when they are called; the fault comes after the deed.
AFTERWARDS = {"lock's end", "files' end"}
SERVES_ALL_THE_SAME = {
    "sampler's end",
    "engine's end",
    "engine's kill",
    "files' end",
    "lock's end",
    "grader's end",
    "log",
}


def make_fail(monkeypatch: pytest.MonkeyPatch, point: str, fault: BaseException | Callable[[], object]) -> list[int]:
    owner, name, at = POINTS[point]
    real = getattr(owner, name)
    calls: list[int] = []

    def faulty(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) != at:
            return real(*args, **kwargs)
        if point in AFTERWARDS:
            real(*args, **kwargs)
        if isinstance(fault, BaseException):
            raise fault
        return fault()

    monkeypatch.setattr(owner, name, faulty)
    return calls


FAULTS = [OSError(errno.ENOSPC, "No space left on device"), SystemExit("somebody's exit"), MemoryError()]


@pytest.mark.parametrize("point", POINTS)
def test_one_collaborator_fails(order: Any, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    everyone = point in {"chat", "load", "spool", "engine's end"}
    for fault in FAULTS if everyone else [FAULTS[list(POINTS).index(point) % 3]]:
        with monkeypatch.context() as patch:
            calls = make_fail(patch, point, fault)
            ended, _ = play(order)
            assert len(calls) >= POINTS[point][2], "the fault was never met"
        if point in SERVES_ALL_THE_SAME:
            assert ended.how == "done"
        else:
            assert ended.how == "failed"
            assert ended.outcome
            assert ended.reason


@pytest.mark.parametrize("point", ["engine's end", "sampler's end", "files' end", "grader's end", "log"])
def test_the_end_fails_after_the_work_did(order: Any, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    make_fail(monkeypatch, "chat", RuntimeError("the first of two"))
    make_fail(monkeypatch, point, SystemExit("the second"))
    ended, _ = play(order)
    assert (ended.how, ended.reason) == ("failed", "RuntimeError: the first of two")
    if point != "log":
        assert "the second" in ended.log


@pytest.mark.parametrize("kind", [PhaseChanged, ModelLoaded, RowReady, CellEnded])
def test_an_event_that_cannot_be_told(order: Any, kind: type[Any]) -> None:
    failed: list[CellEvent] = []

    def emit(event: CellEvent) -> None:
        if isinstance(event, kind) and not failed:
            failed.append(event)
            raise MemoryError

    ended, _ = play(order, emit)
    assert failed
    assert ended.how == ("done" if kind is CellEnded else "failed")


def test_a_fetch_that_hangs_is_left_when_the_lease_is_cancelled(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read from a network disk that never comes back: cancelling the lease hung with it."""
    release = threading.Event()
    monkeypatch.setattr(cell, "CANCEL_S", 0.2)
    make_fail(monkeypatch, "fetch", lambda: release.wait(60))
    heard: list[CellEvent] = []
    run = CellRun(order, node=NodeFacts(hostname="box"), devices=(), emit=heard.append)
    thread = threading.Thread(target=run.run)
    thread.start()
    run.cancel()
    thread.join(30)
    assert not thread.is_alive()
    release.set()
    assert [event.how for event in heard if isinstance(event, CellEnded)] == ["cancelled"]


def test_a_pid_file_that_cannot_be_removed(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One unlink that raised in process.stop lost the end of the lease: the driver waited for ever."""
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(".server.json"):
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    ended, _ = play(order)
    assert ended.how == "done"
    assert "while the engine was ended" not in ended.log


def test_an_engine_that_cannot_be_stopped_is_killed(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck: list[FakeServed] = []

    def refuse(self: FakeServed) -> None:
        stuck.append(self)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(FakeServed, "stop", refuse)
        ended, _ = play(order)
    assert ended.how == "done"
    assert "the engine: OSError" in ended.log
    stuck[0].stop()  # gives back the pipes


@pytest.mark.parametrize(
    "point", ["sampler's end", "engine's end", "files' end", "lock's end", "baseline", "figures before"]
)
def test_a_step_that_hangs_is_left_behind(order: Any, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    release = threading.Event()
    for module, name in (
        (hosted, "ENGINE_STOP_S"),
        (hosted, "SAMPLER_S"),
        (hosted, "FILES_CLOSE_S"),
        (cell, "LOCK_CLOSE_S"),
    ):
        monkeypatch.setattr(module, name, 2.0 if name == "ENGINE_STOP_S" and point != "engine's end" else 0.3)
    make_fail(monkeypatch, point, lambda: release.wait(60))
    try:
        ended, _ = play(order)
    finally:
        release.set()
    if point == "baseline":
        assert ended.outcome == "server_start"
        assert "did not come back" in ended.reason
    else:
        assert ended.how == "done"
        assert "did not come back within" in ended.log


ENGINE_DOINGS: dict[str, tuple[list[ChatError], int, list[str]]] = {
    "a broken connection": ([TransportError("broke")], 2, ["transport", "passed"]),
    "one error of its own": ([RefusedError("compute error", status=500)], 1, ["transport", "passed"]),
    "errors of its own": ([RefusedError("compute error", status=500)] * 2, 2, ["transport"] * 2 + ["passed"]),
    "a time limit": ([GenerationTimeoutError("late")] * 3, 1, ["generation_timeout"] * 3 + ["passed"]),
    "a crash": ([ServerCrashError("died")], 2, ["server_crash", "passed"]),
}


@pytest.mark.parametrize("doing", ENGINE_DOINGS)
def test_an_engine_that_cannot_be_trusted_is_loaded_anew(
    order: Any, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    """The next job must not get what broke the last one; a limit of the budget is no reason for a load."""
    failures, loads, outcomes = ENGINE_DOINGS[doing]
    left = list(failures)
    chat, load, made = FakeServed.chat, FakeEngine.load, []

    def answer(self: FakeServed, *args: Any, **kwargs: Any) -> ChatResult:
        if left:
            raise left.pop(0)
        return chat(self, *args, **kwargs)

    def count(self: FakeEngine, *args: Any, **kwargs: Any) -> Any:
        made.append(1)
        return load(self, *args, **kwargs)

    monkeypatch.setattr(FakeServed, "chat", answer)
    monkeypatch.setattr(FakeEngine, "load", count)
    ended, heard = play(order, jobs=len(failures) + 1)
    assert [event.row["outcome"] for event in heard if isinstance(event, RowReady)] == outcomes
    assert len(made) == loads
    assert ended.how == "done"
