"""A llama-server program looked at before it is used: does it run here, which build is it, what does it know."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.probe.engines import listed_devices
from profiles.probe.system import System
from runners.engines.base import EngineUnavailable
from runners.engines.llama_cpp import server_environment

if TYPE_CHECKING:
    from pathlib import Path

# A build for several GPUs looks for all of them before it prints anything.
_ASK_TIMEOUT_S = 60.0
# "version: 6327 (4d74393b)" until 2026, "version: 0.5.0-dev (build 1, commit 0c1e570)" since.
_VERSION = re.compile(r"(?<!\S)version:\s*+(?:\S++ \(build (\d+), commit (\w+)\)|(\d+) \((\w+)\))")
_FLAG_LINE = re.compile(r"^(-[^\s,]+(?:,\s+-[^\s,]+)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Program:
    """`build` names it in results; `help_text` is the whole of `--help`, `flags` every flag in it."""

    path: Path
    build: str
    help_text: str
    flags: frozenset[str]
    devices: tuple[str, ...]

    def knows(self, flag: str) -> bool:
        """Whether this build has that flag."""
        return flag in self.flags


def parse_flags(help_text: str) -> frozenset[str]:
    """The flags a help text lists at the beginning of its lines: "-fa,   --flash-attn [on|off|auto]  set ..."."""
    found: set[str] = set()
    for line in _FLAG_LINE.findall(help_text):
        found.update(part.strip() for part in line.split(","))
    return frozenset(found)


def parse_build(version_text: str) -> str | None:
    """The build as llama.cpp itself writes it, b6327-4d74393b; None if the text names none."""
    found = _VERSION.search(version_text)
    if found is None:
        return None
    return f"b{found[1] or found[3]}-{found[2] or found[4]}"


def examine(path: Path, kind: str) -> Program | EngineUnavailable:
    """Run the program's `--version`, `--help` and `--list-devices`; once, as long as the file does not change."""
    if not os.access(path, os.X_OK):
        return EngineUnavailable(kind=kind, reason=f"{path} is not executable", hint=f"chmod +x {path}")
    try:
        status = path.stat()
    except OSError as error:
        return EngineUnavailable(kind=kind, reason=_cannot_run(path, error), hint=_HINTS.get(error.errno or 0, ""))
    key = (path, status.st_mtime_ns, status.st_size)
    if key in _known:
        return _known[key]
    found = _examine(path, kind)
    if isinstance(found, Program):  # a failure may pass: a driver that hung, a machine that was busy
        _known[key] = found
    return found


_known: dict[tuple[Path, int, int], Program] = {}


def _examine(path: Path, kind: str) -> Program | EngineUnavailable:
    try:
        version = _ask(path, "--version")
        build = parse_build(version)
        if build is None:
            said = (version.strip().splitlines() or ["nothing"])[-1]
            hint = "name the llama-server of a llama.cpp build"
            return EngineUnavailable(kind=kind, reason=f"{path} does not say its version, but: {said}", hint=hint)
        help_text = _ask(path, "--help")
        listed = _ask(path, "--list-devices") if "--list-devices" in help_text else ""
    except OSError as error:
        return EngineUnavailable(kind=kind, reason=_cannot_run(path, error), hint=_HINTS.get(error.errno or 0, ""))
    except _NoAnswerError as why:
        return EngineUnavailable(kind=kind, reason=str(why), hint="run it by hand; a GPU driver may hang")
    devices = tuple(device.name for device in listed_devices(listed))
    return Program(path, f"llama.cpp {build}", help_text, parse_flags(help_text), devices)


_HINTS = {
    errno.ENOEXEC: "get the build for this machine's architecture",
    errno.ENOENT: "its interpreter or loader is missing: get the build for this system",
    errno.EACCES: "make it executable, on a file system that is not mounted noexec",
}


def _cannot_run(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return f"{path} is no program for this machine ({os.uname().machine})"
    return f"{path} cannot be run: {error.strerror}"


class _NoAnswerError(Exception):
    """It was started, and did not end by itself; the text says why not."""


def _ask(path: Path, flag: str) -> str:
    """What the program prints, whatever its exit code: some crash after their answer."""
    answer = System().answer([str(path), flag], timeout_s=_ASK_TIMEOUT_S, environment=server_environment())
    if answer.error is not None:
        raise answer.error
    if answer.failure is not None:
        raise _NoAnswerError(f"{path} {flag}: {answer.failure}")
    return answer.text
