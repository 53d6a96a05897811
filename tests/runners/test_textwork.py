"""Work on texts in its own process: what comes back, what a text may not do, and whose failure what is."""

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

from runners import textwork
from runners.textwork import TextLimitError, TextWorkerError
from tests.runners import textwork_functions as work
from tests.test_structure import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Processes of the test's own, with limits that it may set."""

    def limits(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setattr(textwork, name, value)

    textwork._pool(os.getpid()).close()
    textwork._pool.cache_clear()
    yield limits
    textwork._pool(os.getpid()).close()
    textwork._pool.cache_clear()


@pytest.mark.parametrize("value", [None, "", "a\0b", "\ud83d\ude00 \udc80", "x" * 3_000_000, {"a": [1, 2.5, True]}])
def test_what_goes_in_comes_back(value: object) -> None:
    assert textwork.run(work.echo, value) == value


def test_the_process_stays_whoever_asks(fresh: Callable[..., None]) -> None:
    """Also when the thread that asked first has ended: a process dies with the thread that started it."""
    found: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(textwork.run(work.pid)))
        thread.start()
        thread.join()
    assert found[0] == found[1] == textwork.run(work.pid)
    assert found[0] != os.getpid()


def test_a_started_process_waits(fresh: Callable[..., None]) -> None:
    textwork.warm()
    textwork.warm()
    (waiting,) = psutil.Process().children()
    assert textwork.run(work.pid) == waiting.pid


def test_nobody_waits_for_a_match_that_does_not_end(fresh: Callable[..., None]) -> None:
    """The other threads of this process go on, and the text is what took too long."""
    fresh(CPU_S=0.3)
    gaps = []
    done = threading.Event()

    def beat() -> None:
        last = time.monotonic()
        while not done.wait(0.01):
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(TextLimitError, match=r"more than 0\.3 s of CPU time"):
        textwork.run(work.quadratic, 200_000)
    done.set()
    thread.join()
    assert len(gaps) > 3
    assert max(gaps) < 5.0
    assert textwork.run(work.echo, 1) == 1


def test_the_time_is_of_each_text_alone(fresh: Callable[..., None]) -> None:
    fresh(CPU_S=0.5)
    for _ in range(8):
        textwork.run(work.quadratic, 700)


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (work.greedy, (), "more than 256 MiB of memory"),
        (work.raises, (), "KeyError: 'no such thing'"),
        (work.recurses, (0,), "RecursionError"),
        (work.crashes, (signal.SIGSEGV,), "crashes the interpreter .SIGSEGV"),
        (work.crashes, (signal.SIGABRT,), "crashes the interpreter .SIGABRT"),
    ],
    ids=["memory", "exception", "recursion", "segmentation fault", "abort"],
)
def test_what_a_text_does_is_the_text_s(function: Callable[..., object], arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(TextLimitError, match=said):
        textwork.run(function, *arguments)
    assert textwork.run(work.echo, "next") == "next"


def test_a_process_that_somebody_kills_is_replaced(fresh: Callable[..., None]) -> None:
    first = textwork.run(work.pid)
    os.kill(first, signal.SIGKILL)
    assert textwork.run(work.pid) != first


def test_one_that_is_killed_over_every_text_is_the_machine_s(fresh: Callable[..., None]) -> None:
    with pytest.raises(TextWorkerError, match="failed 3 times: it ended with signal 9") as caught:
        textwork.run(work.crashes, int(signal.SIGKILL))
    assert "kills processes" in caught.value.hint
    assert not psutil.Process().children()


def test_one_that_is_stopped_is_not_the_text_s(fresh: Callable[..., None]) -> None:
    fresh(WALL_S=1.0)
    stopped = textwork.run(work.pid)
    os.kill(stopped, signal.SIGSTOP)
    assert textwork.run(work.pid) != stopped
    assert not psutil.pid_exists(stopped)


def test_no_process_to_be_had_is_the_machine_s(fresh: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(TextWorkerError, match="could not be started: No such file"):
        textwork.run(work.pid)
    textwork.warm()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TextWorkerError, match="it ended with exit code 1"):
        textwork.run(work.pid)


def test_a_rule_that_is_not_there_is_the_installation_s(fresh: Callable[..., None]) -> None:
    def lost() -> None: ...

    lost.__module__ = "runners.no_such_module"
    with pytest.raises(TextWorkerError, match="cannot be loaded: ModuleNotFoundError"):
        textwork.run(lost)


def test_it_has_nothing_to_give_away(
    monkeypatch: pytest.MonkeyPatch, fresh: Callable[..., None], tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    names = set(textwork.run(work.environment))
    assert names <= {"LD_LIBRARY_PATH", "LC_CTYPE"}
    assert textwork.run(work.prints) == 7
    with pytest.raises(TextLimitError, match="OSError"):
        textwork.run(work.writes, str(tmp_path / "file"))
    descriptors = psutil.Process(textwork.run(work.pid)).num_fds()
    assert descriptors < 8


OWNER = """
import os, sys, threading, time
from runners import textwork
from tests.runners import textwork_functions as work
threading.Thread(target=lambda: print(textwork.run(work.pid), flush=True)).start()
time.sleep(600)
"""


@pytest.mark.fault
@pytest.mark.parametrize("stopped", [False, True])
def test_it_dies_with_its_owner(stopped: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None
        worker = psutil.Process(int(owner.stdout.readline()))
        if stopped:
            worker.suspend()
        owner.kill()
    assert psutil.wait_procs([worker], timeout=20.0)[1] == []
