"""The attempts of a run as one table, read without changing anything, during the run as well as after it."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from results.figures import count
from results.schema import COLUMNS_BY_NAME, SCHEMA_VERSION, arrow_schema
from results.seal import TornFileError, check_rows, read_seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

ATTEMPTS_FOLDER: Final = "attempts"
LARGEST_FIGURE: Final = 1e15
"""Nothing that is measured is larger: seconds, joules, rates, points. Sums and squares of such figures are finite."""
READERS: Final = 2
"""Files that are read at once: while one is decoded, Python opens the next. More of them wait for one another."""

_PART_NAME = re.compile(r"part-(?P<number>[0-9]{6,})-[0-9a-f]{8}\.parquet")
_SHARD_NAME = re.compile(r"(?P<job_id>.+)-(?P<attempt>[1-9][0-9]*)\.parquet")

_MAY_LACK: Final = frozenset({"started_at", "schema_version"})  # files of other versions are read without them
_KEY: Final = ("job_id", "attempt")
_ORDER: Final = ("started_at", *_KEY)


class StoreError(Exception):
    """Results that cannot be written or read: `message` says what was wrong and where, `hint` what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


@dataclass(frozen=True, slots=True)
class Torn:
    """A file of attempts that could not be read, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; its attempts are left out, and their jobs run again"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a folder of attempts holds.

    Attributes:
        table: A `pyarrow.Table` of the current schema, or of the columns asked for, in the order in which the attempts
            began.
        torn: Files left out because they are damaged.
    """

    table: Any
    torn: tuple[Torn, ...]


def part_name(number: int, token: str) -> str:
    """File name of the `number`th part; `token`, eight hex digits, keeps two writers' apart."""
    return f"part-{number:06d}-{token}.parquet"


def part_number(path: Path) -> int | None:
    """Which part a file is by its name, or None where it is none."""
    match = _PART_NAME.fullmatch(path.name)
    return int(match["number"]) if match else None


def shard_key(path: Path) -> tuple[str, int] | None:
    """(job_id, attempt) of a file that holds one attempt, as quantsweep wrote them before parts; else None."""
    match = None if part_number(path) is not None or path.name.startswith(".") else _SHARD_NAME.fullmatch(path.name)
    return (match["job_id"], int(match["attempt"])) if match else None


def attempt_files(folder: Path) -> list[Path]:
    """The files of attempts in `folder`, by name; other files are left alone.

    So is what is no regular file, whatever its name: a pipe would keep its reader for ever.
    """
    found = (path for path in folder.glob("*.parquet") if part_number(path) is not None or shard_key(path) is not None)
    return sorted(path for path in found if path.is_file())


def read_file(path: Path, columns: Sequence[str] | None = None, *, whole: bool = True) -> Any:
    """The attempts in one file as a `pyarrow.Table` of the current schema.

    Columns that are not known here are dropped, those that the file lacks are null: files from older and newer
    versions read alike.

    Args:
        path: A part, or a file of one attempt.
        columns: Read these only, with job_id and attempt; None for all.
        whole: Check every byte of the rows, not only those that are read.

    Raises:
        TornFileError: Cut off, overwritten, or not what its name says.
        StoreError: Sound, but written by a newer version whose columns mean something else here.
        OSError: Not there, or not readable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    key = shard_key(path)
    if key is None:
        with path.open("rb", buffering=0) as file:
            seal = read_seal(file.fileno())
            if seal is None:
                raise TornFileError("it has no seal")
            if whole:
                check_rows(file.fileno(), seal)
    names = None if columns is None else [*dict.fromkeys([*columns, *_KEY, "schema_version"])]
    try:
        # Checksums: without them a flipped bit in a reply or a score would be read as it stands. No threads: handing
        # columns to them takes longer than reading the few rows of a file.
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            table = parquet.read(columns=names, use_threads=False)
            have = table.column_names if columns is None else parquet.schema_arrow.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's word on the file, not Parquet's on its content
        raise TornFileError(_first_line(error)) from error
    versions = table["schema_version"].to_pylist() if "schema_version" in have else [None]
    latest = max((version for version in versions if isinstance(version, int)), default=0)
    if latest > SCHEMA_VERSION and columns is not None:
        return read_file(path, whole=whole).select(
            [*dict.fromkeys([*columns, *_KEY])]
        )  # any of them may mean otherwise
    try:
        rows = conform(table, names)
    except (pa.ArrowException, ValueError) as error:
        if latest > SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by a newer quantsweep (schema version {latest}, here {SCHEMA_VERSION})",
                "Read it with that version, or a later one.",
            ) from error
        raise TornFileError(_first_line(error)) from error
    # The footer, where the names are, has no checksum but the seal's.
    if None in versions or (key is not None and latest == SCHEMA_VERSION and have != arrow_schema().names):
        raise TornFileError("its columns are not those of its schema version")
    if key is not None and (rows.num_rows != 1 or (rows["job_id"][0].as_py(), rows["attempt"][0].as_py()) != key):
        raise TornFileError("it does not hold the one attempt that its name says")
    return rows if columns is None else rows.select([*dict.fromkeys([*columns, *_KEY])])


def conform(table: Any, names: Sequence[str] | None = None) -> Any:
    """`table` with the columns of the current schema, in order, and no others; of these only `names`, where given."""
    import pyarrow as pa

    schema = arrow_schema()
    if names is not None:
        schema = pa.schema([schema.field(name) for name in names])
    if table.schema.equals(schema):
        return table
    have = set(table.column_names)
    columns = [
        table.column(field.name).cast(field.type) if field.name in have else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def read_files(
    folder: Path, columns: Sequence[str] | None = None, *, whole: bool = True
) -> Iterator[tuple[Path, Any | TornFileError]]:
    """Every file of attempts in `folder`, by name, with its table or what is wrong with it.

    Raises:
        StoreError: Not readable at all, or written by a newer version.
    """

    def read(path: Path) -> Any:
        try:
            return read_file(path, columns, whole=whole)
        except (TornFileError, OSError) as error:
            return error

    for path, found in _ahead(read, attempt_files(folder)):
        if isinstance(found, FileNotFoundError):
            continue  # set aside by the run's own process since we listed the folder
        if isinstance(found, OSError):
            raise StoreError(f"cannot read {path}: {found.strerror or found}") from found
        yield path, found


def _ahead(read: Callable[[Path], Any], paths: Iterable[Path]) -> Iterator[tuple[Path, Any]]:
    """Each path with what `read` makes of it, in order; a few are read at once, while the one before is looked at.

    pyarrow lets other threads run while it decodes. Only a few results are held, as those of a run may be large.
    """
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[tuple[Path, Any]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="reading") as pool:
        try:
            for path in paths:
                waiting.append((path, pool.submit(read, path)))
                if len(waiting) > READERS:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            pool.shutdown(cancel_futures=True)


def read_attempts(folder: Path, columns: Sequence[str] | None = None) -> Reading:
    """Every attempt in `folder`, each once, oldest first; a folder that is not there holds none.

    Args:
        folder: `attempts` of a run.
        columns: The columns wanted, None for all. Texts are most of a run's bytes.

    Raises:
        StoreError: Not readable at all, or written by a newer version.
    """
    tables: dict[Path, Any] = {}
    torn = []
    needed = None if columns is None else [*dict.fromkeys([*columns, *_ORDER])]
    for path, found in read_files(folder, needed, whole=columns is None):
        if isinstance(found, TornFileError):
            torn.append(Torn(path, str(found)))
        else:
            tables[path] = found
    whole = _concatenate(tables.values(), needed)
    if why_unsound(whole) is not None:  # all at once costs nothing; which file it is, is asked seldom
        wrong = {path: why for path, table in tables.items() if (why := why_unsound(table)) is not None}
        torn += [Torn(path, why) for path, why in wrong.items()]
        whole = _concatenate((table for path, table in tables.items() if path not in wrong), needed)
    table = _each_once(whole)
    return Reading(table if columns is None else table.select(list(columns)), tuple(torn))


def why_unsound(table: Any) -> str | None:
    """What no writer of ours would have written into these rows, as a sentence; None where there is nothing.

    Rows of somebody else's run may hold anything that Parquet holds: what every row has may be null, and a figure may
    be no number, or one that no sum survives.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for field in table.schema:
        values = table[field.name]
        needed = not COLUMNS_BY_NAME[field.name].nullable and field.name not in _MAY_LACK
        if needed and values.null_count:
            return f"a row has no {field.name}"
        if (
            pa.types.is_floating(field.type)
            and not pc.all(pc.less_equal(pc.abs(values), LARGEST_FIGURE), min_count=0).as_py()
        ):
            return f"what a row has for {field.name} is no figure"
    return None


def read_run(run_folder: Path, columns: Sequence[str] | None = None) -> Reading:
    """The attempts of the run in `run_folder`, or these columns of them; none, where it has only begun.

    Raises:
        StoreError: No such run, or written by a newer version.
    """
    if not run_folder.is_dir():
        raise StoreError(f"there is no run at {run_folder}", "Give the folder that `quantsweep run --out` wrote.")
    return read_attempts(run_folder / ATTEMPTS_FOLDER, columns)


def lost(path: Path, reason: str, attempts: int | None) -> Torn:
    """`path` as torn, with how many attempts were in it, where that is known."""
    return Torn(path, reason if attempts is None else f"{reason} ({count(attempts, 'attempt')})")


def _concatenate(tables: Iterable[Any], names: Sequence[str] | None) -> Any:
    """One table of many, in the order in which the attempts began."""
    import pyarrow as pa

    empty = conform(arrow_schema().empty_table(), names)
    whole = pa.concat_tables([empty, *tables]).combine_chunks()
    # A stable sort: of two rows of one attempt, the one in the first file stays first.
    return whole.sort_by([(name, "ascending") for name in _ORDER])


def _each_once(table: Any) -> Any:
    """`table` without the second of two rows of an attempt, which only two writers at once can make."""
    import pyarrow as pa

    keys = table.select(list(_KEY))
    if keys.group_by(list(_KEY)).aggregate([]).num_rows == table.num_rows:
        return table
    seen: set[tuple[str, int]] = set()
    keep = []
    for key in zip(keys["job_id"].to_pylist(), keys["attempt"].to_pylist(), strict=True):
        keep.append(key not in seen)
        seen.add(key)
    return table.filter(pa.array(keep))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
