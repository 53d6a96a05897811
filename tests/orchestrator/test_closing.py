"""A call that hangs in Ray is left behind, and the process still ends with its own exit code."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from orchestrator.cluster.closing import leave, within


def test_what_a_call_raises_is_handed_over() -> None:
    assert within(5, lambda: None, "nothing") is None
    error = within(5, lambda: int("x"), "a mistake")
    assert isinstance(error, ValueError)
    leave(7)  # nothing hangs: it returns


@pytest.mark.parametrize("code", [0, 2])
def test_a_call_that_hangs_is_left_behind(code: int) -> None:
    program = (
        "import atexit, time\n"
        "from orchestrator.cluster.closing import leave, within\n"
        "atexit.register(time.sleep, 60)\n"  # as Ray's own shutdown would
        "print(within(0.1, lambda: time.sleep(60), 'leaving Ray'), flush=True)\n"
        f"leave({code})\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == code
    assert done.stdout == "leaving Ray took more than 0 s\n"
    assert time.monotonic() - begun < 40
