"""What the tests of runners.textwork have done in its process: well-behaved, slow, greedy, crashing."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path


def echo(value: object) -> object:
    return value


def pid() -> int:
    return os.getpid()


def quadratic(count: int) -> int:
    """Holds the interpreter's lock within one match, as a bad pattern does."""
    return len(re.findall(r"(?:a|b)*c", "ab" * count))


def greedy() -> int:
    return len(["x" * 1_000_000 for _ in range(4_000)])


def raises() -> None:
    raise KeyError("no such thing")


def recurses(depth: int) -> int:
    return recurses(depth + 1)


def crashes(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(10)


def environment() -> dict[str, str]:
    return dict(os.environ)


def writes(path: str) -> None:
    Path(path).write_text("x", encoding="ascii")


def prints() -> int:
    print("this goes nowhere")
    os.write(1, b"and this")
    return 7
