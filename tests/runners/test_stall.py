"""Slow or hung: what the rules make of silence, of a stopped process, and of time in which we did not run ourselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from runners.chat import ChatRequest, Message, Sampling, ServerStalledError
from runners.engines.base import LoadError
from runners.outcomes import Outcome
from runners.process import ServerProcess
from runners.stall import OwnTime, Signs, StallWatch
from runners.vitals import read_vitals
from tests.runners.models import settings_for
from tests.runners.test_chat_wire import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runners.engines.base import Engine
    from tests.runners.conftest import Serve

__all__ = ["server"]  # a fixture

PATIENCE_S = 60.0


class History:
    """A request in seconds: what is heard and found, until the watch gives the engine up."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.watch = StallWatch(0.0)
        self.cpu_s = 0.0
        self.read = 0
        self.steps: int | None = 0

    def tokens(self, seconds: float, every_s: float = 0.1) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += every_s
            self.watch.heard(self.now_s, generating=True)
            assert self.watch.verdict(self.now_s) is None

    def silent(
        self,
        seconds: float,
        *,
        cpu: float = 0.0,
        read: int = 0,
        steps: float = 0.0,
        counts_steps: bool = True,
        **signs: bool | None,
    ) -> tuple[float, str] | None:
        """Silence; after how much of it the engine was given up, and why. Rates are per second."""
        began_s, done = self.now_s, 0.0
        while self.now_s < began_s + seconds:
            self.now_s += 5.0
            self.cpu_s += cpu * 5.0
            self.read += read * 5
            done += steps * 5.0
            if self.watch.is_due(self.now_s):
                found = Signs(
                    **{"answered": True, **signs},  # type: ignore[arg-type]  # as the caller says
                    steps=int(done) if counts_steps else None,
                    cpu_s=self.cpu_s,
                    read=self.read,
                )
                self.watch.look(self.now_s, found)
            if why := self.watch.verdict(self.now_s):
                return self.now_s - began_s, why
        return None


def given_up(found: tuple[float, str] | None, within_s: float, saying: str) -> None:
    assert found is not None, "it was not given up"
    assert found[0] <= within_s
    assert saying in found[1]


@pytest.mark.parametrize("generating", [False, True])
def test_a_stopped_process_is_given_up_soon(generating: bool) -> None:
    history = History()
    if generating:
        history.tokens(3)
    given_up(history.silent(300, stopped=True, answered=False), 35, "is stopped")


@pytest.mark.parametrize("generating", [False, True])
def test_a_process_that_neither_answers_nor_works(generating: bool) -> None:
    history = History()
    if generating:
        history.tokens(3)
    given_up(history.silent(300, answered=False, counts_steps=False), 45, "neither answered nor worked")


def test_a_process_that_answers_and_does_nothing() -> None:
    given_up(History().silent(600), 200, "did nothing for")


@pytest.mark.parametrize(
    "working",
    [
        {"cpu": 4.0},  # a prefill on the CPU
        {"cpu": 1.0, "answered": False},  # no thread left to answer us
        {"cpu": 0.01},  # a GPU that is waited for, asleep
        {"gpu_busy": True, "has_gpu": True},
        {"read": 1_000_000, "answered": False},  # a mapped model that comes from a slow disk
        {"steps": 1.0},
    ],
)
def test_a_prefill_of_an_hour_is_not_cut(working: dict[str, float]) -> None:
    assert History().silent(3600, **working) is None  # type: ignore[arg-type]  # rates and signs, as above


def test_a_gpu_that_cannot_be_asked_gets_the_benefit_of_the_doubt_for_ten_minutes() -> None:
    assert History().silent(590, has_gpu=True) is None
    given_up(History().silent(900, has_gpu=True), 620, "did nothing")
    given_up(History().silent(900, has_gpu=True, gpu_busy=False), 200, "did nothing")


def test_a_decode_that_stops_is_given_up_although_the_process_is_busy() -> None:
    """A kernel that never ends: the processor spins and waits for it."""
    history = History()
    history.tokens(3)
    given_up(history.silent(3600, cpu=1.0), 130, "generated nothing for")


def test_tokens_that_nobody_sees_are_no_stall() -> None:
    """The header of a tool call streams silently; the server's own count goes on."""
    history = History()
    history.tokens(3)
    assert history.silent(3600, cpu=1.0, steps=2.0) is None


def test_a_decode_of_a_token_in_ten_seconds_is_slow_and_not_hung() -> None:
    history = History()
    history.tokens(60, every_s=10.0)
    assert history.silent(580, cpu=1.0) is None
    given_up(history.silent(60, cpu=1.0), 60, "generated nothing for")


def test_a_build_that_counts_no_steps_gets_longer() -> None:
    history = History()
    history.tokens(3)
    assert history.silent(590, cpu=1.0, counts_steps=False) is None
    given_up(history.silent(30, cpu=1.0, counts_steps=False), 30, "generated nothing for")


def test_a_process_that_goes_on_in_time_is_forgiven() -> None:
    history = History()
    for _ in range(20):
        history.tokens(3)
        assert history.silent(20, stopped=True, answered=False) is None


def test_time_in_which_we_did_not_run_is_nobodys() -> None:
    now = [100.0]
    own = OwnTime(lambda: now[0])
    for step_s in (0.1, 0.1, 3600.0, 0.1):
        now[0] += step_s
        own()
    assert own() == pytest.approx(2.3)
    assert own.missed_s == pytest.approx(3598.0)


# --- real processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


def test_vitals_tell_working_from_stopped_from_gone(busy: subprocess.Popen[bytes]) -> None:
    def grown(since: float) -> bool:
        vitals = read_vitals(busy.pid)
        assert vitals is not None
        assert vitals.cpu_s is not None
        return vitals.cpu_s > since

    deadline = time.monotonic() + PATIENCE_S
    while not grown(0.0):
        assert time.monotonic() < deadline
    busy.send_signal(signal.SIGSTOP)
    while not (vitals := read_vitals(busy.pid)) or not vitals.stopped:
        assert time.monotonic() < deadline
    assert vitals.cpu_s is not None
    time.sleep(0.1)
    assert not grown(vitals.cpu_s)
    busy.kill()
    busy.wait()
    assert read_vitals(busy.pid) is None


def request(max_tokens: int = 900) -> ChatRequest:
    message = Message(role="user", content="Write a todo list application.")
    return ChatRequest(messages=(message,), sampling=Sampling(temperature=0.8, max_tokens=max_tokens), seed=1)


@pytest.mark.fault
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("when", ["before the first token", "in the middle"])
def test_an_engine_that_is_stopped_is_found_killed_and_reported(serve: Serve, tiny_model: Path, when: str) -> None:
    # So long a reply that it is not all sent before this process, on a busy machine, has seen five events of it.
    served = serve(tiny_model, context=8192)
    assert served.pid is not None
    pid = served.pid
    if when == "before the first token":
        os.kill(pid, signal.SIGSTOP)
    seen: list[object] = []

    def on_event(event: object) -> None:
        seen.append(event)
        if len(seen) == 5:
            os.kill(pid, signal.SIGSTOP)

    with pytest.raises(ServerStalledError, match="is stopped") as caught:
        served.chat(request(8000), on_event=on_event)
    assert caught.value.outcome is Outcome.STALLED
    assert caught.value.log_tail
    assert (caught.value.partial is not None and caught.value.partial.text != "") == (when == "in the middle")
    assert not served.is_alive()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    served.stop()


@pytest.mark.fault
@pytest.mark.usefixtures("hasty")
def test_a_short_stop_is_outlived(serve: Serve, tiny_model: Path) -> None:
    served = serve(tiny_model)
    assert served.pid is not None
    pid = served.pid
    seen: list[object] = []

    def on_event(event: object) -> None:
        seen.append(event)
        if len(seen) == 5:
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.4, os.kill, (pid, signal.SIGCONT)).start()

    result = served.chat(request(60), on_event=on_event)
    assert result.finish_reason == "length"
    assert served.is_alive()


@pytest.mark.fault
@pytest.mark.usefixtures("hasty")
def test_an_engine_that_is_stopped_while_it_loads(engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)

    settings = settings_for(engine, context=1024, threads=1)
    with pytest.raises(LoadError, match="is stopped") as caught:
        engine.load(tiny_model, settings, log_path=tmp_path / "log", on_spawn=stop)
    assert caught.value.reason == "stopped"
    assert not psutil.pid_exists(pids[0])


@pytest.mark.fault
def test_load_timeout_is_applied(engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)

    settings = settings_for(engine, context=1024, threads=1, load_timeout_s=1.0)
    with pytest.raises(LoadError, match="was not ready after 1 s"):
        engine.load(tiny_model, settings, log_path=tmp_path / "log", on_spawn=stop)
    assert not psutil.pid_exists(pids[0])


@pytest.mark.fault
def test_a_stopped_server_takes_no_time_of_grace(tmp_path: Path) -> None:
    """It cannot hear SIGTERM: it is made to go on, or the whole time of grace would pass, at every stop."""
    process = ServerProcess.start(["sleep", "60"], log_path=tmp_path / "log", grace_s=30.0)
    os.kill(process.pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
    process.stop()
    assert process.exit_code == -signal.SIGTERM


@pytest.mark.fault
def test_a_server_whose_supervisor_is_stopped_is_seen_to_be_dead(tmp_path: Path) -> None:
    process = ServerProcess.start(["sleep", "60"], log_path=tmp_path / "log", grace_s=0.1)
    supervisor = psutil.Process(process.pid).ppid()
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(supervisor, signal.SIGCONT)
        process.stop()


@pytest.mark.fault
def test_killing_one_that_ignores_everything(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = ServerProcess.start([sys.executable, "-c", deaf], log_path=tmp_path / "log", grace_s=120.0)
    deadline = time.monotonic() + PATIENCE_S
    while "deaf" not in process.tail():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert not process.is_alive()
    process.stop()
    process.kill()
