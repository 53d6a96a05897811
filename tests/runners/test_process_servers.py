"""Server processes, really started and really killed: nothing may be left of them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from runners.process import (
    PID_FILE_SUFFIX,
    TOKEN_VARIABLE,
    ProcessStartError,
    ServerProcess,
    clear_logs,
    log_path,
    log_tail,
    process_identity,
    reap_orphans,
)
from runners.reports import LINE_BYTES, MOST_KEYS, Reports
from runners.sandbox.stragglers import MARK, end_stragglers, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 30.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must come about; how long it takes is not what is tested."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for: {what}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return process_identity(pid) is None


def all_gone(pids: list[int]) -> None:
    until(lambda: all(gone(pid) for pid in pids), f"the end of {pids}")


@pytest.fixture
def started() -> Iterator[list[ServerProcess]]:
    processes: list[ServerProcess] = []
    yield processes
    for process in processes:
        process.stop()


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-u", "-c", textwrap.dedent(code)]


# A server with a child in its own group, one in a session of its own, and one whose parent has exited.
FAMILY = """
    import os, subprocess, sys, time
    sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    pids = [subprocess.Popen(sleeper).pid, subprocess.Popen(sleeper, start_new_session=True).pid]
    daemon = "import subprocess; print(subprocess.Popen(%r, start_new_session=True, stdout=-3).pid)" % (sleeper,)
    pids.append(int(subprocess.run([sys.executable, "-I", "-S", "-c", daemon], stdout=subprocess.PIPE).stdout))
    print("family", *pids, flush=True)
    time.sleep(600)
"""


def family(process: ServerProcess) -> list[int]:
    until(lambda: "family" in process.tail(), "the server's children")
    return [int(word) for word in process.tail().split()[1:]]


class TestStart:
    def test_runs_with_its_output_in_the_log(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        code = """
            import os, sys
            print("to stdout", os.getpid(), os.getsid(0)); print("to stderr", file=sys.stderr)
            sys.exit(7)
        """
        process = ServerProcess.start(python(code), log_path=tmp_path / "new" / "folder" / "log")
        started.append(process)
        assert process.wait(PATIENCE_S)
        assert process.exit_code == 7
        assert not process.is_alive()
        assert f"to stdout {process.pid} {process.pid}" in process.tail()
        assert "to stderr" in process.tail()

    def test_environment_and_token(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        code = f"import os; print(os.environ.get('GREETING'), len(os.environ['{TOKEN_VARIABLE}']))"
        environment = {**os.environ, "GREETING": "hi"}
        process = ServerProcess.start(python(code), log_path=tmp_path / "log", environment=environment)
        started.append(process)
        assert process.wait(PATIENCE_S)
        assert process.tail() == "hi 32"

    def test_reports_of_the_server(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        code = """
            import os, time
            fd = int(os.environ["QUANTSWEEP_STATUS_FD"])
            os.write(fd, b'{"port": 8'); os.write(fd, b'0}\\nnot JSON\\n{"url": "there"}\\n')
            time.sleep(600)
        """
        process = ServerProcess.start(python(code), log_path=tmp_path / "log")
        started.append(process)
        assert process.told("port", timeout_s=PATIENCE_S) == 80
        assert process.told("url", timeout_s=PATIENCE_S) == "there"
        assert process.told("nothing") is None
        assert process.is_alive()
        assert process.exit_code is None

    def test_a_server_that_writes_without_end_costs_no_memory_and_its_end_is_told(
        self, tmp_path: Path, started: list[ServerProcess]
    ) -> None:
        code = """
            import os
            fd = int(os.environ["QUANTSWEEP_STATUS_FD"])
            for _ in range(200):
                os.write(fd, b"x" * 65536)
            os._exit(3)
        """
        process = ServerProcess.start(python(code), log_path=tmp_path / "log")
        started.append(process)
        while process.told("exit", timeout_s=0.05) is None:
            assert len(process._reports._unread) <= LINE_BYTES
        assert process.exit_code == 3

    @pytest.mark.parametrize(
        ("content", "mode", "number"),
        [(None, 0, errno.ENOENT), (b"#!/bin/sh\n", 0o600, errno.EACCES), (b"\x00\x01\x02\x03", 0o700, errno.ENOEXEC)],
    )
    def test_a_program_that_cannot_be_started(
        self, tmp_path: Path, content: bytes | None, mode: int, number: int
    ) -> None:
        program = tmp_path / "program"
        if content is not None:
            program.write_bytes(content)
            program.chmod(mode)
        with pytest.raises(ProcessStartError) as caught:
            ServerProcess.start([str(program)], log_path=tmp_path / "log")
        assert caught.value.errno == number
        assert str(program) in caught.value.message
        assert os.strerror(number) in caught.value.message
        assert not list(tmp_path.glob("*" + PID_FILE_SUFFIX))


class TestStop:
    def test_asks_first(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        code = """
            import signal, sys, time
            def leave(*_): print("goodbye", flush=True); sys.exit(0)
            signal.signal(signal.SIGTERM, leave)
            print("ready", flush=True)
            time.sleep(600)
        """
        process = ServerProcess.start(python(code), log_path=tmp_path / "log")
        started.append(process)
        until(lambda: "ready" in process.tail(), "the handler")
        process.stop()
        assert process.tail().splitlines() == ["ready", "goodbye"]
        assert process.exit_code == 0
        assert gone(process.pid)

    def test_kills_one_that_does_not_listen(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        code = """
            import signal, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("ready", flush=True)
            time.sleep(600)
        """
        process = ServerProcess.start(python(code), log_path=tmp_path / "log", grace_s=0.2)
        started.append(process)
        until(lambda: "ready" in process.tail(), "the handler")
        process.stop()
        assert process.exit_code == -signal.SIGKILL
        assert gone(process.pid)

    def test_takes_the_whole_tree(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        process = ServerProcess.start(python(FAMILY), log_path=tmp_path / "log")
        started.append(process)
        children = family(process)
        assert len(children) == 3
        process.stop()
        assert all(gone(pid) for pid in [process.pid, *children])

    def test_a_server_that_ends_by_itself_takes_its_children_along(
        self, tmp_path: Path, started: list[ServerProcess]
    ) -> None:
        process = ServerProcess.start(python(FAMILY), log_path=tmp_path / "log")
        started.append(process)
        children = family(process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE_S)
        assert process.exit_code == -signal.SIGKILL
        assert all(gone(pid) for pid in children)

    def test_again_and_after_the_end(self, tmp_path: Path) -> None:
        process = ServerProcess.start(python("pass"), log_path=tmp_path / "log")
        assert process.wait(PATIENCE_S)
        process.stop()
        process.stop()
        assert process.exit_code == 0
        assert not process.is_alive()
        assert not list(tmp_path.glob("*" + PID_FILE_SUFFIX))

    def test_works_although_a_fork_of_ours_holds_the_pipe(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        process = ServerProcess.start(python("import time; time.sleep(600)"), log_path=tmp_path / "log")
        started.append(process)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        process.stop()
        assert gone(process.pid)
        os.close(writer)
        os.waitpid(child, 0)


# Started as a program: owns a server, says so, and waits to be killed.
OWNER = """
    import sys, time
    from pathlib import Path
    from runners.process import ServerProcess
    folder = Path(sys.argv[1])
    process = ServerProcess.start([sys.executable, "-I", "-S", "-u", "-c", sys.argv[2]], log_path=folder / "log")
    print(process.pid, process._supervisor.pid, flush=True)
    time.sleep(600)
"""


class Owner:
    """A process that owns a server; dead at the end of the test, whatever happens."""

    def __init__(self, folder: Path, code: str) -> None:
        self.log = folder / "log"
        argv = [sys.executable, "-c", textwrap.dedent(OWNER), str(folder), textwrap.dedent(code)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        assert self.process.stdout is not None
        self.server, self.supervisor = (int(word) for word in self.process.stdout.readline().split())

    def family(self) -> list[int]:
        until(lambda: "family" in log_tail(self.log), "the server's children")
        return [int(word) for word in log_tail(self.log).split()[1:]]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[str], Owner]]:
    owners: list[Owner] = []

    def start(code: str) -> Owner:
        owners.append(Owner(tmp_path, code))
        return owners[-1]

    yield start
    for each in owners:
        each.kill()


def marked_sleeper(owner: int) -> subprocess.Popen[bytes]:
    """A process with the mark of a sandbox of `owner`."""
    began = Path(f"/proc/{owner}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    return subprocess.Popen(["/bin/sleep", "600"], env={MARK: f"{owner}:{began}"})


def test_sandboxes_without_an_owner_are_ended_by_the_next_agent() -> None:
    owner = subprocess.Popen(["/bin/sleep", "600"])
    sleepers = [marked_sleeper(owner.pid), marked_sleeper(os.getpid())]
    strange = subprocess.Popen(["/bin/sleep", "600"], env={MARK: "x:y"})
    try:
        assert not {process.pid for process in (*sleepers, strange)} & set(end_stragglers())
        owner.kill()
        owner.wait()
        assert sleepers[0].pid in end_stragglers()
        assert sleepers[0].wait(PATIENCE_S) == -signal.SIGKILL
        assert sleepers[1].poll() is None
        assert strange.poll() is None
        assert mark() == f"{os.getpid()}:" + str(process_identity(os.getpid())).rpartition(":")[2]
    finally:
        for process in (owner, strange, *sleepers):
            process.kill()
            process.wait()


@pytest.mark.fault
class TestDeaths:
    STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"

    def test_of_the_owner(self, owner: Callable[[str], Owner]) -> None:
        it = owner(FAMILY)
        children = it.family()
        it.kill()
        all_gone([it.server, it.supervisor, *children])

    def test_of_the_owner_with_a_server_that_does_not_listen(self, owner: Callable[[str], Owner]) -> None:
        it = owner(self.STUBBORN)
        it.kill()
        all_gone([it.server, it.supervisor])

    def test_of_the_owner_ends_its_sandboxes_that_do_not_see_it(self, owner: Callable[[str], Owner]) -> None:
        """Such as a bubblewrap whose parent was killed while it was waiting for it: see runners.sandbox.stragglers."""
        it = owner("import time; time.sleep(600)")
        stuck, other = marked_sleeper(it.process.pid), marked_sleeper(os.getpid())
        try:
            it.kill()
            assert stuck.wait(PATIENCE_S) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            stuck.kill()
            other.kill()
            stuck.wait()
            other.wait()

    def test_of_the_supervisor(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        process = ServerProcess.start(python(FAMILY), log_path=tmp_path / "log")
        started.append(process)
        children = family(process)
        process._supervisor.kill()
        until(lambda: not process.is_alive(), "the news")
        until(lambda: gone(process.pid), "the server's end")
        process.stop()
        all_gone(children)

    def test_of_both_leaves_work_for_the_next_start(self, tmp_path: Path, owner: Callable[[str], Owner]) -> None:
        it = owner(FAMILY)
        children = it.family()
        os.kill(it.process.pid, signal.SIGSTOP)  # so that it cannot act on the news
        os.kill(it.supervisor, signal.SIGKILL)
        it.kill()
        all_gone([it.server])
        assert not all(gone(pid) for pid in children)
        assert set(reap_orphans(tmp_path)) <= set(children)
        all_gone(children)
        assert not list(tmp_path.glob("*" + PID_FILE_SUFFIX))


class TestReaping:
    def test_leaves_a_server_whose_owner_lives(self, tmp_path: Path, started: list[ServerProcess]) -> None:
        process = ServerProcess.start(python("import time; time.sleep(600)"), log_path=tmp_path / "a" / "log")
        started.append(process)
        assert reap_orphans(tmp_path) == []
        assert process.is_alive()

    def test_does_not_trust_a_pid(self, tmp_path: Path) -> None:
        """The recorded owner's pid is in use again, the server's too: by programs that are none of ours."""
        stranger = subprocess.Popen(python("import time; time.sleep(600)"))
        try:
            owner_then = {"pid": stranger.pid, "identity": "another boot:1"}
            record = {"token": "0" * 32, "owner": owner_then, "supervisor": stranger.pid, "server": stranger.pid}
            (tmp_path / ("log" + PID_FILE_SUFFIX)).write_text(json.dumps(record), encoding="utf-8")
            assert reap_orphans(tmp_path) == []
            assert psutil.pid_exists(stranger.pid)
            assert stranger.poll() is None
            assert not list(tmp_path.iterdir())
        finally:
            stranger.kill()
            stranger.wait()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": {}}', '{"owner": {"pid": "x"}, "token": "t"}'])
    def test_clears_files_that_were_cut_off(self, tmp_path: Path, text: str) -> None:
        (tmp_path / ("log" + PID_FILE_SUFFIX)).write_text(text, encoding="utf-8")
        assert reap_orphans(tmp_path) == []
        assert not list(tmp_path.iterdir())

    def test_of_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        assert reap_orphans(tmp_path / "nothing") == []


def test_logs_of_writers_that_are_gone_are_cleared(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", ""])
    writer.wait()
    dead = tmp_path / "run" / f"c1-L1.{writer.pid}.log"
    mine = log_path(tmp_path / "other", "c1-L2")
    foreign = tmp_path / "other" / "c1-L3.log"
    for path in (dead, mine, foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    clear_logs(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*")) == sorted([tmp_path / "other", mine, foreign])
    clear_logs(tmp_path / "nothing")


def test_identity_tells_processes_apart() -> None:
    mine = process_identity(os.getpid())
    assert mine is not None
    assert mine == process_identity(os.getpid())
    other = subprocess.Popen(python("import time; time.sleep(600)"))
    try:
        assert process_identity(other.pid) not in {None, mine}
    finally:
        other.kill()
        other.wait()
    assert process_identity(other.pid) is None


def test_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert log_tail(log) == ""
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(10_000)))
    assert log_tail(log, lines=2) == "line 9998 \ufffd\nline 9999 \ufffd"
    assert len(log_tail(log, lines=10_000, max_bytes=1000)) <= 1000


def test_reports_are_bounded_in_length_and_number_and_later_ones_are_heard() -> None:
    reports = Reports()
    for piece in (b'{"a": "', b"x" * LINE_BYTES, b"y" * LINE_BYTES, b'"}\n[1]\n{"b": 1}\n{"c"'):
        reports.take(piece)
    assert reports.said == {"b": 1}
    reports.take(b": 2}\n")
    assert reports.said == {"b": 1, "c": 2}
    for number in range(10 * MOST_KEYS):
        reports.take(f'{{"k{number}": 1}}\n'.encode())
    reports.take(b'{"b": 5}\n')
    assert len(reports.said) == MOST_KEYS
    assert reports.said["b"] == 5
