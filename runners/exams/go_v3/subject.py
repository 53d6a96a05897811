"""Plays source and sink to one run of a relay, and waits for what it does; part of `inside.py`, in the sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LONG_MS = 60_000.0
RACE_EXIT = 66
_CHUNK = 65536
_KEPT_STDERR = 20_000


class Failed(Exception):  # noqa: N818 - the relay failed, and why
    """The relay did not do what the scenario asks; `timed_out`: within the guard's time."""

    def __init__(self, why: str, *, timed_out: bool = False, race: bool = False) -> None:
        super().__init__(why)
        self.timed_out, self.race = timed_out, race


class Subject:
    """One run of the relay, and the source and the sink that it talks to.

    `read_answer` and `write_answer` say what a call gets, by its number from 1 on: True: a reading, or that it has
    arrived; False: an error; None: no answer, ever.
    """

    def __init__(
        self,
        program: str,
        guard_s: float,
        *,
        buffer: int = 50,
        interval_ms: float = 2.0,
        hang_ms: float = LONG_MS,
        more: list[dict[str, object]] | None = None,
    ) -> None:
        self.guard_s = guard_s
        self.read_answer: Callable[[int], bool | None] = lambda _: True
        self.write_answer: Callable[[int], bool | None] = lambda _: True
        self.reads = self.writes = 0
        self.handed: list[int] = []
        self.arrived: list[int] = []
        self.said: list[str] = []
        self.hung: list[int] = []
        self.may_repeat = False
        self._stderr = b""
        self._kept: dict[int, bytes] = {}
        config = [settings(buffer=buffer, interval_ms=interval_ms, hang_ms=hang_ms)] if more is None else more
        self._start(program, config)

    def _start(self, program: str, config: list[dict[str, object]]) -> None:
        reads, answers_reads = os.pipe(), os.pipe()
        writes, answers_writes = os.pipe(), os.pipe()
        theirs = (answers_reads[0], reads[1], answers_writes[0], writes[1])
        self._process = subprocess.Popen(
            [program, *map(str, theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=theirs,
            start_new_session=True,
            env={"GORACE": "halt_on_error=1 atexit_sleep_ms=0", "GOMAXPROCS": "2", "HOME": "/box"},
            cwd="/box",
        )
        for fd in theirs:
            os.close(fd)
        assert self._process.stdin and self._process.stdout and self._process.stderr  # noqa: S101, PT018 - pipes, all
        self._to_source, self._to_sink = answers_reads[1], answers_writes[1]
        self._fds = [reads[0], writes[0], self._to_source, self._to_sink]
        self._selector = selectors.DefaultSelector()
        for fd, what in (
            (reads[0], self._on_read),
            (writes[0], self._on_write),
            (self._process.stdout.fileno(), self._on_word),
            (self._process.stderr.fileno(), None),
        ):
            self._selector.register(fd, selectors.EVENT_READ, what)
        self._tell(self._process.stdin.fileno(), json.dumps(config))

    # --- what scenarios say -----------------------------------------------------------------------------------

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        """Play on until it is so."""
        deadline = time.monotonic() + self.guard_s
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{what}: not within {self.guard_s:g} s", timed_out=True)
            if not self._selector.get_map():
                raise self._ended()
            for key, _ in self._selector.select(min(left, 0.1)):
                self._take(key)
            if "returned" in self.said and "cancel" not in self.said:
                raise Failed("Run returned before it was cancelled")

    def play_for(self, seconds: float, until: Callable[[], bool]) -> None:
        """Play on for so long, or until it is so."""
        ends = time.monotonic() + seconds
        with contextlib.suppress(Failed):
            self.wait("nothing", lambda: until() or time.monotonic() >= ends)

    def wait_handed(self, count: int) -> None:
        """Until so many readings were handed out."""
        self.wait(f"{count} readings are read (so far {len(self.handed)})", lambda: len(self.handed) >= count)

    def wait_arrived(self, count: int) -> None:
        """Until so many have arrived."""
        self.wait(f"{count} readings arrive", lambda: len(self.arrived) >= count)

    def wait_all(self) -> None:
        """Until everything that has been handed out so far has arrived."""
        wanted = set(self.handed)
        try:
            self.wait("what was read arrives", lambda: wanted <= set(self.arrived[-4000:]))
        except Failed as why:
            lost = len(wanted - set(self.arrived))
            raise Failed(
                f"{lost} of {len(wanted)} readings are lost ({why})", timed_out=why.timed_out, race=why.race
            ) from None

    def online(self, is_so: bool) -> None:
        """Let the sink work, or not."""
        self.write_answer = lambda _: is_so

    def cancel(self) -> None:
        """Cancel, and wait until Run has returned and the process has ended well."""
        assert self._process.stdin  # noqa: S101 - a pipe
        self.said.append("cancel")
        self._tell(self._process.stdin.fileno(), "cancel")
        self.wait("Run returns after it was cancelled", lambda: "returned" in self.said)
        self.finish()

    def finish(self) -> None:
        """Wait until the process has ended, by itself and well."""
        try:
            code = self._process.wait(self.guard_s)
        except subprocess.TimeoutExpired:
            raise Failed("the process did not end", timed_out=True) from None
        if code != 0:
            raise self._ended()

    def words(self, count: int) -> list[str]:
        """What it says of itself, as soon as there are so many words."""
        self.wait("an answer", lambda: len(self.said) >= count)
        return self.said[:count]

    # --- how it is played -------------------------------------------------------------------------------------

    def _take(self, key: selectors.SelectorKey) -> None:
        data = os.read(key.fd, _CHUNK)
        if not data:
            self._selector.unregister(key.fd)
            return
        if key.data is None:
            self._stderr = (self._stderr + data)[-_KEPT_STDERR:]
            return
        *lines, rest = (self._kept.get(key.fd, b"") + data).split(b"\n")
        self._kept[key.fd] = rest[-_CHUNK:]
        for line in lines:
            key.data(line.decode("utf-8", "replace"))

    def _on_word(self, line: str) -> None:
        if len(self.said) < 1000:
            self.said.append(line)

    def _on_read(self, line: str) -> None:
        number = line.split(maxsplit=1)[0]
        self.reads += 1
        answer = self.read_answer(self.reads)
        if answer is None:
            self.hung.append(self.reads)
            return
        if answer:
            # A step that a relay does not know: what it writes it must have read.
            self.handed.append((self.handed[-1] if self.handed else 1000) + 1 + self.reads * 7919 % 3)
        self._tell(self._to_source, f"{number} {self.handed[-1] if answer else 'none'}")

    def _on_write(self, line: str) -> None:
        number, _, seq_text, value = line.split()
        seq = int(seq_text)
        if float(value) != seq / 2 or seq not in self.handed[-5000:]:
            raise Failed("it wrote a reading that it had not read")
        self.writes += 1
        answer = self.write_answer(self.writes)
        if answer is None:
            self.hung.append(seq)
            return
        if answer:
            if seq in self.arrived and not self.may_repeat:
                raise Failed("it wrote a reading again that had arrived")
            self.arrived.append(seq)
        self._tell(self._to_sink, f"{number} {'ok' if answer else 'down'}")

    def _tell(self, fd: int, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(fd, text.encode() + b"\n")

    def _ended(self) -> Failed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.guard_s)
        code = self._process.poll()
        if self._process.stderr:
            with contextlib.suppress(OSError, ValueError):
                os.set_blocking(self._process.stderr.fileno(), False)
                self._stderr += os.read(self._process.stderr.fileno(), _CHUNK)
        said = self._stderr.decode("utf-8", "replace")
        if code == RACE_EXIT or "WARNING: DATA RACE" in said:
            return Failed("a data race", race=True)
        lines = [line for line in said.splitlines() if line.startswith(("panic:", "fatal error:"))]
        return Failed(f"the process ended with {code}: {(lines or ['without a word'])[0][:200]}")

    def close(self) -> None:
        """End it, with all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for fd in self._fds:
            os.close(fd)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def settings(
    *, buffer: int = 50, interval_ms: float = 2.0, hang_ms: float = LONG_MS, source: bool = True, sink: bool = True
) -> dict[str, object]:
    """A configuration as the program reads it."""
    return {
        "Source": source,
        "Sink": sink,
        "IntervalUS": int(interval_ms * 1000),
        "HangTimeoutUS": int(hang_ms * 1000),
        "BufferSize": buffer,
    }
