"""Works on texts that a model or its program wrote in a process of their own, with limits on its time and memory.

    found = textwork.run(read_reply, reply.text)

A text can be made so that a rule takes long, needs much memory, or crashes the interpreter; and while a pattern is
being matched, no other thread of the process runs. So no rule is applied to such a text in the agent's process. What is
run so is a function at the top of a module that imports little; it takes and returns what JSON can say (a tuple comes
back as a list).

Whose failure it is:

- The work used up its CPU time or memory, raised, or crashed its process: `TextLimitError`. That was the text's doing,
  it would happen again, and it has to be scored.
- The process could not be started, was killed from outside, or got hardly any CPU: tried again in a new one, then
  `TextWorkerError`. That is the machine's.

A process is started before it is needed (`warm`), is used by one thread at a time, stays for the next text, is thrown
away after any failure, and ends with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from runners.errors import RunnersError
from runners.sandbox.spawner import spawn
from runners.textwork_child import HEAD_BYTES, MEMORY_EXIT_CODE, body_length, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

# An ordinary reply takes a hundredth of a second; a million characters of the worst kind, two or three.
CPU_S = 10.0
MEMORY_BYTES = 256 * 1024 * 1024
# Without an answer for so long, the process was stopped or starved: its CPU time would have ended it before.
WALL_S = 60.0
_TRIES = 3
_IDLE_KEPT = 8
_PIECE_BYTES = 65536
_CHILD = Path(__file__).with_name("textwork_child.py")
# What an interpreter may need to find its own libraries; nothing else of the environment is passed on.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}

P = ParamSpec("P")
R = TypeVar("R")


class TextLimitError(Exception):
    """A text that could not be worked through within the limits; the sentence says which of them."""


class TextWorkerError(RunnersError):
    """No process could be had for work on texts (outcome `grader_crash`)."""


class _LostError(Exception):
    """The process is gone, or does not answer, and no text is to blame."""


def run(work: Callable[P, R], *arguments: P.args, **_none: P.kwargs) -> R:
    """What `work(*arguments)` returns, worked out in a process of its own.

    Raises:
        TextLimitError: It used up its time or memory, raised, or crashed: the text's doing.
        TextWorkerError: There is no process to do it: the machine's.
    """
    request = encode([work.__module__, work.__qualname__, arguments, _folders_of(work.__module__)])
    pool = _pool(os.getpid())
    lost = ""
    for attempt in range(_TRIES):
        try:
            worker = pool.take(fresh=attempt > 0)
        except OSError as error:
            lost = f"it could not be started: {error.strerror or error}"
            continue
        try:
            answer = worker.ask(request, time.monotonic() + WALL_S)
        except _LostError as error:
            worker.end()
            lost = str(error)
            continue
        except BaseException:
            worker.end()
            raise
        if "value" in answer:
            pool.give_back(worker)
        else:
            worker.end()
        value: R = _value(answer)
        return value
    raise TextWorkerError(
        f"the process that reads replies failed {_TRIES} times: {lost}",
        "look for what stops or kills processes of this user here: little memory, a limit on processes",
    )


def _folders_of(module: str) -> list[str]:
    """Where the package of a module lies that no installation knows: that of an exam's grader.py; else nothing."""
    package = sys.modules.get(module.partition(".")[0])
    return [] if getattr(package, "__spec__", None) is not None else list(getattr(package, "__path__", []))


def warm() -> None:
    """Begins to start a process, so that the first text need not wait for it. Whatever is wrong, `run` says."""
    with contextlib.suppress(OSError):
        _pool(os.getpid()).warm()


def _value(answer: dict[str, Any]) -> Any:
    if "value" in answer:
        return answer["value"]
    if "broken" in answer:
        raise TextWorkerError(f"a rule for texts cannot be loaded: {answer['broken']}", "install quantsweep again")
    if "raised" in answer:
        raise TextLimitError(f"the rules cannot take it ({answer['raised']})")
    raise TextLimitError(_too_much_memory())


def _too_much_memory() -> str:
    return f"reading it takes more than {MEMORY_BYTES >> 20} MiB of memory"


class _Worker:
    """One process; used by one thread at a time.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self) -> None:
        folder = _CHILD.parent.parent
        argv = [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid()), str(folder), str(CPU_S), str(MEMORY_BYTES)]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = spawn(argv, env=environment, stdin=subprocess.PIPE, pass_fds=())
        self._ready = False
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: bytes, deadline_s: float) -> dict[str, Any]:
        """The answer to `request`, at the latest by `deadline_s` (`time.monotonic`).

        Raises:
            TextLimitError: The process ended over it.
            _LostError: The process ended for another reason, or does not answer.
        """
        try:
            if not self._ready:
                self._receive(deadline_s)
                self._ready = True
            self._send(request, deadline_s)
            answer: dict[str, Any] = self._receive(deadline_s)
        except EOFError:
            raise self._why_it_ended() from None
        return answer

    def _send(self, data: bytes, deadline_s: float) -> None:
        pipe = self._process.stdin
        view = memoryview(data)
        while view and pipe is not None:
            _wait_for(pipe.fileno(), select.POLLOUT, deadline_s)
            try:
                view = view[os.write(pipe.fileno(), view[:_PIECE_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise EOFError from None

    def _receive(self, deadline_s: float) -> Any:
        return decode(self._read(body_length(self._read(HEAD_BYTES, deadline_s)), deadline_s))

    def _read(self, count: int, deadline_s: float) -> bytes:
        data = bytearray()
        pipe = self._process.stdout
        while len(data) < count and pipe is not None:
            _wait_for(pipe.fileno(), select.POLLIN, deadline_s)
            try:
                piece = os.read(pipe.fileno(), min(count - len(data), 16 * _PIECE_BYTES))
            except BlockingIOError:
                continue
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def _why_it_ended(self) -> Exception:
        """Whose doing the end of the process was."""
        try:
            code = self._process.wait(WALL_S)
        except subprocess.TimeoutExpired:
            return _LostError("it closed its pipes and did not end")
        if code == MEMORY_EXIT_CODE:
            return TextLimitError(_too_much_memory())
        if code == -signal.SIGPROF:
            return TextLimitError(f"reading it takes more than {CPU_S:g} s of CPU time")
        if -code in _CRASHES and self._ready:
            return TextLimitError(f"reading it crashes the interpreter ({signal.Signals(-code).name})")
        said = self._process.stderr.read(_PIECE_BYTES) if self._process.stderr is not None else b""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last_line = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return _LostError(f"it ended with {how} {last_line}".strip())

    def end(self) -> None:
        """Kill it. May be called again."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _wait_for(descriptor: int, event: int, deadline_s: float) -> None:
    """Return when the descriptor is ready, or its other end is closed."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
        raise _LostError(f"it did not answer for {WALL_S:g} s")


class _Pool:
    """Processes that wait for the next text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        atexit.register(self.close)

    def take(self, *, fresh: bool) -> _Worker:
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        return _Worker()

    def give_back(self, worker: _Worker) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_KEPT:
                self._idle.append(worker)
                return
        worker.end()

    def warm(self) -> None:
        with self._lock:
            if self._idle:
                return
        self.give_back(_Worker())

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()


@functools.lru_cache(maxsize=1)
def _pool(pid: int) -> _Pool:
    """Of this process: one forked from it has the pipes but must not use them."""
    del pid  # the key alone
    return _Pool()
