"""Finished rows on their way to the driver: on this node's disk from the moment they exist until they are committed.

A row is dropped only when the driver has acknowledged it, so a driver, an agent or a network that dies in between
loses nothing: the next driver that follows the same run is offered what lies here.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.errors import RunnersError


def state_dir() -> Path:
    """Where a node keeps what outlives a process: `$QUANTSWEEP_STATE`, else the user's state folder."""
    if named := os.environ.get("QUANTSWEEP_STATE"):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "quantsweep"


@dataclass(frozen=True, slots=True)
class Spool:
    """The rows of one run that lie on this node, one JSON file an attempt."""

    folder: Path

    @classmethod
    def of_run(cls, run_id: str) -> Spool:
        """The spool of a run; nothing is created until a row is put."""
        return cls(state_dir() / "spool" / run_id)

    def _path(self, job_id: str, attempt: int) -> Path:
        return self.folder / f"{job_id}-{attempt}.json"

    def put(self, row: dict[str, Any], duration_s: float) -> None:
        """Writes a row so that it survives a crash of this process and of the machine.

        Raises:
            RunnersError: the disk is full or not writable.
        """
        path = self._path(row["job_id"], row["attempt"])
        temporary = path.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8", errors="surrogatepass") as file:
                json.dump({"row": row, "duration_s": duration_s}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise RunnersError(
                f"{self.folder}: a finished result cannot be kept on this node: {error.strerror}",
                "Free some room there, or set QUANTSWEEP_STATE to a folder with room.",
            ) from None

    def drop(self, job_id: str, attempt: int) -> None:
        """Removes a row that is committed; fine if it is gone already."""
        with contextlib.suppress(OSError):
            self._path(job_id, attempt).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # succeeds only when it is empty

    def rows(self) -> list[tuple[dict[str, Any], float]]:
        """What lies here, as (row, seconds it took); a file that is damaged is left out and set aside."""
        found = []
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []:
            try:
                value = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
                found.append((dict(value["row"]), float(value["duration_s"])))
            except FileNotFoundError:
                continue  # dropped meanwhile by another agent on this host
            except (OSError, ValueError, KeyError, TypeError):
                with contextlib.suppress(OSError):
                    path.replace(path.with_suffix(".damaged"))
        return found
