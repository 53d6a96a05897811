"""Where a run's attempts are kept: one Parquet file each, committed once, never torn, never twice.

    runs/<sweep>/attempts/<job_id>-<attempt>.parquet   one attempt; this folder is the truth, and any reader may glob it
    runs/<sweep>/attempts.parquet                      all of them in one file, made by `compact`; a copy, not the truth
    runs/<sweep>/quarantine/                           damaged files, set aside so that they break no reader

`attempts.parquet` stands beside the folder, not in it, and the shards stay: so at every instant, and wherever a kill
falls, the glob gives each attempt once. It is removed before the next commit, so where it exists it is complete.

One process writes (the driver, under the run folder's lock); more than one cannot tear or double an attempt, but only
one process can see to it that a job has a single final.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

from results import durable
from results.figures import count
from results.reading import (
    ATTEMPTS_FOLDER,
    Reading,
    StoreError,
    Torn,
    TornFileError,
    read_attempts,
    read_run,
    read_shard,
    shard_key,
    shard_name,
    shards,
)
from results.schema import arrow_schema, complete_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Attempt", "Reading", "RunStore", "StoreError", "Torn", "read_attempts", "read_run"]

COMPACT_FILE: Final = "attempts.parquet"
QUARANTINE_FOLDER: Final = "quarantine"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the store remembers of a committed attempt: enough to go on with a sweep, without its texts and figures."""

    job_id: str
    attempt: int
    final: bool
    outcome: str
    outcome_class: str
    hardware_class: str | None
    node: str | None
    device: str | None


_INDEXED: Final = [field.name for field in fields(Attempt)]


class RunStore:
    """The attempts of one run, for the process that writes them.

    Opening it removes what killed writers left, reads every attempt with its checksums, and sets damaged files aside
    (`quarantined` names them; their jobs count as not run).

    Raises:
        StoreError: The folder cannot be made or read, or holds attempts of a newer version.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.attempts_folder = run_folder / ATTEMPTS_FOLDER
        self.compact_file = run_folder / COMPACT_FILE
        self._index: dict[tuple[str, int], Attempt] = {}
        self._quarantined: list[Torn] = []
        try:
            self.attempts_folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.attempts_folder, run_folder):
                durable.clean_leftovers(folder)
            for path in shards(self.attempts_folder):
                self._admit(path)
        except OSError as error:
            raise self._failure(f"cannot use the run folder {run_folder}", error) from error

    @property
    def quarantined(self) -> tuple[Torn, ...]:
        """Damaged files that this process set aside, by their new paths."""
        return tuple(self._quarantined)

    def commit(self, row: Mapping[str, Any]) -> bool:
        """Keep one attempt, durably: once this returns, a power cut does not lose it.

        A row that says it is final, for a job that has its final already, is kept with `final` false; only an
        infrastructure failure gives the mark up, to a later attempt's final.

        Returns:
            True where this call committed it; False where that attempt was there already, which then stands as it is.

        Raises:
            SchemaError: The row does not fit the table; nothing was written.
            StoreError: No room, or no right, to write; nothing was written, and nothing committed before is lost.
        """
        full = complete_row(row)
        key = (full["job_id"], full["attempt"])
        if key in self._index:
            return False
        target = self.attempts_folder / shard_name(*key)
        try:
            if self.compact_file.exists():
                self.compact_file.unlink()
                durable.sync_folder(self.run_folder)
            full["final"] = full["final"] and self._take_mark(*key)
            if durable.create_exclusive(target, _encode([full])):
                self._index[key] = Attempt(**{name: full[name] for name in _INDEXED})
                return True
        except OSError as error:
            raise self._failure(f"cannot write attempt {key[1]} of job {key[0]} to {target}", error) from error
        self._admit(target)
        return False

    def commit_many(self, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """As `commit` for each of `rows`, in their order; an error leaves those before it committed."""
        return [self.commit(row) for row in rows]

    def attempts(self) -> Iterator[Attempt]:
        """What is remembered of every committed attempt; nothing is read from disk."""
        return iter(tuple(self._index.values()))

    def close(self) -> None:
        """Let go of the run folder; nothing can be committed afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def committed(self) -> frozenset[tuple[str, int]]:
        """(job_id, attempt) of every attempt that is kept."""
        return frozenset(self._index)

    def finals(self) -> dict[str, str]:
        """The jobs that have ended: job_id to the outcome class of their final attempt.

        Those of class `infrastructure` have no score: run them again if whatever failed has been mended.
        """
        return {job_id: known.outcome_class for (job_id, _), known in self._index.items() if known.final}

    def table(self) -> Any:
        """Every attempt as a `pyarrow.Table` of the current schema, oldest first."""
        return read_attempts(self.attempts_folder).table

    def rows(self) -> list[dict[str, Any]]:
        """Every attempt as a dict, oldest first; times are UTC datetimes."""
        rows: list[dict[str, Any]] = self.table().to_pylist()
        return rows

    def compact(self) -> Path:
        """Write all attempts to one file beside the folder, for sending elsewhere; its path.

        The shards stay. Killed at any moment, it leaves the file as it was, or whole.

        Raises:
            StoreError: No room, or no right, to write.
        """
        try:
            durable.replace(self.compact_file, _encode_table(self.table(), compression="zstd"))
        except OSError as error:
            raise self._failure(f"cannot write {self.compact_file}", error) from error
        return self.compact_file

    def _take_mark(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt may be its job's final; takes the mark from an earlier infrastructure failure.

        The mark goes from the old file before the new one is written: killed between the two, the job has no final
        and runs again, and no reader ever counts it twice.
        """
        holders = [number for (job, number), known in self._index.items() if job == job_id and known.final]
        if not holders:
            return True
        holder = holders[0]
        if self._index[job_id, holder].outcome_class != "infrastructure" or holder > attempt:
            return False
        path = self.attempts_folder / shard_name(job_id, holder)
        try:
            row = read_shard(path).to_pylist()[0]
        except (TornFileError, FileNotFoundError):
            del self._index[job_id, holder]
            self._admit(path)
            return True
        durable.replace(path, _encode([{**row, "final": False}]))
        self._index[job_id, holder] = replace(self._index[job_id, holder], final=False)
        return True

    def _admit(self, path: Path) -> None:
        """Put the shard at `path` into the index, or set it aside."""
        key = shard_key(path)
        if key is None:
            return
        try:
            table = read_shard(path)
        except FileNotFoundError:
            return
        except TornFileError as error:
            self._set_aside(path, str(error))
            return
        (found,) = table.select(_INDEXED).to_pylist()
        self._index[key] = Attempt(**found)

    def _set_aside(self, path: Path, reason: str) -> None:
        folder = self.run_folder / QUARANTINE_FOLDER
        folder.mkdir(exist_ok=True)
        target = folder / f"{path.name}.torn"
        number = 1
        while target.exists():
            number += 1
            target = folder / f"{path.name}.torn{number}"
        path.rename(target)
        durable.sync_folder(self.attempts_folder)
        self._quarantined.append(Torn(target, reason))

    def _failure(self, what: str, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        if error.errno not in durable.DISK_FULL:
            return StoreError(f"{what}: {reason}", "Nothing that was committed before is lost.")
        kept = count(len(self._index), "attempt")
        return StoreError(
            f"{what}: {reason} ({_free(self.run_folder)} free)",
            f"What was committed before ({kept}) is safe. Make room and start the same sweep again: it goes on.",
        )


def _encode(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa

    return _encode_table(pa.Table.from_pylist(rows, schema=arrow_schema()))


def _encode_table(table: Any, *, compression: str = "snappy") -> bytes:
    """`table` as a Parquet file, in memory: so that a full disk is met by one plain write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    # Most of a one-row file is description: dictionaries, statistics and Arrow's own schema would treble its size, and
    # zstd, set up anew for each column, would double the time to read it.
    pq.write_table(
        table,
        sink,
        compression=compression,
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes"
    except OSError:
        return "an unknown number of bytes"
