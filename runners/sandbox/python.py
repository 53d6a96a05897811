"""The Python that answers run on: found on the host, shown to the sandbox without any installed package."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runners.sandbox.base import Limits, Sandbox, SandboxUnavailable, View
from runners.sandbox.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a distribution's own Python may be called; it lies under /usr, which every sandbox shows.
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_PARTS = ("bin", "lib", "lib32", "lib64")
_TRIAL = (
    "import argparse, datetime, json, platform, sqlite3, sys\n"
    "print(json.dumps([platform.python_version(), platform.python_implementation(), sqlite3.sqlite_version]))"
)
_TRIAL_LIMITS = Limits(wall_s=30.0, cpu_s=15.0)


@dataclass(frozen=True)
class PythonRuntime:
    """An interpreter that works inside a sandbox.

    Attributes:
        executable: Its absolute path, the same inside and outside.
        version: For the log: implementation, version, SQLite's version.
        view: What of the host it needs. Installed packages are hidden, so that an answer runs alike on every node.
    """

    executable: str
    version: str
    view: View


_found: dict[tuple[int, str], PythonRuntime] = {}


def python_runtime(sandbox: Sandbox) -> PythonRuntime:
    """The interpreter below the one that runs us, or the system's where that one does not work inside.

    Tried once a process for each kind of sandbox.

    Raises:
        SandboxUnavailable: None works inside.
        SandboxFailed: The sandbox could not be started.
    """
    key = (os.getpid(), sandbox.isolation)
    if key not in _found:
        _found[key] = _first_that_works(sandbox)
    return _found[key]


def _first_that_works(sandbox: Sandbox) -> PythonRuntime:
    refusals = []
    for executable, view in _candidates():
        with Scratch() as folder:
            done = sandbox.run([executable, "-c", _TRIAL], workdir=folder.path, limits=_TRIAL_LIMITS, view=view)
        if done.status == "ok":
            version, implementation, sqlite = json.loads(done.stdout)
            return PythonRuntime(executable, f"{implementation} {version}, SQLite {sqlite}", view)
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        refusals.append(f"{executable}: {done.status} {said}".strip())
    from runners.sandbox.advice import install_command

    raise SandboxUnavailable(f"no Python runs inside the sandbox ({'; '.join(refusals)})", install_command("python3"))


def _candidates() -> Iterator[tuple[str, View]]:
    base: str = getattr(sys, "_base_executable", "") or sys.executable
    for executable in dict.fromkeys(os.path.realpath(path) for path in (base, *_SYSTEM_PYTHONS)):
        if os.access(executable, os.X_OK):
            yield executable, _view(Path(executable))


def _view(executable: Path) -> View:
    """The installation around `executable`: its programs and libraries, without what was installed into it."""
    prefix = executable.parent.parent
    shown = () if prefix == Path("/") else tuple(prefix / part for part in _PARTS if (prefix / part).is_dir())
    packages = [*prefix.glob("lib*/python3*/site-packages"), *Path("/usr").glob("lib*/python3*/dist-packages")]
    packages += Path("/usr/local").glob("lib*/python3*/*-packages")
    return View(read_only=shown, hidden=tuple(packages))
