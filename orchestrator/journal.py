"""The journal of a sweep: one JSON object a line, appended as things happen, folded into the state at the next start.

What the journal must survive is a driver that dies between any two instructions, a disk that is full for a while, and
lines that were changed since:

- a line that could not be written whole is taken back; where not even that is possible (the driver died while writing
  it), it is cut off when the journal is opened;
- every line ends with a checksum. One that does not fit is passed over, and said: what was committed is in the store,
  and since such a line may have given out an attempt number, `DAMAGED` tells whoever counts them to leave one out;
- an attempt is in the store *before* its journal line, so a missing line is put right from the store;
- an assignment's line comes *before* the job is handed out, so an attempt number is never given twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from orchestrator.errors import RunFolderError
from results.plainfile import NotPlainError, open_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

DAMAGED: Final = "damaged"
"""The event that `read_journal` gives in place of a damaged line: `line` is its number, `events` how many it held."""

_CHECK: Final = b',"crc":"'
"""Begins the last field of a line, before eight hex digits: CRC-32 of what comes before it."""
_CHECK_END: Final = b'"}'
_CHECK_BYTES: Final = len(_CHECK) + 8 + len(_CHECK_END)
_BLOCK_BYTES: Final = 1 << 16
MOST_BYTES: Final = 4 << 30
"""Of a whole journal: that of 100,000 jobs has some hundred million."""
_MOST_LINE_BYTES: Final = 4 << 20
MOST_ATTEMPTS: Final = 1_000_000
"""No job was ever given so many."""


class Journal:
    """Appends events to `path`. One writer at a time: the run folder's lock sees to that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, most_bytes=MOST_BYTES)
            self._size = _end_of_last_line(self._fd)
            os.ftruncate(self._fd, self._size)
        except NotPlainError as error:
            raise _not_ours(path, error) from None
        except OSError as error:
            raise self._failure(error) from None

    def append(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Adds one line, whole or not at all; `durable` waits until the disk has it.

        Raises `RunFolderError` when the disk is full, or the journal was deleted: then the line is not there.
        """
        text = json.dumps(
            {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields},
            separators=(",", ":"),
            ensure_ascii=False,
        )
        content = text.encode(errors="replace").removesuffix(b"}")
        line = b"%b%b%08x%b\n" % (content, _CHECK, zlib.crc32(content), _CHECK_END)
        try:
            if not os.fstat(self._fd).st_nlink:
                raise self._deleted()
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise self._failure(error) from None
        self._size += len(line)

    def close(self) -> None:
        """Closes the file; nothing can be appended afterwards."""
        os.close(self._fd)

    def _deleted(self) -> RunFolderError:
        if self._path.parent.exists():
            return RunFolderError(
                f"{self._path}: the journal was deleted while the sweep ran",
                hint="Start the same sweep again: it goes on with what is left in the run folder.",
            )
        return RunFolderError(
            f"{self._path.parent}: the run folder was deleted while the sweep ran, and what was committed is lost",
            hint="Start the same sweep again: without its run folder it begins anew.",
        )

    def _failure(self, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"{self._path}: the journal cannot be written: {error.strerror}",
            hint="Free some room and start the same command again: it goes on where it stopped.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of the journal at `path`, oldest first; none if there is no journal.

    A torn last line is left out; any other line that is damaged is the event `DAMAGED`. Takes the memory of one line.

    Raises `RunFolderError` where the journal cannot be read.
    """
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY, most_bytes=MOST_BYTES), "rb") as file:
            for number, line, events in _lines(file):
                yield _event_of(line) or {"event": DAMAGED, "line": number, "events": max(1, events)}
    except FileNotFoundError:
        return
    except NotPlainError as error:
        raise _not_ours(path, error) from None
    except OSError as error:
        raise RunFolderError(f"{path}: the journal cannot be read: {error.strerror}") from None


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and number of events of each whole line; of one that is longer than any of ours, no content."""
    number = events = 0
    pieces = 0
    while piece := file.readline(_MOST_LINE_BYTES):
        events += piece.count(_CHECK)  # more than one, if the end of a line was changed
        pieces += 1
        if piece.endswith(b"\n"):
            number += 1
            yield number, piece[:-1] if pieces == 1 else b"", events
            events = pieces = 0


def _not_ours(path: Path, error: NotPlainError) -> RunFolderError:
    return RunFolderError(
        f"{path}: {error.strerror}",
        hint="Move it away and start again: what was committed is kept, the journal begins anew.",
    )


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_FIELDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "at": _is_time,
    "attempt": lambda value: type(value) is int and 0 < value <= MOST_ATTEMPTS,
    "lease_id": lambda value: value is None or isinstance(value, str),
    "job_id": lambda value: value is None or isinstance(value, str),
    "jobs": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
"""What the fields hold that the next start counts on: lines of earlier versions have no checksum that says so."""


def _event_of(line: bytes) -> Mapping[str, Any] | None:
    """What a line says; None where it is damaged. Lines of earlier versions have no checksum."""
    if line[-_CHECK_BYTES:].startswith(_CHECK):
        content, check = line[:-_CHECK_BYTES], line[len(_CHECK) - _CHECK_BYTES : -len(_CHECK_END)]
        if b"%08x" % zlib.crc32(content) != check:
            return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or event["event"] == DAMAGED:
        return None
    if not all(is_one(event[name]) for name, is_one in _FIELDS.items() if name in event):
        return None
    event.pop("crc", None)
    return event


def _end_of_last_line(descriptor: int) -> int:
    """How much of a file is whole lines."""
    place = os.fstat(descriptor).st_size
    while place:
        begin = max(0, place - _BLOCK_BYTES)
        found = os.pread(descriptor, place - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        place = begin
    return 0
