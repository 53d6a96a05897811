"""Plays source and sink to one run of a relay, from outside its sandbox, and waits for what it does."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import time
from typing import TYPE_CHECKING, Final

from .running import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.sandbox.base import Completed

    from .running import Setting

LONG_MS: Final = 60_000.0
# What the Go race detector lets a program exit with that it has found something in, and the head of its reports.
_RACE_EXIT, _RACE = 66, b"WARNING: DATA RACE"
_CHUNK = 65536
# So many readings less than there is room for: some are on their way.
_SPARE = 5
# A relay that reads every half millisecond asks for some ten thousand in the longest scenario.
_MOST_REQUESTS = 100_000
# We look this often at least: more time than that between two looks is time in which we stood still.
_LOOK_S = 0.1


class Failed(Exception):  # noqa: N818 - the relay failed, and why
    """The relay did not do what the scenario asks; `timed_out`: within the guard's time."""

    def __init__(self, why: str, *, timed_out: bool = False) -> None:
        super().__init__(why)
        self.timed_out = timed_out


class Subject:
    """One run of the relay, and the source and the sink that it talks to.

    What it says of itself are two things only: what New made of a configuration, and that Run has returned. What it
    read and wrote is what came through the pipes.

    Attributes:
        read_answer, write_answer: What a call gets, by its number from 1 on: True: a reading, or that it has arrived;
            False: an error; None: no answer, as yet.
        handed, arrived: The readings that were handed out, and those that have arrived, in order.
        known, there: The same as sets.
        hung: Calls without an answer: numbers of reads, and the readings of writes.
        said: What the relay's process said of itself.
        spares_room: Whether no more readings are handed out than the buffer has room for.
        may_repeat: Whether a reading that has arrived may be written again, as its first write was given up.
        completed: How it ended; None until `close`, or `finish`.
        crashed: Whether it ended by itself, and not well.
        raced: Whether the race detector found something.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        buffer: int = 50,
        interval_ms: float = 2.0,
        hang_ms: float = LONG_MS,
        more: list[dict[str, object]] | None = None,
    ) -> None:
        self.guard_s = setting.guard_s
        self.read_answer: Callable[[int], bool | None] = lambda _: True
        self.write_answer: Callable[[int], bool | None] = lambda _: True
        self.reads = self.writes = 0
        self.handed: list[int] = []
        self.arrived: list[int] = []
        self.known: set[int] = set()
        self.there: set[int] = set()
        self.said: list[str] = []
        self.hung: list[int] = []
        self.may_repeat = self.spares_room = False
        self._buffer = buffer
        self.completed: Completed | None = None
        self.crashed = self.raced = False
        self._unanswered: list[str] = []
        self._kept: dict[int, bytes] = {}
        config = [settings(buffer=buffer, interval_ms=interval_ms, hang_ms=hang_ms)] if more is None else more
        self._start(setting, config)

    def _start(self, setting: Setting, config: list[dict[str, object]]) -> None:
        """Raises: SandboxFailed: Its sandbox could not be started."""
        reads, answers_reads, writes, answers_writes, control, words = (os.pipe() for _ in range(6))
        theirs = (answers_reads[0], reads[1], answers_writes[0], writes[1], control[0], words[1])
        ours = (reads[0], writes[0], words[0], answers_reads[1], answers_writes[1], control[1])
        try:
            self._run = Run(setting, theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._fds = ours
        for fd in ours:
            os.set_blocking(fd, False)
        self._to_source, self._to_sink, self._to_control = ours[3:]
        self._selector = selectors.DefaultSelector()
        for fd, what in zip(ours, (self._on_read, self._on_write, self._on_word), strict=False):
            self._selector.register(fd, selectors.EVENT_READ, what)
        self._tell(self._to_control, json.dumps(config))

    # --- what scenarios say -----------------------------------------------------------------------------------

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        """Play on until it is so.

        Raises:
            Failed: It is not so within the guard's time, in which we were not stopped, or the relay is gone.
        """
        left, looked = self.guard_s, time.monotonic()
        while not until():
            if left <= 0:
                raise Failed(f"{what}: not within {self.guard_s:g} s", timed_out=True)
            if not self._selector.get_map():
                raise self._ended()
            for key, _ in self._selector.select(min(left, _LOOK_S)):
                self._take(key)
            now = time.monotonic()
            left, looked = left - min(now - looked, 2 * _LOOK_S), now
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

    def wait_kept(self, count: int) -> None:
        """Until so many more readings were handed out, or as many as there is room for."""
        wanted = len(self.handed) + count
        self.wait(f"{count} readings are read", lambda: len(self.handed) >= wanted or self._is_full)

    def wait_arrived(self, count: int) -> None:
        """Until so many have arrived."""
        self.wait(f"{count} readings arrive", lambda: len(self.arrived) >= count)

    def wait_all(self) -> None:
        """Until everything that has been handed out so far has arrived."""
        wanted = set(self.handed)
        try:
            self.wait("what was read arrives", lambda: wanted <= self.there)
        except Failed as why:
            lost = len(wanted - self.there)
            raise Failed(f"{lost} of {len(wanted)} readings are lost ({why})", timed_out=why.timed_out) from None

    def online(self, is_so: bool) -> None:
        """Let the sink work, or not."""
        self.write_answer = lambda _: is_so

    def answer_hung_writes(self, *, arrive: bool) -> None:
        """Answer the writes that hang, at last."""
        for number in self._unanswered:
            self._tell(self._to_sink, f"{number} {'ok' if arrive else 'down'}")
        self._unanswered = []

    def cancel(self) -> None:
        """Cancel, and wait until Run has returned and the process has ended well."""
        self.said.append("cancel")
        self._tell(self._to_control, "cancel")
        self.wait("Run returns after it was cancelled", lambda: "returned" in self.said)
        self.finish()

    def finish(self) -> None:
        """Wait until the process has ended, by itself and well.

        Raises:
            Failed: It has not.
        """
        try:
            self.completed = self._run.completed(self.guard_s)
        except TimeoutError:
            raise Failed("the process did not end", timed_out=True) from None
        self._look_at_end(self.completed)
        if self.crashed:
            raise self._ended()

    def words(self, count: int) -> list[str]:
        """What it says of itself, as soon as there are so many words."""
        self.wait("an answer", lambda: len(self.said) >= count)
        return self.said[:count]

    # --- how it is played -------------------------------------------------------------------------------------

    def _take(self, key: selectors.SelectorKey) -> None:
        try:
            data = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(key.fd)
            return
        *lines, rest = (self._kept.get(key.fd, b"") + data).split(b"\n")
        self._kept[key.fd] = rest[-_CHUNK:]
        for line in lines:
            try:
                key.data(line.decode("utf-8", "replace"))
            except (ValueError, IndexError) as error:
                raise Failed(f"it talks to source or sink past what it was given: {error}"[:200]) from None

    def _on_word(self, line: str) -> None:
        if len(self.said) < 1000:
            self.said.append(line)

    def _on_read(self, line: str) -> None:
        number = line.split(maxsplit=1)[0]
        self.reads += 1
        self._count()
        # Where nothing may be lost there is room: on a machine that stands still writes lag behind reads.
        answer = False if self._is_full else self.read_answer(self.reads)
        if answer is None:
            self.hung.append(self.reads)
            return
        if answer:
            # A step that a relay does not know: what it writes it must have read.
            self.handed.append((self.handed[-1] if self.handed else 1000) + 1 + self.reads * 7919 % 3)
            self.known.add(self.handed[-1])
        self._tell(self._to_source, f"{number} {self.handed[-1] if answer else 'none'}")

    def _on_write(self, line: str) -> None:
        number, _, seq_text, value = line.split()
        seq = int(seq_text)
        if float(value) != seq / 2 or seq not in self.known:
            raise Failed("it wrote a reading that it had not read")
        self.writes += 1
        self._count()
        answer = self.write_answer(self.writes)
        if answer is None:
            self.hung.append(seq)
            self._unanswered.append(number)
            return
        if answer:
            # A relay that is cancelled does not hear of what has just arrived, and may try once more.
            if seq in self.there and not self.may_repeat and "cancel" not in self.said:
                raise Failed("it wrote a reading again that had arrived")
            self.arrived.append(seq)
            self.there.add(seq)
        self._tell(self._to_sink, f"{number} {'ok' if answer else 'down'}")

    @property
    def _is_full(self) -> bool:
        return self.spares_room and len(self.known) - len(self.there) >= self._buffer - _SPARE

    def _count(self) -> None:
        if self.reads + self.writes > _MOST_REQUESTS:
            raise Failed("it reads and writes without end")

    def _tell(self, fd: int, text: str) -> None:
        try:
            with contextlib.suppress(BrokenPipeError):
                os.write(fd, text.encode() + b"\n")
        except BlockingIOError:
            raise Failed("it asks and does not take the answers") from None

    def _look_at_end(self, done: Completed) -> None:
        self.raced = done.exit_code == _RACE_EXIT or _RACE in done.stderr
        self.crashed = done.status != "ok" and not (self.raced and done.exit_code == _RACE_EXIT)

    def _ended(self) -> Failed:
        """Why it is gone, which it should not be."""
        self.completed = self.completed or self._run.end()
        self._look_at_end(self.completed)
        done = self.completed
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        said = [line for line in lines if line.startswith(("panic:", "fatal error:"))] or ["without a word"]
        how = f"with {done.exit_code}" if done.exit_code is not None else f"by {done.signal or done.status}"
        return Failed(f"the process ended {how}: {said[0][:200]}")

    def close(self) -> None:
        """End it, with all that it started, and look at what the race detector said until then."""
        if self.completed is None:
            self.completed = self._run.end()
            self.raced = _RACE in self.completed.stderr
        self._run.close()
        self._selector.close()
        for fd in self._fds:
            os.close(fd)


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
