"""Runs a program in a sandbox beside a mock that is outside it: how it is started, signalled, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from runners.sandbox.base import BOX, MIB, Limits, SandboxFailed

from .mock import Mock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.sandbox.base import Completed, Sandbox
    from runners.sandbox.python import PythonRuntime

PROGRAM: Final = BOX / "scraper"
# A run ends when its scenario is over. These limits are for programs that hang, fork, or fill memory.
RUN_LIMITS: Final = Limits(
    wall_s=150.0,
    cpu_s=60.0,
    memory_bytes=1024 * MIB,
    output_bytes=16 * MIB,
    file_bytes=64 * MIB,
    processes=128,
    files=500,
)
ENVIRONMENT: Final = {
    "HOME": str(BOX),
    "PATH": "/usr/bin:/bin",
    "TZ": "UTC",
    "GOMAXPROCS": "2",
    "GOTRACEBACK": "single",
}
_LINK: Final = "link"
# From the start of the sandbox until the program may begin, on a machine that has next to no time for it.
_START_S: Final = 60.0
_LOOK_S: Final = 0.005
# What ends a program that its scenario is done with, one after the other; only the last is never refused.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
_END_S: Final = 3.0


@dataclass
class Setting:
    """What every run of one grading has in common.

    Attributes:
        sandbox: Where programs run.
        python: Opens the port inside.
        folder: For the work folders of the runs.
    """

    sandbox: Sandbox
    python: PythonRuntime
    folder: Path


class Running:
    """One run of one program, and the mock that it talks to; used with `async with`.

    Attributes:
        mock: The inverter and the sink.
        completed: How it ended, once it has.
    """

    def __init__(self, setting: Setting, binary: Path, flags: Sequence[str], name: str) -> None:
        self.mock = Mock()
        self.completed: Completed | None = None
        self._setting, self._binary, self._flags, self._name = setting, binary, flags, name
        self._run: asyncio.Task[None] | None = None
        self._link: socket.socket | None = None

    @property
    def ended(self) -> bool:
        """Whether the program is gone."""
        return self.completed is not None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def send(self, number: int) -> None:
        """Sends the program a signal; nothing if it is gone."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.send(bytes([number]))

    async def until_ended(self, timeout_s: float) -> bool:
        """Waits for the program's end; False if it does not come within `timeout_s`."""
        return await self.mock.until(lambda: self.ended, timeout_s)

    async def finish(self) -> Completed:
        """Ends the program if it is still there, and says how it ended.

        Raises:
            SandboxFailed: The sandbox could not be started, or did not end.
        """
        for number in _ENDING:
            if self.ended:
                break
            self.send(number)
            await self.until_ended(_END_S)
        if self._run is not None:
            await self._run
        if self.completed is None:
            raise SandboxFailed("the sandbox of a scenario never began")
        return self.completed

    async def _start(self) -> None:
        """Starts the sandbox, takes the listening socket that is sent out of it, and lets the program begin.

        Raises:
            SandboxFailed: It could not be started, or nothing in it got as far as that.
        """
        work = self._setting.folder / self._name
        work.mkdir()
        self._run = asyncio.create_task(self._in_sandbox(work))
        self._link = link = await self._connected(work)
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(link, readable.set)
        reading = asyncio.create_task(readable.wait())
        await asyncio.wait({reading, self._run}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        loop.remove_reader(link)
        reading.cancel()
        descriptors = socket.recv_fds(link, 16, 1)[1] if readable.is_set() else []
        if not descriptors:
            raise self._failure()
        listener = socket.socket(fileno=descriptors[0])
        listener.setblocking(False)
        await self.mock.open(listener)
        link.send(b"g")

    async def _connected(self, work: Path) -> socket.socket:
        """The link to what waits for it inside; no program runs there yet."""
        folder = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + _START_S
        try:
            while time.monotonic() < deadline and self._run is not None and not self._run.done():
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    # By a descriptor: a socket's name may have 107 bytes, and work folders lie deep.
                    link.connect(f"/proc/self/fd/{folder}/{_LINK}")
                    link.setblocking(False)
                    return link
                await asyncio.sleep(_LOOK_S)
        except OSError:
            link.close()
            raise
        finally:
            os.close(folder)
        link.close()
        raise self._failure()

    def _failure(self) -> SandboxFailed:
        """Why no program began; raises what the sandbox itself raised."""
        if self._run is not None and self._run.done():
            self._run.result()
        done = self.completed
        said = done.stderr.decode("utf-8", "replace").strip()[-300:] if done is not None else "it takes too long"
        return SandboxFailed(f"no program could be started beside the mock: {said}")

    async def _in_sandbox(self, work: Path) -> None:
        python = self._setting.python
        inside = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
        try:
            self.completed = await asyncio.to_thread(
                self._setting.sandbox.run,
                [python.executable, "-I", "-S", "-B", "-c", inside, _LINK, str(PROGRAM), *self._flags],
                workdir=work,
                env=ENVIRONMENT,
                limits=RUN_LIMITS,
                view=replace(python.view, placed=((self._binary, PROGRAM),)),
            )
        finally:
            self.mock.notify()

    async def _stop(self) -> None:
        """Nothing of the run is left after this."""
        if self._run is not None and not self._run.done():
            for number in _ENDING:
                self.send(number)
                if await self.until_ended(_END_S):
                    break
            with contextlib.suppress(Exception):
                await self._run
        if self._link is not None:
            self._link.close()
            self._link = None
        await self.mock.close()
