"""Hostile programs in both kinds of sandbox, started by this user and, where that is root, by an ordinary one as well.

The attacks of one kind and user share a process of that user (sandbox_worker.py), which lives until the last is tried.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

from tests.attacks import NotHereError
from tests.attacks.attack import Attack
from tests.attacks.sandbox_worker import names

ROOT = Path(__file__).parents[2]
KINDS = ("bubblewrap", "namespaces")
NOBODY = 65534
ROOT_USER, ROOT_WATCHED, ORDINARY = "root", "root, no cgroup", "ordinary user"
# Where a kernel counts memory and where we do, the same attacks have to end alike.
COUNTED = ("memory",)
_NEEDED = ("runners/__init__.py", "runners/errors.py", "tests/attacks", "tests/runners/sandbox")


class Worker:
    """A process of `user` that tries attacks in a sandbox of `kind`."""

    def __init__(self, kind: str, user: str) -> None:
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="quantsweep-attacks-"))
        self._folder.chmod(0o755)
        self._number = 0
        temporary = self._folder / "tmp"
        temporary.mkdir()
        temporary.chmod(0o777)
        python, project, identity = sys.executable, ROOT, {}
        if user == ORDINARY and os.getuid() == 0:
            python, project = python_for_anybody(), copy_of_the_project(self._folder / "project")
            identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        argv = [python, "-B", str(project / "tests/attacks/sandbox_worker.py"), kind]
        argv += ["without-cgroups"] if user == ROOT_WATCHED else []
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary)},
            **identity,  # type: ignore[call-overload]  # user, group, extra_groups
        )
        said = json.loads(self._process.stdout.readline())
        self.isolation: str = said.get("isolation", "")
        self._absent: str = said.get("not here", "")

    def attempt(self, category: str, name: str) -> str | None:
        if self._absent:
            raise NotHereError(self._absent)
        with self._lock:
            self._number += 1
            folder = self._folder / "tmp" / str(self._number)
            self._process.stdin.write(json.dumps([category, name, str(folder)]) + "\n")
            self._process.stdin.flush()
            answer: str | None = json.loads(self._process.stdout.readline())
            return answer

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        shutil.rmtree(self._folder)


def users() -> tuple[str, ...]:
    return (ROOT_USER, ROOT_WATCHED, ORDINARY) if os.getuid() == 0 else (ORDINARY,)


def python_for_anybody() -> str:
    """An interpreter that an ordinary user may run; root's own may lie in a home folder."""
    for python in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        question = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(question, check=False, user=NOBODY, group=NOBODY, extra_groups=[]).returncode == 0:
                return str(python)
        except PermissionError:
            continue
    raise NotHereError("there is no Python 3.11 that an ordinary user may run")


def copy_of_the_project(to: Path) -> Path:
    """What the worker needs; the project's own folder may be closed to an ordinary user."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "runners" / "sandbox", to / "runners" / "sandbox", ignore=ignored)
    for name in _NEEDED:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, to / name)
    return to


_workers: dict[tuple[str, str], Worker] = {}


def worker(kind: str, user: str) -> Worker:
    if (kind, user) not in _workers:
        _workers[kind, user] = Worker(kind, user)
    return _workers[kind, user]


@atexit.register
def end_workers() -> None:
    """Ends every process that tried attacks; the next attack begins a new one."""
    while _workers:
        _workers.popitem()[1].close()


def attempt(kind: str, user: str, category: str, name: str, folder: Path) -> str | None:
    del folder  # the worker's user has one of its own
    return worker(kind, user).attempt(category, name)


ATTACKS: list[Attack] = [
    Attack(f"{category} ({kind}, {user})", name, partial(attempt, kind, user, category, name))
    for category in dict.fromkeys(category for category, _ in names())
    for kind in KINDS
    for user in users()
    if user != ROOT_WATCHED or category in COUNTED
    for other, name in names()
    if other == category
]
