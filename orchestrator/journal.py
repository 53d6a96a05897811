"""The journal of a sweep: one JSON object a line, appended as things happen, folded into the state at the next start.

What the journal must survive is a driver that dies between any two instructions:

- a line torn at the end (the driver died while writing it) is cut off when the journal is opened;
- an attempt is linked into the store *before* its journal line, so a missing line is put right from the store;
- an assignment's line comes *before* the job is handed out, so an attempt number is never given twice.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from orchestrator.errors import RunFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Journal:
    """Appends events to `path`. One writer at a time: the run folder's lock sees to that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cut_torn_tail()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunFolderError(f"{path}: the journal cannot be written: {error.strerror}") from None

    def _cut_torn_tail(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._path.open("r+b") as file:
            data = file.read()
            complete = data.rfind(b"\n") + 1
            if complete != len(data):
                file.truncate(complete)

    def append(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Adds one line in a single write; `durable` waits until the disk has it.

        Raises `RunFolderError` when the disk is full. A short write leaves a torn line, which the next
        opening cuts off.
        """
        line = json.dumps(
            {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields},
            separators=(",", ":"),
            ensure_ascii=False,
        )
        try:
            os.write(self._fd, line.encode() + b"\n")
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            raise RunFolderError(
                f"{self._path}: the journal cannot be written: {error.strerror}",
                hint="Free some room and start the same command again: it goes on where it stopped.",
            ) from None

    def close(self) -> None:
        """Closes the file; nothing can be appended afterwards."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of the journal at `path`, oldest first; none if there is no journal.

    A torn last line is left out; a line that is no JSON object anywhere else is damage, and named.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise RunFolderError(
                f"{path}:{number}: this line of the journal is damaged",
                hint="Delete the line: committed results are in attempts/ and are read from there.",
            )
        yield event
