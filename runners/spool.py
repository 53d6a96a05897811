"""Finished rows on their way to the driver: on this node's disk from the moment they exist until they are committed.

A row is dropped only when the driver has acknowledged it, so a driver, an agent or a network that dies in between
loses nothing: the next driver that follows the same run is offered what lies here. Each file ends with its own digest:
a disk that changed a character of a reply would otherwise have changed the model's answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runners.errors import RunnersError
from runners.files import ALL_BYTES, joined, split
from runners.process import process_identity
from runners.rowcheck import problems_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ROW_BYTES = 64 << 20
"""More than any row that `runners.rowcheck` lets through takes as JSON (each escaped character up to six bytes)."""

FORGOTTEN_S = 60 * 86400.0
"""A run that is started again after that runs the job again."""


class Spooled(NamedTuple):
    """A row that lies on this node, the seconds that its attempt took, and what its files hold, by sha256."""

    row: dict[str, Any]
    duration_s: float
    files: dict[str, bytes]


def state_dir() -> Path:
    """Where a node keeps what outlives a process: `$QUANTSWEEP_STATE`, else the user's state folder."""
    if named := os.environ.get("QUANTSWEEP_STATE"):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "quantsweep"


def sealed(text: str) -> str:
    """The content of a file that holds `text` and says whether it still does."""
    return f"{text}\n{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def clear_forgotten() -> None:
    """Removes what lies in the spools of this node and that no driver has asked for in a long time.

    The rows of a node that was lost stay there when the sweep ends without it: nobody ever says so to the node.
    """
    for path in sorted((state_dir() / "spool").glob("*/*")):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN_S:
                path.unlink()
                path.parent.rmdir()  # succeeds only when it is empty


@dataclass(frozen=True, slots=True)
class Spool:
    """The rows of one run that lie on this node, one file an attempt.

    It is a line of JSON and its sha256; where the row names files, a line feed and what they hold follow. One rename
    puts a row there with its files, and one removal takes them away.
    """

    folder: Path

    @classmethod
    def of_run(cls, run_id: str) -> Spool:
        """The spool of a run; nothing is created until a row is put."""
        return cls(state_dir() / "spool" / run_id)

    def _path(self, job_id: str, attempt: int) -> Path:
        return self.folder / f"{job_id}-{attempt}.json"

    def put(self, row: dict[str, Any], duration_s: float, files: Mapping[str, bytes] | None = None) -> None:
        """Writes a row so that it survives a crash of this process and of the machine.

        Args:
            row: What is to be kept.
            duration_s: How long its attempt took.
            files: What the files that it names hold, by sha256.

        How long an fsync takes on a disk that hangs is out of our reach: nothing can take it back.

        Raises:
            RunnersError: the disk is full or not writable, or the row is none that JSON can hold.
        """
        try:
            text = json.dumps({"row": row, "duration_s": duration_s}, allow_nan=False)
            content = sealed(text).encode("ascii")
            if data := joined(row, files or {}):
                content += b"\n" + data
            self._write(self._path(row["job_id"], row["attempt"]), content)
        except (OSError, TypeError, ValueError, KeyError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise RunnersError(
                f"{self.folder}: a finished result cannot be kept on this node: {reason}",
                "Free some room there, or set QUANTSWEEP_STATE to a folder with room.",
            ) from None

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        for last in (False, True):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            except FileNotFoundError:  # the folder went away in between: `drop` removes an empty one
                if last:
                    raise
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            else:
                return

    def drop(self, job_id: str, attempt: int) -> None:
        """Removes a row that is committed; fine if it is gone already."""
        with contextlib.suppress(OSError):
            self._path(job_id, attempt).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # succeeds only when it is empty

    def rows(self) -> list[Spooled]:
        """What lies here; what is damaged or no complete row is set aside (`.damaged`)."""
        found = []
        try:
            paths = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        except OSError:  # a folder that cannot be read holds nothing that could be offered
            return []
        self._clear_abandoned()
        for path in paths:
            try:
                found.append(self._read(path))
            except FileNotFoundError:
                continue  # dropped meanwhile by another agent on this host
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                with contextlib.suppress(OSError):
                    path.replace(path.with_suffix(".damaged"))
        return found

    def _read(self, path: Path) -> Spooled:
        """The row in one file; ValueError and the like where there is none that could be offered."""
        if path.stat().st_size > ROW_BYTES + ALL_BYTES:
            raise ValueError("larger than any row")
        line, digest, *rest = path.read_bytes().split(b"\n", 2)
        text = line.decode("ascii")
        if digest != _digest(text).encode():
            raise ValueError("not what was written")
        value = json.loads(text)
        row, duration_s = dict(value["row"]), float(value["duration_s"])
        if problems_of(row) or path != self._path(row["job_id"], row["attempt"]):
            raise ValueError("no complete row")
        took_s = duration_s if math.isfinite(duration_s) and duration_s >= 0 else 0.0
        return Spooled(row, took_s, split(row, rest[0] if rest else b""))

    def _clear_abandoned(self) -> None:
        """Removes what processes that were killed had begun to write."""
        for path in self.folder.glob("*.tmp"):
            writer = path.stem.rpartition(".")[2]
            if writer.isdigit() and process_identity(int(writer)) is None:
                with contextlib.suppress(OSError):
                    path.unlink()
