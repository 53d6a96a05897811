"""Leaving Ray within a bounded time, also when it hangs: its own shutdown waits for a head that does not answer."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_stuck: list[threading.Thread] = []
"""Threads that still wait inside Ray's C++ code, which the interpreter's normal end would crash on."""


def within(seconds: float, call: Callable[[], Any], name: str) -> BaseException | None:
    """Runs `call` in a thread, and returns what it raised, or None; `TimeoutError` if it is not done in time.

    A thread that is not done is left behind: it cannot be ended, and `leave` then ends the process without waiting.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # handed over to the caller
            raised.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _stuck.append(thread)  # before it starts: Ctrl-C may end our wait
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return TimeoutError(f"{name} took more than {seconds:.0f} s")
    _stuck.remove(thread)
    return raised[0] if raised else None


def leave(code: int) -> None:
    """Ends the process with this exit code at once if Ray still hangs; returns if it does not.

    The command line calls it last: everything is written and has arrived by then.
    """
    if any(thread.is_alive() for thread in _stuck):
        os._exit(code)
