"""One server a device: real processes that lock, wait, are killed and are hostile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from profiles.types import Device
from runners import devicelock
from runners.devicelock import DeviceLock, device_key, holder_of, lock_folder, take
from runners.errors import RunnersError
from runners.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 30.0
HOLDER = """
    import sys, threading
    from runners.devicelock import take
    lock = take("cpu", sweep=sys.argv[1], what="tiny Q8_0", cancelled=threading.Event(), waiting=lambda who: print(who))
    print("taken", flush=True)
    sys.stdin.read()
    lock.release()
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("QUANTSWEEP_LOCKS", str(folder))
    return folder


@pytest.fixture
def holders(locks: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def hold(holders: list[subprocess.Popen[str]], sweep: str) -> subprocess.Popen[str]:
    """Another sweep's process that takes the CPU; returns when it has it."""
    argv = [sys.executable, "-c", textwrap.dedent(HOLDER), sweep]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holders.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


class Taker:
    """Somebody who takes the CPU in a thread."""

    def __init__(self, sweep: str = "mine") -> None:
        self.cancelled = threading.Event()
        self.told: list[str] = []
        self.heard = threading.Event()
        self.lock: DeviceLock | None = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._take, args=(sweep,))
        self.thread.start()

    def _take(self, sweep: str) -> None:
        self.lock = take("cpu", sweep=sweep, what="m", cancelled=self.cancelled, waiting=self._wait)
        self.done.set()

    def _wait(self, who: str) -> None:
        self.told.append(who)
        self.heard.set()


def take_now(sweep: str = "mine") -> DeviceLock:
    lock = take("cpu", sweep=sweep, what="m", cancelled=threading.Event(), waiting=pytest.fail)
    assert lock is not None
    return lock


def test_the_second_waits_says_for_whom_and_goes_on_when_the_first_is_killed(
    holders: list[subprocess.Popen[str]],
) -> None:
    other = hold(holders, "theirs")
    mine = Taker()
    assert mine.heard.wait(PATIENCE_S)
    assert mine.told[0].startswith("tiny Q8_0 of sweep theirs (")
    assert f"pid {other.pid}, since " in mine.told[0]
    assert not mine.done.is_set()
    other.send_signal(signal.SIGKILL)
    assert mine.done.wait(PATIENCE_S)
    assert mine.lock is not None
    mine.lock.release()


def test_what_is_given_back_leaves_no_file_and_can_be_taken_again(locks: Path) -> None:
    for _ in range(3):
        take_now().release()
    lock = take_now()
    assert [path.name for path in locks.iterdir()] == ["quantsweep-cpu.lock"]
    lock.release()
    lock.release()
    assert not list(locks.iterdir())


def test_waiting_ends_when_it_is_cancelled(holders: list[subprocess.Popen[str]]) -> None:
    hold(holders, "theirs")
    mine = Taker()
    assert mine.heard.wait(PATIENCE_S)
    mine.cancelled.set()
    assert mine.done.wait(PATIENCE_S)
    assert mine.lock is None


def test_devices_do_not_wait_for_each_other(holders: list[subprocess.Popen[str]]) -> None:
    hold(holders, "theirs")
    lock = take("GPU-1", sweep="mine", what="m", cancelled=threading.Event(), waiting=pytest.fail)
    assert lock is not None
    lock.release()


def test_whoever_gives_back_between_two_cells_does_not_overtake_those_who_wait(locks: Path) -> None:
    lock = take_now("first")
    waiting = Taker("second")
    assert waiting.heard.wait(PATIENCE_S)
    lock.release()
    again = Taker("first, next cell")
    assert waiting.done.wait(PATIENCE_S)
    assert waiting.lock is not None
    assert again.heard.wait(PATIENCE_S)
    assert not again.done.is_set()
    waiting.lock.release()
    assert again.done.wait(PATIENCE_S)
    assert again.lock is not None
    again.lock.release()


@pytest.mark.parametrize("end", ["killed", "over"])
def test_a_device_is_free_only_when_the_engine_is_gone_as_well(locks: Path, tmp_path: Path, end: str) -> None:
    lock = take_now()
    assert lock.descriptor is not None
    server = ServerProcess.start(["sleep", "60"], log_path=tmp_path / "log", held=(lock.descriptor,))
    if end == "killed":
        os.close(lock.descriptor)  # as the kernel does with the agent's
    else:
        lock.release()  # of a lease that could not end its engine
    mine = Taker()
    assert mine.heard.wait(PATIENCE_S)
    assert not mine.done.is_set()
    server.stop()
    assert mine.done.wait(PATIENCE_S)
    assert mine.lock is not None
    mine.lock.release()


@pytest.mark.parametrize("trap", ["link", "dangling link", "pipe", "folder", "second name"])
def test_what_somebody_put_in_the_way_is_refused_and_left_alone(locks: Path, tmp_path: Path, trap: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = locks / "quantsweep-cpu.lock"
    match trap:
        case "link":
            path.symlink_to(precious)
        case "dangling link":
            path.symlink_to(tmp_path / "made-by-you")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.hardlink_to(precious)
    with pytest.raises(RunnersError, match=r"quantsweep-cpu\.lock"):
        take_now()
    assert precious.read_text() == "precious"
    assert not (tmp_path / "made-by-you").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x1b[2J\x1b]0;owned\x07",
        json.dumps(
            {"sweep": "\x1b[31mred\x1b[0m[bold]", "what": "a\nb\r\u202e", "user": "x" * 500, "pid": 1, "since": 0}
        ).encode(),
        b"[" * 2000,
        b'{"sweep": 1, "what": null, "user": {}, "pid": "x", "since": 1e999}',
        json.dumps({"sweep": "s", "what": "w", "user": "u", "pid": 1, "since": 1e300}).encode(),
        b"\xff" * 5000,
    ],
)
def test_what_the_file_says_is_foreign_text(locks: Path, text: bytes) -> None:
    path = locks / "quantsweep-cpu.lock"
    path.write_bytes(text)
    said = holder_of(path)
    assert said.isprintable()
    assert 0 < len(said) <= 300
    assert not set(said) & set("[]\\")


def test_other_users_can_use_it_whatever_the_umask(locks: Path) -> None:
    before = os.umask(0o077)
    try:
        lock = take_now()
    finally:
        os.umask(before)
    assert lock.descriptor is not None
    assert os.fstat(lock.descriptor).st_mode & 0o777 == 0o666
    lock.release()


def test_the_folder_is_one_that_is_everybodys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUANTSWEEP_LOCKS")
    found = lock_folder()
    assert found is not None
    assert found.stat().st_mode & 0o1002 == 0o1002
    monkeypatch.setattr(devicelock, "_SHARED_FOLDERS", (str(tmp_path), str(tmp_path / "missing")))
    with pytest.raises(RunnersError, match="everybody can write to"):
        lock_folder()
    monkeypatch.setenv("QUANTSWEEP_LOCKS", "here")
    with pytest.raises(RunnersError, match="another place"):
        lock_folder()
    monkeypatch.setenv("QUANTSWEEP_LOCKS", str(tmp_path / "made" / "anew"))
    assert lock_folder() == tmp_path / "made" / "anew"
    assert (tmp_path / "made" / "anew").stat().st_mode & 0o7777 == 0o1777


def test_switched_off_nothing_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSWEEP_LOCKS", "off")
    locks = [take_now() for _ in range(2)]
    assert [lock.descriptor for lock in locks] == [None, None]
    for lock in locks:
        lock.release()


def device(**more: Any) -> Device:
    return Device(**{"id": "nvidia-0", "vendor": "nvidia", "name": "card", "kind": "discrete", **more})


def test_the_key_is_the_physical_device() -> None:
    assert device_key("cpu", device(id="cpu", kind="cpu", vendor="cpu")) == "cpu"
    assert device_key("nvidia-0", device(uuid="GPU-12ab", pci_id="0000:01:00.0")) == "GPU-12ab"
    assert device_key("amd-0", device(pci_id="0000:01:00.0")) == "0000-01-00.0"
    assert device_key("nvidia-0", device()) == "nvidia-0"
    assert device_key("../../etc", None) == "..-..-etc"


def test_a_thousand_grabs_by_many_never_overlap(locks: Path) -> None:
    """Files come and go under those who lock them: at no moment may two have the lock."""
    inside: list[int] = []
    overlaps: list[int] = []

    def grab() -> None:
        for _ in range(40):
            lock = take("cpu", sweep="s", what="m", cancelled=threading.Event(), waiting=lambda _: None)
            assert lock is not None
            inside.append(1)
            if len(inside) != 1:
                overlaps.append(len(inside))
            time.sleep(0)
            inside.pop()
            lock.release()

    before, devicelock.POLL_S = devicelock.POLL_S, 0.0005
    threads = [threading.Thread(target=grab) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        devicelock.POLL_S = before
    assert not overlaps
    assert not list(locks.iterdir())
