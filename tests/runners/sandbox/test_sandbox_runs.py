"""A command in a sandbox: what goes in, what comes out, and the limits on the way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runners.sandbox import BOX, Completed, Limits, Sandbox, SandboxFailed, View
from runners.sandbox.base import MIB

if TYPE_CHECKING:
    from pathlib import Path

RunPython = Callable[..., Completed]
ROOMY = Limits(wall_s=60.0, cpu_s=20.0)


def test_output_and_exit_code(sandbox: Sandbox, box: Path) -> None:
    done = sandbox.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], workdir=box)
    assert (done.exit_code, done.signal, done.status) == (3, None, "nonzero")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert done.wall_s > 0


def test_bytes_pass_unchanged(run_python: RunPython) -> None:
    data = bytes(range(256)) * 500
    done = run_python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", stdin=data)
    assert done.status == "ok"
    assert done.stdout == data


def test_input_is_at_its_end_from_the_start(run_python: RunPython) -> None:
    done = run_python("input('name? ')")
    assert done.exit_code == 1
    assert b"EOFError" in done.stderr


def test_environment_is_what_was_given(run_python: RunPython, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    done = run_python("import os; print(sorted(os.environ))", env={"PATH": "/usr/bin", "NAME": "ünï"})
    assert b"HF_TOKEN" not in done.stdout
    assert eval(done.stdout) in (["LC_CTYPE", "NAME", "PATH"], ["LC_CTYPE", "NAME", "PATH", "PWD"], ["NAME", "PATH"])


def test_arguments_are_passed_as_they_are(run_python: RunPython) -> None:
    words = ["two words", "", "$HOME", "'\"", "ünï", "--", "-x"]
    assert run_python("import sys; print(sys.argv[1:])", *words).stdout.decode() == f"{words}\n"


def test_signal_is_reported(run_python: RunPython) -> None:
    done = run_python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (done.exit_code, done.signal, done.status) == (None, signal.SIGSEGV, "signal")


def test_missing_command_ends_as_in_a_shell(sandbox: Sandbox, box: Path) -> None:
    assert sandbox.run(["/usr/bin/no-such-command"], workdir=box).exit_code == 127


def test_missing_work_folder_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed, match="nowhere does not exist"):
        sandbox.run(["/bin/true"], workdir=tmp_path / "nowhere")


def test_work_folder_is_kept_between_runs(run_python: RunPython, box: Path) -> None:
    assert run_python("import os; print(os.getcwd()); open('kept', 'w').write('x')").stdout == b"/box\n"
    assert (box / "kept").read_text() == "x"
    assert run_python("print(open('kept').read())").stdout == b"x\n"


def test_temporary_folder_is_new_for_each_run(run_python: RunPython, box: Path) -> None:
    run_python("open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')")
    assert run_python("import os; print(os.listdir('/tmp'), os.listdir('/dev/shm'))").stdout == b"[] []\n"
    assert list(box.iterdir()) == []


def test_user_and_host_inside_are_nobody_in_particular(run_python: RunPython) -> None:
    program = (
        "import os, pwd, socket; print(os.getuid(), os.getgid(), pwd.getpwuid(1000).pw_name, socket.gethostname())"
    )
    assert run_python(program).stdout == b"1000 1000 sandbox sandbox\n"


def test_no_descriptor_is_left_open(run_python: RunPython) -> None:
    done = run_python("import os; print([fd for fd in range(3, 512) if os.path.exists(f'/proc/self/fd/{fd}')])")
    assert done.stdout == b"[]\n"


def test_shown_folders_are_read_only_and_hidden_ones_empty(sandbox: Sandbox, box: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    (shown / "packages").mkdir(parents=True)
    (shown / "packages" / "rich.py").write_text("")
    (shown / "file").write_text("content")
    view = View(read_only=(shown,), hidden=(shown / "packages",))
    script = f"cat {shown}/file; ls {shown}/packages; touch {shown}/new {shown}/packages/new; ls {tmp_path}"
    done = sandbox.run(["/bin/sh", "-c", script], workdir=box, env={"PATH": "/usr/bin:/bin"}, view=view)
    assert done.stdout == b"contentshown\n"
    assert done.stderr.count(b"Read-only file system") == 2


def test_placed_file_cannot_be_replaced(run_python: RunPython, sandbox: Sandbox, box: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.py"
    answer.write_text("print('mine')")
    view = View(placed=((answer, BOX / "todo.py"),))
    script = (
        "cat todo.py; for c in 'echo bad > todo.py' 'rm -f todo.py' 'mv todo.py x' 'ln -sf /etc/passwd todo.py' "
        "'chmod 777 todo.py' 'mv /box /boxes'; do sh -c \"$c\" && echo done: $c; done; cat todo.py"
    )
    done = sandbox.run(["/bin/sh", "-c", script], workdir=box, env={"PATH": "/usr/bin:/bin"}, view=view)
    assert done.stdout == b"print('mine')print('mine')"
    assert answer.read_text() == "print('mine')"
    assert (box / "todo.py").read_text() == ""


def test_time_limit(run_python: RunPython) -> None:
    done = run_python("print('begun', flush=True); import time; time.sleep(600)", limits=replace(ROOMY, wall_s=1.5))
    assert (done.status, done.exit_code, done.signal) == ("time_limit", None, None)
    assert done.stdout == b"begun\n"


def test_cpu_limit(run_python: RunPython) -> None:
    done = run_python("while True: pass", limits=replace(ROOMY, cpu_s=1.0))
    assert done.status == "time_limit"
    assert done.signal == signal.SIGXCPU


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_limit(run_python: RunPython, stream: str) -> None:
    limits = replace(ROOMY, output_bytes=100_000)
    done = run_python(f"import sys\nwhile True: sys.{stream}.write('x' * 5000)", limits=limits)
    assert done.status == "output_limit"
    assert len(getattr(done, stream)) == limits.output_bytes


def test_output_of_exactly_the_limit_is_no_offence(run_python: RunPython) -> None:
    done = run_python("print('x' * 99_999)", limits=replace(ROOMY, output_bytes=100_000))
    assert done.status == "ok"
    assert len(done.stdout) == 100_000


def test_memory_limit_counts_all_processes(run_python: RunPython) -> None:
    program = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        held = bytearray(os.urandom(1)) * (60 << 20)\n"
        "        time.sleep(600)\n"
        "time.sleep(600)"
    )
    assert run_python(program, limits=replace(ROOMY, memory_bytes=200 * MIB)).status == "memory_limit"
    assert run_python("x = b'1' * (60 << 20)", limits=replace(ROOMY, memory_bytes=200 * MIB)).status == "ok"


def test_address_space_limit_is_an_error_the_program_sees(run_python: RunPython) -> None:
    done = run_python("x = bytearray(1 << 30)", limits=replace(ROOMY, address_space_bytes=512 * MIB))
    assert done.exit_code == 1
    assert done.stderr.rstrip().endswith(b"MemoryError")


def test_one_file_has_a_limit(run_python: RunPython, box: Path) -> None:
    program = "import os\nwith open('big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"
    done = run_python(program, limits=replace(ROOMY, file_bytes=8 * MIB))
    assert b"File too large" in done.stderr
    assert (box / "big").stat().st_size == 8 * MIB


@pytest.mark.parametrize(
    "program",
    [
        "for i in range(99):\n    with open(f'{i}', 'wb') as f: f.write(b'1' * (1 << 20))\nimport time; time.sleep(99)",
        "for i in range(100000): open(f'f{i}', 'wb').close()\nimport time; time.sleep(600)",
        "import os\nfor i in range(100000): os.mkdir('d'); os.chdir('d')\nimport time; time.sleep(600)",
    ],
    ids=["many bytes", "many files", "deep folders"],
)
def test_the_work_folder_has_a_limit(run_python: RunPython, program: str) -> None:
    assert run_python(program, limits=replace(ROOMY, file_bytes=16 * MIB, files=300)).status == "output_limit"


def test_temporary_folder_has_a_limit(run_python: RunPython) -> None:
    program = (
        "for i in range(100):\n"
        "    with open(f'/tmp/{i}', 'wb') as f: f.write(b'1' * (1 << 20))\n"
        "    print(i, flush=True)"
    )
    done = run_python(program, limits=replace(ROOMY, file_bytes=8 * MIB))
    assert b"No space left on device" in done.stderr
    assert done.stdout.split()[-1] == b"7"


def test_threads_may_come_and_go(sandbox: Sandbox, box: Path) -> None:
    """The sandbox must not die with the thread that asked for it (PR_SET_PDEATHSIG follows threads)."""
    found: list[Completed] = []

    def work(number: int) -> None:
        folder = box / str(number)
        folder.mkdir()
        found.append(
            sandbox.run(["/bin/sh", "-c", "sleep 0.2; echo done"], workdir=folder, env={"PATH": "/usr/bin:/bin"})
        )

    for batch in range(2):
        threads = [threading.Thread(target=work, args=(3 * batch + i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [(done.status, done.stdout) for done in found] == [("ok", b"done\n")] * 6
