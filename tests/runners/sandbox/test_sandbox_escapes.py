"""Nothing inside reads, writes, reaches or signals anything outside; as root and as an ordinary user."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.sandbox import Completed, Limits, Sandbox, open_sandbox

RunPython = Callable[..., Completed]
HERE = Path(__file__).parent
NOBODY = 65534
# What a merged or unmerged system has at its top, of which nothing tells anything about this machine's users.
TOP = {"bin", "box", "dev", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "proc", "sbin", "tmp", "usr"}


def attempt_here(kind: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("attempt", HERE / "attempt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.attempt(kind)
    return found


def attempt_as_nobody(kind: str, tmp_path: Path) -> dict[str, Any]:
    """The same from a process without root's rights; the project's folders may be closed to it, so it gets a copy."""
    copy = tmp_path / "project"
    shutil.copytree(HERE.parents[2] / "runners" / "sandbox", copy / "runners" / "sandbox")
    for name in ("runners/__init__.py", "runners/errors.py"):
        shutil.copy(HERE.parents[2] / name, copy / name)
    tests = copy / "tests" / "runners" / "sandbox"
    tests.mkdir(parents=True)
    for name in ("attempt.py", "battery.py"):
        shutil.copy(HERE / name, tests / name)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(temporary)}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            cwd="/",
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )

    for python in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        try:
            if run(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))").returncode == 0:
                break
        except PermissionError:
            continue
    else:
        pytest.skip("no Python 3.11 that an ordinary user may run")
    done = run(python, "-B", str(tests / "attempt.py"), kind)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(params=["this user", "an ordinary user"])
def found(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> dict[str, Any]:
    kind = sandbox.isolation.split("+")[0]
    if request.param == "this user" or os.getuid() != 0:
        return attempt_here(kind)
    return attempt_as_nobody(kind, tmp_path)


def test_nothing_outside_is_within_reach(found: dict[str, Any]) -> None:
    assert found["reads"] == []
    assert found["writes"] == []
    assert found["connects"] == []
    assert found["calls"] == []
    assert set(found["root"]) <= TOP | {"home", "root", "opt"}  # the last where an installation of Python lies there
    assert found["processes"] == 2
    assert found["interfaces"] == ["lo"]
    assert found["loopback"]
    assert found["no new privileges"]
    assert found["process 1"] == ""


def test_home_folder_is_not_there(run_python: RunPython) -> None:
    home = str(Path.home())
    seen = run_python("import os, sys; print([n for _, _, names in os.walk(sys.argv[1]) for n in names][:1])", home)
    outside = [path for path in Path(home).iterdir() if path.is_file()] if os.access(home, os.R_OK) else []
    shown = run_python("import os, sys; print([p for p in sys.argv[1:] if os.path.exists(p)])", *map(str, outside))
    assert shown.stdout == b"[]\n"
    assert seen.status == "ok"


def test_repository_is_not_there(run_python: RunPython) -> None:
    """A program must not read the grader, its reference solution or the titles it will be asked for."""
    done = run_python("import os, sys; print(os.path.exists(sys.argv[1]))", str(HERE.parents[2] / "runners"))
    assert done.stdout == b"False\n"


def test_installed_packages_are_not_there(run_python: RunPython) -> None:
    names = ["ray", "pytest", "pip", "rich", "numpy", "runners"]
    program = (
        "import sys, importlib.util as u\nimport site; site.main()\nprint([n for n in sys.argv[1:] if u.find_spec(n)])"
    )
    assert run_python(program, *names).stdout == b"[]\n"


def test_links_in_the_work_folder_lead_nowhere(run_python: RunPython, box: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token")
    (box / "link").symlink_to(secret)
    assert b"FileNotFoundError" in run_python("open('link')").stderr


def test_fork_bomb_is_bounded(run_python: RunPython, box: Path) -> None:
    program = (
        "import os, time\n"
        "while True:\n"
        "    try:\n"
        "        os.fork()\n"
        "    except OSError:\n"
        "        open('refused', 'w').close()\n"
        "        time.sleep(0.01)"
    )
    limits = Limits(wall_s=3.0, cpu_s=20.0, processes=20, memory_bytes=2 << 30)
    done = run_python(program, limits=limits)
    # An ordinary user's fork is refused by the kernel; root is exempt from that limit, and the watcher steps in: on a
    # busy machine so late that the processes, which double, have used up the memory first.
    bounded = done.status in {"process_limit", "memory_limit"}
    assert bounded or (done.status == "time_limit" and (box / "refused").exists())


def test_process_1_reports_for_the_command_whatever_it_does(run_python: RunPython) -> None:
    """A program that floods, signals and outlives everything it can still has its own exit code."""
    program = (
        "import os, sys, time\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(600)\n"
        "        os._exit(0)\n"
        "for number in range(1, 65):\n"
        "    try:\n"
        "        os.kill(1, number)\n"
        "    except OSError:\n"
        "        pass\n"
        "sys.exit(42)"
    )
    assert run_python(program).exit_code == 42


def test_inside_a_sandbox_there_is_no_second_one(sandbox: Sandbox) -> None:
    """The refusal is real: user namespaces are forbidden inside, and the message says what would mend that."""
    from runners.sandbox import BOX, View
    from runners.sandbox.python import python_runtime

    runtime = python_runtime(sandbox)
    program = (
        "import sys; sys.path.insert(0, '/box')\n"
        "from runners.sandbox import open_sandbox\n"
        "from runners.errors import RunnersError\n"
        "try:\n"
        "    print(open_sandbox().isolation)\n"
        "except RunnersError as error:\n"
        "    print(type(error).__name__, error.message, '|', error.hint)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE.parents[2] / "runners" / "sandbox", Path(folder, "runners", "sandbox"))
        for name in ("__init__.py", "errors.py"):
            shutil.copy(HERE.parents[2] / "runners" / name, Path(folder, "runners", name))
        done = sandbox.run(
            [runtime.executable, "-B", "-c", program],
            workdir=Path(folder),
            env={"PATH": "/usr/bin:/bin", "HOME": str(BOX)},
            limits=Limits(wall_s=60.0, cpu_s=20.0),
            view=View(runtime.view.read_only, runtime.view.hidden),
        )
    said = done.stdout.decode()
    assert said.startswith("SandboxUnavailable no sandbox works on this machine"), done
    assert "namespaces: the sandbox could not be set up: unshare" in said
    assert "sudo " in said.split("|")[1]


def test_second_opening_is_the_same_sandbox(sandbox: Sandbox) -> None:
    assert open_sandbox(sandbox.isolation.split("+")[0]) is sandbox
