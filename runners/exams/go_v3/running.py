"""Starts one run of a relay in a sandbox of its own, with pipes whose other ends stay outside, and ends it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runners.sandbox.base import BOX, MIB, Limits, SandboxFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runners.sandbox.base import Completed, Sandbox
    from runners.sandbox.python import PythonRuntime

PROGRAM: Final = BOX / "relay"
# A run ends when its scenario is over. These limits are for programs that hang, fork, or fill memory.
RUN_LIMITS: Final = Limits(
    wall_s=150.0,
    cpu_s=60.0,
    memory_bytes=1024 * MIB,
    output_bytes=4 * MIB,
    file_bytes=64 * MIB,
    processes=128,
    files=500,
)
# A report of the race detector does not end the run: what else the relay does is judged as it is.
ENVIRONMENT: Final = {
    "HOME": str(BOX),
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "GOMAXPROCS": "2",
    "GOTRACEBACK": "single",
    "GORACE": "halt_on_error=0 atexit_sleep_ms=0",
}
_LINK: Final = "link"
# From the start of the sandbox until the relay may begin, on a machine that has next to no time for it.
_START_S: Final = 60.0
_LOOK_S: Final = 0.003
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


@dataclass
class Setting:
    """What every run of one grading has in common.

    Attributes:
        sandbox: Where relays run.
        python: Takes the pipes inside.
        program: The relay, built, with `files/main.go.txt` around it.
        folder: For the work folders of the runs.
        guard_s: How long anything is waited for.
    """

    sandbox: Sandbox
    python: PythonRuntime
    program: Path
    folder: Path
    guard_s: float
    numbers: Iterator[int] = field(default_factory=itertools.count)


class Run:
    """A relay that runs in its sandbox.

    Attributes:
        ended_fd: Readable as soon as it has ended.
    """

    def __init__(self, setting: Setting, descriptors: Sequence[int]) -> None:
        """Starts the sandbox, sends `descriptors` into it and lets the relay begin; its arguments are their numbers.

        Raises:
            SandboxFailed: It could not be started, or nothing in it got as far as that.
        """
        work = setting.folder / f"run-{next(setting.numbers)}"
        work.mkdir()
        self._done: Future[Completed] = Future()
        self.ended_fd, self._ended_here = os.pipe()
        self._thread = threading.Thread(target=self._in_sandbox, args=(setting, work), daemon=True)
        self._thread.start()
        try:
            with self._connected(work) as link:
                # It waits for us, and is still ours; what it becomes has the same process.
                peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                self._process = os.pidfd_open(_CREDENTIALS.unpack(peer)[0])
                socket.send_fds(link, [b"g"], list(descriptors))
        except (OSError, SandboxFailed) as error:
            os.close(self.ended_fd)
            raise self._failure() from error

    def end(self) -> Completed:
        """Ends it if it is still there, with all that it started, and says how it ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        return self.completed(None)

    def completed(self, timeout_s: float | None) -> Completed:
        """How it ended by itself.

        Raises:
            TimeoutError: Not within `timeout_s`.
            SandboxFailed: Its sandbox did not end as it should.
        """
        return self._done.result(timeout_s)

    def close(self) -> None:
        """Give the descriptors back; after `end`."""
        self._thread.join()
        for descriptor in (self._process, self.ended_fd):
            os.close(descriptor)

    def _connected(self, work: Path) -> socket.socket:
        """The link to what waits for it inside."""
        folder = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + _START_S
        try:
            while time.monotonic() < deadline and not self._done.done():
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    # By a descriptor: a socket's name may have 107 bytes, and work folders lie deep.
                    link.connect(f"/proc/self/fd/{folder}/{_LINK}")
                    return link
                time.sleep(_LOOK_S)
        except OSError:
            link.close()
            raise
        finally:
            os.close(folder)
        link.close()
        raise self._failure()

    def _failure(self) -> SandboxFailed:
        """Why no relay began; raises what the sandbox itself raised."""
        said = "it takes too long"
        if self._done.done():
            said = self._done.result().stderr.decode("utf-8", "replace").strip()[-300:]
        return SandboxFailed(f"no relay could be started: {said}")

    def _in_sandbox(self, setting: Setting, work: Path) -> None:
        inside = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
        python = setting.python
        try:
            done = setting.sandbox.run(
                [python.executable, "-I", "-S", "-B", "-c", inside, _LINK, str(PROGRAM)],
                workdir=work,
                env=ENVIRONMENT,
                limits=RUN_LIMITS,
                view=replace(python.view, placed=((setting.program, PROGRAM),)),
            )
            self._done.set_result(done)
        except BaseException as error:
            self._done.set_exception(error)
        finally:
            os.close(self._ended_here)
