"""Nothing that was started inside outlives its run, however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.sandbox import Completed, Limits, Sandbox
from runners.sandbox.cleanup import remove_tree
from runners.sandbox.processes import children, descendants
from runners.sandbox.worked import worked_s

RunPython = Callable[..., Completed]
ROOT = Path(__file__).parents[3]
# A daemon as a program would make one that wants to survive: two forks, a session of its own, deaf to signals. Its name
# is its last argument, by which the host finds it.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        open("/box/alive", "w").close()
        while True:
            time.sleep(0.05)
    os._exit(0)
while not os.path.exists("/box/alive"):
    time.sleep(0.01)
"""


def named(name: str) -> list[int]:
    """Processes of the host, sandboxed ones included, with `name` in their command line."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if name.encode() in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
    return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def name() -> str:
    return f"quantsweep-daemon-{uuid.uuid4().hex}"


def test_daemon_ends_with_its_run(run_python: RunPython, box: Path, name: str) -> None:
    done = run_python(DAEMON, name)
    assert done.status == "ok"
    assert (box / "alive").exists()
    assert named(name) == []


def test_daemon_ends_when_the_command_crashes(run_python: RunPython, name: str) -> None:
    done = run_python(DAEMON + "\nos.kill(os.getpid(), 9)", name)
    assert done.signal == signal.SIGKILL
    assert named(name) == []


def test_daemon_ends_at_a_limit(run_python: RunPython, box: Path, name: str) -> None:
    done = run_python(DAEMON + "\ntime.sleep(600)", name, limits=Limits(wall_s=2.0))
    assert done.status == "time_limit"
    assert (box / "alive").exists()
    assert named(name) == []


def test_output_held_open_by_a_daemon_does_not_hold_the_run(run_python: RunPython, name: str) -> None:
    done = run_python(DAEMON + "\nprint('over')", name)
    assert done.stdout == b"over\n"


@pytest.mark.fault
def test_all_ends_with_the_process_that_asked(sandbox: Sandbox, box: Path, name: str) -> None:
    """SIGKILL, so that nobody can clean up: the kernel has to."""
    kind = sandbox.isolation.split("+")[0]
    program = (
        "import sys, pathlib, threading\n"
        "from runners.sandbox import Limits, open_sandbox\n"
        "from runners.sandbox.python import python_runtime\n"
        "kind, box, program, name = sys.argv[1:]\n"
        "sandbox = open_sandbox(kind)\n"
        "runtime = python_runtime(sandbox)\n"
        "argv = [runtime.executable, '-I', '-S', '-c', program, name]\n"
        "options = dict(workdir=pathlib.Path(box), limits=Limits(wall_s=600.0), view=runtime.view)\n"
        "threading.Thread(target=sandbox.run, args=(argv,), kwargs=options).start()\n"
    )
    argv = [sys.executable, "-c", program, kind, str(box), DAEMON + "\nwhile True: time.sleep(0.05)", name]
    owner = subprocess.Popen(argv, cwd=ROOT)
    try:
        wait_until((box / "alive").exists, "the daemon did not start")
        assert len(named(name)) > 2
    finally:
        owner.kill()
        owner.wait()
    wait_until(lambda: named(name) == [], "the sandbox outlived the process that started it")


def test_a_program_that_waited_until_its_time_was_up_is_said_to_have_been_idle(run_python: RunPython) -> None:
    done = run_python("import time; time.sleep(60)", limits=Limits(wall_s=1.0))
    assert (done.status, done.idle) == ("time_limit", True)
    assert not run_python("pass").idle


def test_cpu_time_is_added_up_over_all_that_was_started() -> None:
    spin = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True)\ntime.sleep(60)"
    words = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            assert 0.5 <= worked_s(parent.pid) < 5
        finally:
            for process in descendants(parent.pid)[::-1]:
                os.kill(process.pid, signal.SIGKILL)
    assert worked_s(parent.pid) == 0


@pytest.mark.fault
def test_time_in_which_we_stood_still_is_not_the_program_s(sandbox: Sandbox, box: Path) -> None:
    """The process that asked is stopped for longer than the limit; the program had long ended by then."""
    kind = sandbox.isolation.split("+")[0]
    program = (
        "import sys, pathlib\n"
        "from runners.sandbox import Limits, open_sandbox\n"
        "kind, box = sys.argv[1:]\n"
        "words = ['/bin/sh', '-c', 'echo > /box/alive; sleep 0.3; echo over']\n"
        "done = open_sandbox(kind).run(words, workdir=pathlib.Path(box), limits=Limits(wall_s=2.0))\n"
        "print(done.status, done.stdout)\n"
    )
    argv = [sys.executable, "-c", program, kind, str(box)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        try:
            wait_until((box / "alive").exists, "the program did not start")
            owner.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
        finally:
            owner.send_signal(signal.SIGCONT)
        assert owner.communicate()[0] == "ok b'over\\n'\n"


def test_no_launcher_or_descriptor_is_left(run_python: RunPython) -> None:
    run_python("pass")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run_python("pass")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [pid for pid in children(os.getpid()) if b"sandbox" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []


def test_descendants_are_seen_from_any_thread() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"]) as shell:
        try:
            wait_until(lambda: len(descendants(shell.pid)) == 2, "the shell started nothing")
            assert shell.pid in [process.pid for process in descendants(os.getpid())]
        finally:
            for process in descendants(shell.pid)[::-1]:
                os.kill(process.pid, signal.SIGTERM)
    assert descendants(shell.pid) == []


def test_locked_and_deep_folders_are_removed(run_python: RunPython, box: Path) -> None:
    program = (
        "import os\n"
        "os.makedirs('locked/inside'); open('locked/inside/file', 'w').close()\n"
        "os.chmod('locked/inside', 0); os.chmod('locked', 0)\n"
        "for i in range(1010): os.mkdir('d'); os.chdir('d')\n"
    )
    assert run_python(program).status == "ok"
    assert remove_tree(box)
    assert not box.exists()


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    assert remove_tree(tmp_path / "gone")


def test_removal_follows_no_link(run_python: RunPython, box: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    run_python("import os, sys; os.symlink(sys.argv[1], 'link'); os.mkdir('locked'); os.chmod('locked', 0)", str(kept))
    assert remove_tree(box)
    assert (kept / "file").read_text() == "x"
