"""Runs the real command line in a real pseudo-terminal, and looks for anything in its output that is not ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
WIDTH = 120
# Sets colour 5;31;40 (which we never use), clears the screen, sets the title, writes to the clipboard, links; in C1
# too; then what turns text around, hides it, or breaks the line, and markup.
STEERS = (
    "\x1b[5;31;40m\x1b[2J\x1b]0;FORGED\x07\x1b]52;c;Rk9SR0VE\x07\x1b]8;;https://forged.example\x1b\\\x9b31m\x9d0;FORGED\x9c"
    "\u202e\u2066\u2069\u200b\u200d\ufeff\u2028\u2029\x85\x7f\x08\x0b\x0c\r[/][red]:x:"
)
FORGED_LINE = "\nerror: FORGED\nresults: FORGED\n"
HOSTILE = f"x{STEERS}{FORGED_LINE}y"
# What rich writes for us: colours, and the live view's moves of the cursor.
_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\d*[AK]|2K|1G|\?25[lh])")
_NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True)
class Shown:
    """What a command wrote to the terminal that it was started in, and how it ended."""

    text: str
    returncode: int


def in_terminal(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> Shown:
    """`quantsweep ARGUMENTS` with all its streams on a terminal 120 characters wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)), "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *(os.fspath(argument) for argument in arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=environment | dict(env or {}),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        data, deadline = b"", time.monotonic() + timeout_s
        try:
            while time.monotonic() < deadline:
                if not select.select([ours], [], [], 0.2)[0]:
                    if process.poll() is not None:
                        break  # a child that outlives it may hold the terminal open
                    continue
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # EIO: everybody has closed it
                    break
                if not piece:
                    break
                data += piece
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(1.0, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
            os.close(ours)
    return Shown(data.decode("utf-8", "surrogateescape"), process.returncode)


def what_steers(text: str, *, forged_lines: bool = True) -> str | None:
    """What in `text`, as a terminal got it, is not ours: a sentence, or None.

    Without `forged_lines` its line breaks are the foreign text's own, as in a log.
    """
    if "Traceback (most recent call last)" in text:
        return "a traceback: " + text.splitlines()[-1]
    if "\x1b[5;31;40m" in text:
        return "a colour of the foreign text's choice"
    rest = _OURS.sub("", text).replace("\r\n", "\n").replace("\r", "")
    for char in rest:
        if char != "\n" and unicodedata.category(char) in _NEVER:
            place = rest.index(char)
            return f"U+{ord(char):04X} at {rest[max(0, place - 20) : place + 20]!r}"
    forged = [line for line in rest.splitlines() if line.strip() in FORGED_LINE.splitlines()[1:]]
    return f"a line of the foreign text's own: {forged[0]}" if forged and forged_lines else None
