"""A sandbox that notes when the machine may have ended a program, so that nobody's score depends on that.

SIGKILL comes from the machine (its memory ran out, somebody cleaned up) or from the program itself, and nothing tells
the two apart; nor a program that waits until its time is up from one that was stopped, or that a busy machine gave no
time to. So such a grade is made once more, from the start: the machine does not do it twice, a program does.
"""

from __future__ import annotations

from signal import SIGKILL
from typing import TYPE_CHECKING

from runners.sandbox.base import DEFAULT_LIMITS, SYSTEM_ONLY, Completed, Limits, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runners.sandbox.base import Sandbox


class Witness:
    """Runs everything in `sandbox`. `doubt` says why a grade that came of it is in doubt; empty if it is not."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.isolation = sandbox.isolation
        self.doubt = ""
        self._sandbox = sandbox

    def run(
        self,
        argv: Sequence[str],
        *,
        workdir: Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        view: View = SYSTEM_ONLY,
    ) -> Completed:
        """See `Sandbox.run`."""
        done = self._sandbox.run(argv, workdir=workdir, stdin=stdin, env=env, limits=limits, view=view)
        if done.status == "signal" and done.signal == SIGKILL:
            self.doubt = "a program was killed, and the machine may have done that"
        elif done.idle:
            self.doubt = "a program's time ran out while it hardly had any, and the machine may have done that"
        return done
