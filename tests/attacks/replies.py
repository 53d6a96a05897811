"""Replies, and outputs of programs, that try to hold the grader up, to crash it, or to escape their score.

Each is really graded, in the sandbox of this machine, while a second thread of this process looks at the clock: a
pattern that runs here would stop it, as it would stop an agent that then "does not answer".
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from runners.exams import get_exam
from runners.exams.base import Reply
from runners.outcomes import OutcomeClass, outcome_class
from runners.sandbox import Sandbox, SandboxUnavailable, open_sandbox
from tests.attacks import NotHereError
from tests.attacks.attack import Attack
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME = "replies: time on the host"
FAILURE = "replies: an infrastructure failure instead of a score"
# Generous: an ordinary grade takes a second, and an agent is taken for dead after twenty without a word.
STALL_S = 2.0
GRADE_S = 60.0
N = 100_000  # what 32,000 tokens hold


@cache
def _sandbox() -> Sandbox:
    try:
        return open_sandbox()
    except SandboxUnavailable as error:
        raise NotHereError(error.message) from error


@contextmanager
def _clock_watched(stalls: list[float]) -> Iterator[None]:
    """Notes how long a thread that wants to run every hundredth of a second had to wait."""
    done = threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while not done.wait(0.01):
            now = time.monotonic()
            stalls.append(now - last)
            last = now
        stalls.append(time.monotonic() - last)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def graded(text: str, folder: Path, *, most: float = 100.0) -> str | None:
    """What a reply got by being graded: time, a failure that is not its own, or more than `most` points."""
    sandbox = _sandbox()
    stalls: list[float] = []
    began = time.monotonic()
    with _clock_watched(stalls):
        try:
            grade = grade_reply(get_exam("todo"), Reply(text, finish_reason="stop"), sandbox, folder)
        except Exception as error:  # whatever it is, the row would have no score
            return f"no score: {type(error).__name__}: {str(error)[:200]}"
    took_s = time.monotonic() - began
    if max(stalls) > STALL_S:
        return f"no other thread ran for {max(stalls):.1f} s"
    if took_s > GRADE_S:
        return f"grading took {took_s:.0f} s"
    if outcome_class(grade.outcome) is OutcomeClass.INFRASTRUCTURE:
        return f"the outcome is {grade.outcome}"
    if max(grade.scores.values()) > most:
        return f"it scored {max(grade.scores.values()):g}, more than {most:g}"
    return None


def _repeated(fragment: str, before: str = "", behind: str = "") -> str:
    return before + fragment * (N // len(fragment)) + behind


IMPORT = "import sqlite3\n"
TEXTS = {
    "dashes behind a fence": _repeated("-", "```"),
    "a line of dashes and dots": _repeated("-.", "```python "),
    "backticks, and a line that goes on behind a return": _repeated("`", "", "\rx"),
    "`import` and blanks": _repeated(" ", "import", "!"),
    "`import` and tabs, line by line": _repeated("import \t \t \t!\n"),
    "`import` again and again on one line": _repeated("import "),
    "`{::::`": _repeated(":", f'{IMPORT}x = "{{', '"'),
    "`{:<`, blanks and no digit": _repeated(":<   ", f'{IMPORT}x = "{{', '"'),
    "blank lines": _repeated("\n", f"{IMPORT}try:\n", "x"),
    "thoughts without content": _repeated("<think></think>"),
    "thoughts on lines of their own": _repeated("<think>\n</think>\n"),
    "thoughts of three kinds": _repeated("<think></think>\n[THINK][/THINK]\n<thinking></thinking>\n"),
    "fences": _repeated("```\n"),
    "start markers": _repeated("#START a.py#\n"),
    "escaped quotes without an end": _repeated("\\'", f"{IMPORT}x = '", "\\"),
    "`choices=[` without an end": _repeated("choices=[", IMPORT),
    "`CREATE TABLE` without an end": _repeated("CREATE TABLE ", f"{IMPORT}x = '''"),
    "`datetime` without a call": _repeated("datetime ", IMPORT),
    "strings that might be docstrings": _repeated("''", f"{IMPORT}(", ")"),
    "a hundred thousand functions": _repeated("def f():\n", IMPORT),
    "twenty megabytes": "word " * 4_000_000,
    "twenty megabytes of dashes": "-" * 20_000_000,
}

# Programs: `one` and `other` are the todos it was given, kept in a file.
KEEPS = """
import sqlite3, sys
with open("kept", "a") as file:
    file.write(sys.argv[2] + chr(10) if sys.argv[1] == "add" else "")
one, other = [*open("kept").read().splitlines(), "", ""][:2]
"""
OUTPUTS = {
    "months without a day": "print('jan' * 80_000)",
    "blanks behind a number": "print('1' + ' ' * 200_000)",
    "a number without an end": "print('1' * 250_000)",
    "hexadecimal without an end": "print('f' * 250_000)",
    "a title with 60,000 lines below": "print(one + '-' * 60_000); print(' x\\n' * 60_000)",
    "colours without an end": "print('\\x1b[' * 100_000)",
    "titles all over": "print((one + ' ' + other + '\\n') * 8_000)",
}

# What the grader must score, whatever it is: a parser's limits, odd characters, odd endings.
PROGRAMS = {
    "an id of 140,000 digits": f"{KEEPS}\nprint('1' * 140_000, one); print('2', other)",
    "ids that no command line takes": f"{KEEPS}\nprint('#' + '1' * 65_000, one); print('#' + '2' * 65_000, other)",
    "a name of an error that fills the log": f"{KEEPS}\nsys.stderr.write('Error' * 50_000); sys.exit(1)",
    "bytes that are no text": f"{KEEPS}\nsys.stdout.buffer.write(bytes(range(256)) * 900)",
    "parentheses 100,000 deep": f"{IMPORT}{'(' * 100_000}{')' * 100_000}",
    "brackets and lambdas, deep": f"{IMPORT}{'[lambda:' * 20_000}1{']' * 20_000}",
    "100,000 signs before a number": f"{IMPORT}{'-' * 100_000}1",
    "100,000 times `not`": f"{IMPORT}x = {'not ' * 100_000}1",
    "a chain of 50,000 attributes": f"{IMPORT}x{'.x' * 50_000}",
    "100,000 additions": f"{IMPORT}x = 1{' + 1' * 100_000}",
    "a number of 100,000 digits": f"{IMPORT}x = {'9' * 100_000}",
    "an f-string in f-strings": f"{IMPORT}x = " + "f'{" * 2_000 + "1" + "}'" * 2_000,
    "nested blocks": f"{IMPORT}" + "".join(f"{' ' * depth}if 1:\n" for depth in range(300)),
    "a null byte": f"{IMPORT}x = '\0'\n",
    "half a character": f"{IMPORT}x = '\ud800'\n",
    "a byte order mark": f"\ufeff{IMPORT}",
    "an encoding that does not exist": f"# -*- coding: nonsense -*-\n{IMPORT}",
    "an encoding that runs code": f"# -*- coding: rot13 -*-\n{IMPORT}",
    "a tool call instead of a program": '{"name": "write_file", "arguments": {"content": "import sqlite3"}}',
    "only a thought": "<think>" + "import sqlite3\n" * 1000,
    "carriage returns only": "import sqlite3\rdef add():\r  pass\r",
}

ATTACKS: list[Attack] = [
    *(Attack(TIME, name, partial(graded, text, most=60.0)) for name, text in TEXTS.items()),
    *(
        Attack(TIME, f"a program prints {name}", partial(graded, f"{KEEPS}\n{body}\n"))
        for name, body in OUTPUTS.items()
    ),
    *(Attack(FAILURE, name, partial(graded, text)) for name, text in PROGRAMS.items()),
]
