"""Where probes read: a machine's files under a root and the programs on a search path, bounded and never fatal."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from profiles.environment import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiles.types import Device, Notice

MAX_FILE_BYTES = 1 << 20
"""No file of /proc or /sys that we read comes near this, no answer of a program either; a broken one must not fill our
memory."""
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Found:
    """What one probe brings home."""

    devices: tuple[Device, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed. ``exit_code`` is None where it did not end by itself, and ``failure`` says why.

    ``error`` is the system's, where the program could not be started at all.
    """

    text: str
    exit_code: int | None
    failure: str | None
    error: OSError | None = None


@dataclass(frozen=True, slots=True)
class System:
    """The machine to look at. Tests give a folder that holds the ``proc`` and ``sys`` of another one.

    ``search_path`` is where programs are looked up, in the form of ``PATH``; None takes the process's own.
    ``platform`` is as in ``sys.platform``.
    """

    root: Path = field(default_factory=lambda: Path("/"))
    search_path: str | None = None
    platform: str = sys.platform

    def path(self, name: str) -> Path:
        """``/sys/class/drm`` as it is found under this machine's root."""
        return self.root / name.lstrip("/")

    def text(self, name: str | Path) -> str | None:
        """A file's contents without surrounding white space; None where it is absent, unreadable or no text."""
        path = name if isinstance(name, Path) else self.path(name)
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError):
            return None

    def integer(self, name: str | Path) -> int | None:
        """A file that holds one decimal number, None for anything else (``max``, empty, absent)."""
        text = self.text(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def entries(self, name: str | Path) -> Iterator[Path]:
        """A folder's entries in the order of their names; none where there is no such folder."""
        path = name if isinstance(name, Path) else self.path(name)
        try:
            yield from sorted(path.iterdir())
        except OSError:
            return

    def which(self, program: str) -> str | None:
        """The full path of a program on the search path."""
        return shutil.which(program, path=self.search_path)

    @property
    def is_ours(self) -> bool:
        """Whether this is the machine we run on, and not one that is shown to the probes."""
        return self == System()

    def output(self, command: Sequence[str], *, timeout_s: float = 5.0) -> str | None:
        """What a program prints (standard output, then standard error); None where it fails, hangs or is not there."""
        answer = self.answer(command, timeout_s=timeout_s)
        return answer.text if answer.exit_code == 0 else None

    def answer(
        self, command: Sequence[str], *, timeout_s: float = 5.0, environment: dict[str, str] | None = None
    ) -> Answer:
        """What a program prints and how it ended, whatever that was.

        The program runs with an empty input and in a process group of its own, which is killed when the time is up: a
        wrapper script's children do not outlive the question.
        """
        program = self.which(command[0])
        if program is None:
            return Answer("", None, f"{command[0]} is not here, or cannot be run")
        try:
            process = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=child_environment(LC_ALL="C") if environment is None else environment,
            )
        except OSError as error:
            return Answer("", None, f"it cannot be run: {error.strerror or error}", error)
        with process:
            out, err, failure = _read(process, timeout_s)
            if failure is not None:
                _kill_group(process.pid)
        text = (out + err)[:MAX_FILE_BYTES].decode(errors="replace").strip()
        return Answer(text, process.returncode if failure is None else None, failure)


def _read(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[bytes, bytes, str | None]:
    """Standard output and error up to their ends; else what came until then, and why no more was waited for."""
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
    texts = {pipe.fileno(): bytearray() for pipe in pipes}
    failure = None
    deadline_s = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for descriptor in texts:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and failure is None:
            left_s = deadline_s - time.monotonic()
            for key, _ in selector.select(max(0.0, left_s)):
                chunk = os.read(key.fd, CHUNK_BYTES)
                texts[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
                if len(texts[key.fd]) > MAX_FILE_BYTES:
                    failure = "it prints without end"
            if left_s <= 0 and selector.get_map():
                failure = failure or f"it did not answer within {timeout_s:g} s"
    if failure is None:
        try:
            process.wait(max(1.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            failure = f"it did not end within {timeout_s:g} s"
    out, err = texts.values()
    return bytes(out), bytes(err), failure


def _kill_group(pid: int) -> None:
    import signal

    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
