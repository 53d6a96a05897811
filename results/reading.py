"""The attempts of a run as one table, read without changing anything, during the run as well as after it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from results.schema import SCHEMA_VERSION, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ATTEMPTS_FOLDER: Final = "attempts"

_SHARD_NAME = re.compile(r"(?P<job_id>.+)-(?P<attempt>[1-9][0-9]*)\.parquet")


class StoreError(Exception):
    """Results that cannot be written or read: `message` says what was wrong and where, `hint` what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class TornFileError(Exception):
    """A file that is no whole Parquet table of the attempt that its name says."""


@dataclass(frozen=True, slots=True)
class Torn:
    """A shard that could not be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a folder of attempts holds.

    Attributes:
        table: A `pyarrow.Table` of the current schema, in the order in which the attempts began.
        torn: Files left out because they are damaged.
    """

    table: Any
    torn: tuple[Torn, ...]


def shard_name(job_id: str, attempt: int) -> str:
    """File name of one attempt."""
    return f"{job_id}-{attempt}.parquet"


def shard_key(path: Path) -> tuple[str, int] | None:
    """(job_id, attempt) by a shard's name, or None for a file that is not one of ours."""
    match = _SHARD_NAME.fullmatch(path.name)
    return (match["job_id"], int(match["attempt"])) if match and not path.name.startswith(".") else None


def shards(folder: Path) -> list[Path]:
    """The shards in `folder`, by name; other files are left alone."""
    return sorted(path for path in folder.glob("*.parquet") if shard_key(path) is not None)


def read_shard(path: Path) -> Any:
    """One attempt as a `pyarrow.Table` of one row, in the current schema.

    Columns that are not known here are dropped, those that the file lacks are null: files from older and newer
    versions read alike.

    Raises:
        TornFileError: Cut off, overwritten, or not the attempt that its name says.
        StoreError: Sound, but written by a newer version whose columns mean something else here.
        OSError: Not there, or not readable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Checksums: without them a flipped bit in a reply or a score would be read as it stands.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)  # one row: handing columns to threads takes longer than reading them
            names = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's word on the file, not Parquet's on its content
        raise TornFileError(_first_line(error)) from error
    version = table["schema_version"][0].as_py() if "schema_version" in names and table.num_rows else None
    try:
        row = conform(table)
    except (pa.ArrowException, ValueError) as error:
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by a newer quantsweep (schema version {version}, here {SCHEMA_VERSION})",
                "Read it with that version, or a later one.",
            ) from error
        raise TornFileError(_first_line(error)) from error
    # The footer, where the names are, has no checksum.
    if version is None or (version == SCHEMA_VERSION and names != row.column_names):
        raise TornFileError("its columns are not those of its schema version")
    if row.num_rows != 1 or (row["job_id"][0].as_py(), row["attempt"][0].as_py()) != shard_key(path):
        raise TornFileError("it does not hold the one attempt that its name says")
    return row


def conform(table: Any) -> Any:
    """`table` with the columns of the current schema, in order, and no others."""
    import pyarrow as pa

    schema = arrow_schema()
    if table.schema.equals(schema):
        return table
    have = set(table.column_names)
    columns = [
        table.column(field.name).cast(field.type) if field.name in have else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def read_attempts(folder: Path) -> Reading:
    """Every attempt in `folder`, each once, oldest first; a folder that is not there holds none.

    Raises:
        StoreError: Not readable at all, or written by a newer version.
    """
    tables, torn = [], []
    for path in shards(folder):
        try:
            tables.append(read_shard(path))
        except TornFileError as error:
            torn.append(Torn(path, str(error)))
        except FileNotFoundError:
            continue  # set aside by the run's own process since we listed the folder
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    return Reading(concatenate(tables), tuple(torn))


def concatenate(tables: Iterable[Any]) -> Any:
    """One table of many, in the order in which the attempts began."""
    import pyarrow as pa

    schema = arrow_schema()
    whole = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    return whole.sort_by([("started_at", "ascending"), ("job_id", "ascending"), ("attempt", "ascending")])


def read_run(run_folder: Path) -> Reading:
    """The attempts of the run in `run_folder`; none, where it has only begun.

    Raises:
        StoreError: No such run, or written by a newer version.
    """
    if not run_folder.is_dir():
        raise StoreError(f"there is no run at {run_folder}", "Give the folder that `quantsweep run --out` wrote.")
    return read_attempts(run_folder / ATTEMPTS_FOLDER)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
