"""Where a run's attempts are kept: in parts of a few dozen, committed once, never torn, never twice.

    runs/<sweep>/attempts/part-<number>-<token>.parquet   the attempts; this folder is the truth, any reader may glob it
    runs/<sweep>/attempts/<job_id>-<attempt>.parquet      one attempt, as earlier versions wrote it: read as ever
    runs/<sweep>/attempts.lock                            held by the process that writes
    runs/<sweep>/attempts.parquet                         all of them in one file, made by `compact`; a copy
    runs/<sweep>/files/<sha256>                           the files that attempts name (`results.files`)
    runs/<sweep>/quarantine/                              damaged files, set aside so that they break no reader

A commit writes the newest part anew, with one row more, and renames it over the old one (`results.parts`): one rename
is all that can fall on either side of a kill, a row is never in two files, and the glob gives each attempt once at
every instant. A part that is full is closed, in the commit that fills it. So a commit costs the same however many came
before, and 100,000 attempts are some 2,000 files. The ways not taken: a file for each attempt, joined later, would be
in two places, or in none, between the two steps; a log beside the folder would keep the newest rows from other readers.

A job has one final at most, at every instant and for every reader: an attempt that takes the mark from an earlier one,
a new grade of its answer too, comes into the part that holds that one, and one rename changes both.

One process writes (`results.hold`). Where the file system knows no locks two might: their parts have different names,
so neither clobbers the other, and the first of two rows of one attempt, by the names of their files, is the one.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from results import durable
from results.columnar import as_table, joined, parquet_options, with_marks, without, without_mark
from results.figures import count
from results.files import RunFiles
from results.hold import Hold
from results.index import Attempt, Index, Key, Mark, attempts_of, to_attempt
from results.parts import MOST_ROWS
from results.plainfile import NotPlainError, plain_folder
from results.reading import (
    ATTEMPTS_FOLDER,
    Reading,
    StoreError,
    Torn,
    conform,
    read_attempts,
    read_file,
    read_files,
    read_run,
)
from results.rows import complete_row
from results.schema import arrow_schema, file_note
from results.seal import TornFileError
from results.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from results.files import Content, LostFiles

__all__ = ["Attempt", "Reading", "RunStore", "StoreError", "Torn", "read_attempts", "read_run"]

COMPACT_FILE: Final = "attempts.parquet"


def _no_content(_sha256: str) -> None:
    """For rows that name no files, or only such as are kept already."""


class _Write(NamedTuple):
    """What one rename is to change: attempts that lose the mark, and rows that come; `home` None is the newest part."""

    home: Path | None
    unmarked: list[Attempt]
    added: list[dict[str, Any]]


class RunStore:
    """The attempts of one run, for the process that writes them; a context manager.

    Opening it removes what killed writers left, reads what it needs of every attempt, and sets damaged files aside
    (`quarantined` names them; their jobs count as not run). Runs of up to 256 MiB are checked from end to end.

    Raises:
        StoreError: The folder cannot be made or read, is being written to by another process, or holds attempts of a
            newer version.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.attempts_folder = run_folder / ATTEMPTS_FOLDER
        self.compact_file = run_folder / COMPACT_FILE
        self._files = RunFiles(run_folder)
        self._index = Index()
        self._shelf = Shelf(run_folder, self.attempts_folder)
        self._doubtful: set[Path] = set()
        try:
            run_folder.mkdir(parents=True, exist_ok=True)
            plain_folder(self.attempts_folder)
            self._hold = Hold(run_folder, self.attempts_folder)
            for folder in (self.attempts_folder, run_folder):
                durable.clean_leftovers(folder)
            self._files.clean()
            self._admit_all()
            self._shelf.tidy()
        except OSError as error:
            raise self._failure(f"cannot use the run folder {run_folder}", error) from error

    @property
    def quarantined(self) -> tuple[Torn, ...]:
        """Damaged files that this process set aside, by their new paths."""
        return tuple(self._shelf.quarantined)

    def commit(self, row: Mapping[str, Any], content: Content = _no_content) -> bool:
        """Keep one attempt, durably: once this returns, a power cut does not lose it.

        `content` gives what the files that it names hold; they are kept first.

        A row that says it is final, for a job that has its final already, is kept with `final` false; only an
        infrastructure failure gives the mark up, to the final of a later attempt or of a scored one; and a scored one
        to a regrade of it.

        Returns:
            True where this call committed it; False where that attempt was there already, which then stands as it is.

        Raises:
            SchemaError: The row does not fit the table; nothing was written.
            StoreError: No room, or no right, to write, or the folder is gone: its message says what that means for
                what was committed before.
        """
        return self.commit_many([row], content)[0]

    def commit_many(self, rows: Sequence[Mapping[str, Any]], content: Content = _no_content) -> list[bool]:
        """As `commit` for each of `rows`, up to 48 of them for little more than the price of one.

        They come into one part with one rename: all of them are there, or none. Apart from these are rows that take
        the mark from an earlier attempt, which come into the part of that one.

        Raises:
            SchemaError: A row does not fit the table; nothing was written.
            StoreError: As `commit`; rows may have been committed that are not in the first part.
        """
        full = [complete_row(row) for row in rows]
        what = ", ".join(f"attempt {row['attempt']} of job {row['job_id']}" for row in full[:3])
        try:
            self._hold.check(len(self._index))
            self._remove_copy()
            self._settle()
            new: dict[Key, dict[str, Any]] = {}
            is_new = []
            for row in full:
                key = (row["job_id"], row["attempt"])
                is_new.append(key not in self._index and key not in new)
                new.setdefault(key, row)
            texts = [row["files"] for key, row in new.items() if key not in self._index]
            self._files.keep(texts, content)
            for write in self._marked(row for key, row in new.items() if key not in self._index):
                self._write(write)
            self._files.remember(texts)
        except OSError as error:
            raise self._failure(f"cannot write {what} to {self.attempts_folder}", error) from error
        return is_new

    def attempts(self) -> Iterator[Attempt]:
        """What is remembered of every committed attempt; nothing is read from disk."""
        return iter(self._index)

    def committed(self) -> frozenset[Key]:
        """(job_id, attempt) of every attempt that is kept."""
        return self._index.keys()

    def finals(self) -> dict[str, str]:
        """The jobs that have ended: job_id to the outcome class of their final attempt.

        Those of class `infrastructure` have no score: run them again if whatever failed has been mended.
        """
        return {job_id: attempt.outcome_class for job_id, attempt in self._index.finals().items()}

    def count_only(self, jobs: Collection[str]) -> tuple[int, int]:
        """Take the attempts of all other jobs out of every table, durably, and bring those of `jobs` back.

        What is taken out stays on record, without the mark. Killed at any moment, it has done a part: call it again.

        Returns:
            How many jobs were taken out, and how many came back.

        Raises:
            StoreError: No room, or no right, to write.
        """
        marks = self._index.marks_for(jobs)
        changed = {job_id for of_path in marks.values() for job_id, _ in of_path}
        try:
            self._hold.check(len(self._index))
            for path, of_path in marks.items():
                self._remove_copy()
                self._settle()
                self._mark(path, of_path)
        except OSError as error:
            raise self._failure(f"cannot write to {self.attempts_folder}", error) from error
        back = len(changed & set(jobs))
        return len(changed) - back, back

    def finals_by_file(self) -> Iterator[list[dict[str, Any]]]:
        """The final attempts of each file as dicts, texts and all, a file at a time; damaged files are left out.

        Raises:
            StoreError: A file cannot be read.
        """
        for path in sorted({self._index.path_of(attempt) for attempt in self._index.finals().values()}):
            try:
                table = read_file(path)
            except (TornFileError, FileNotFoundError):
                continue
            except OSError as error:
                raise self._failure(f"cannot read {path}", error) from error
            finals = ((row, self._index.final_of(row["job_id"])) for row in table.to_pylist() if row["final"])
            yield [row for row, held in finals if held is not None and held.attempt == row["attempt"]]

    def check(self) -> tuple[Torn | LostFiles, ...]:
        """Look whether every file is still there as it was written, and forget the attempts of those that are not.

        Costs a look at each file, no more where nothing was changed. Ask before saying that something is kept.

        Returns:
            What was lost since the store was opened, or the last look.

        Raises:
            StoreError: The whole folder is gone: its message says what that means.
        """
        self._hold.check(len(self._index))
        lost: list[Torn | LostFiles] = []
        try:
            for path, reason in self._shelf.damaged():
                number = self._index.forget(path)
                self._shelf.set_aside(path, f"{reason} ({count(number, 'attempt')})")
                lost.append(self._shelf.quarantined[-1])
            if (gone := self._files.lost()) is not None:
                lost.append(gone)
        except OSError as error:
            raise self._failure(f"cannot read {self.attempts_folder}", error) from error
        return tuple(lost)

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Every attempt, or these columns of them, as a `pyarrow.Table` of the current schema, oldest first."""
        return read_attempts(self.attempts_folder, columns).table

    def rows(self) -> list[dict[str, Any]]:
        """Every attempt as a dict, oldest first; times are UTC datetimes."""
        rows: list[dict[str, Any]] = self.table().to_pylist()
        return rows

    def compact(self) -> Path:
        """Write all attempts to one file beside the folder, for sending elsewhere, in the order of their commits.

        The parts stay. Killed at any moment, it leaves the file as it was, or whole. It takes the memory of one part.

        Returns:
            Its path.

        Raises:
            StoreError: No room, or no right, to write.
        """
        import pyarrow.parquet as pq

        # One file has room for Arrow's own schema too, where pyarrow finds what is said of a column.
        options = {**parquet_options(closed=True), "store_schema": True}
        try:
            with (
                durable.replacing(self.compact_file) as file,
                pq.ParquetWriter(file, arrow_schema(), **options) as writer,
            ):
                for _, table in read_files(self.attempts_folder):
                    if not isinstance(table, TornFileError):
                        writer.write_table(table)
                writer.add_key_value_metadata(file_note())
        except OSError as error:
            raise self._failure(f"cannot write {self.compact_file}", error) from error
        return self.compact_file

    def close(self) -> None:
        """Let go of the run folder; nothing can be committed afterwards."""
        self._hold.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- committing -------------------------------------------------------------------------------------------------

    def _marked(self, rows: Iterable[dict[str, Any]]) -> list[_Write]:
        """Which attempt of each job of `rows` is final from now on, and so what is to be written where.

        An attempt that takes the mark goes where the one is that has it.
        """
        writes: dict[Path | None, _Write] = {}
        taken: dict[str, tuple[dict[str, Any], Path | None]] = {}
        newest = self._shelf.current().path
        for row in rows:
            home, unmarked = None, []
            if row["final"] and row["job_id"] in taken:
                held, home = taken[row["job_id"]]
                row["final"] = to_attempt(held).gives_way(to_attempt(row))
                held["final"] = not row["final"]
            elif row["final"] and (holder := self._index.final_of(row["job_id"])) is not None:
                row["final"] = holder.gives_way(to_attempt(row))
                if row["final"] and (home := self._home_of(holder)) is not None:
                    unmarked = [holder]
                    home = None if home == newest else home
            if row["final"]:
                taken[row["job_id"]] = row, home
            write = writes.setdefault(home, _Write(home, [], []))
            write.unmarked.extend(unmarked)
            write.added.append(row)
        return list(writes.values())

    def _home_of(self, holder: Attempt) -> Path | None:
        """The part that `holder` is in, if it can take one more; else the mark is taken from it here and now.

        Killed before the new attempt is there, the job has no final then and runs again; no reader counts it twice.
        A scored attempt is not worth that: its part takes the new one whatever it has grown to.
        """
        path = self._index.path_of(holder)
        part = self._shelf.part(path)
        if part is not None and (part.takes_rows or not holder.has_failed):
            return path
        try:
            self._shelf.change(path, partial(without_mark, keys={holder.key}))
            self._index.unmark(holder)
        except FileNotFoundError:
            self._index.forget(path)
        except TornFileError as error:
            self._shelf.set_aside(path, f"{error} ({count(self._index.forget(path), 'attempt')})")
        return None

    def _write(self, write: _Write) -> None:
        # What loses the mark and what takes it are never in two renames.
        step = len(write.added) if write.unmarked else MOST_ROWS
        for first in range(0, len(write.added), step):
            added = write.added[first : first + step]
            unmarked = [] if first else write.unmarked
            part = (self._shelf.part(write.home) if write.home else None) or self._shelf.current()
            table = as_table(added)
            full = part.closed or part.would_be_full(table)
            self._doubtful.add(part.path)
            if not part.takes_rows:
                self._shelf.change(part.path, partial(_grown, keys={attempt.key for attempt in unmarked}, table=table))
            elif unmarked or full:
                before = without_mark(part.table(), {attempt.key for attempt in unmarked})
                self._shelf.write(part, joined(before, table), closed=full)
            else:
                self._shelf.write(part, table, add=True)
            self._doubtful.clear()
            for attempt in unmarked:
                self._index.unmark(attempt)
            for row in added:
                self._index.put(to_attempt(row), part.path)

    def _mark(self, path: Path, marks: Mapping[Key, Mark]) -> None:
        """Mark attempts in one file anew, with one rename."""
        part = self._shelf.part(path)
        try:
            if part is not None and part.takes_rows:
                self._doubtful.add(path)
                self._shelf.write(part, with_marks(part.table(), marks), closed=part.closed)
                self._doubtful.clear()
            else:
                self._shelf.change(path, lambda table: with_marks(conform(table), marks))
        except FileNotFoundError:
            self._index.forget(path)
        except TornFileError as error:
            self._shelf.set_aside(path, f"{error} ({count(self._index.forget(path), 'attempt')})")
        else:
            for key, mark in marks.items():
                self._index.mark(key, mark)

    def _settle(self) -> None:
        """See what a commit that failed has left: its rows may be there, although it raised."""
        for path in tuple(self._doubtful):
            self._index.forget(path)
            part = self._shelf.part(path)
            if part is not None:
                for attempt in attempts_of(part.table()):
                    self._index.put(attempt, path)
            elif path.exists():
                self._shelf.set_aside(path, "it cannot be read")
            self._doubtful.discard(path)

    def _remove_copy(self) -> None:
        """What `compact` made is not complete any more."""
        with contextlib.suppress(FileNotFoundError):
            self.compact_file.unlink()
            durable.sync_folder(self.run_folder)

    # --- opening ----------------------------------------------------------------------------------------------------

    def _admit_all(self) -> None:
        """Put every attempt into the index, and what two writers at once, or a copied file, have doubled in order."""
        doubled: dict[Path, set[Key]] = defaultdict(set)
        demoted: dict[Path, set[Key]] = defaultdict(set)
        for path, table in self._shelf.scan():
            self._files.remember(table["files"].to_pylist())
            for attempt in attempts_of(table):
                if attempt.key in self._index:
                    if self._index.path_of(attempt) != path:
                        doubled[path].add(attempt.key)
                    continue
                held = self._index.final_of(attempt.job_id) if attempt.final else None
                self._index.put(attempt, path)
                if held is not None:
                    mended = held.has_failed and not attempt.has_failed
                    regraded = not held.has_failed and held.gives_way(attempt)
                    loser, winner = (held, attempt) if mended or regraded else (attempt, held)
                    demoted[self._index.path_of(loser)].add(loser.key)
                    self._index.unmark(loser)
                    self._index.put(winner, self._index.path_of(winner))
        for path, keys in doubled.items():
            self._shelf.keep_copy(path, f"{count(len(keys), 'attempt')} in it came first in another file")
            self._shelf.change(path, partial(without, keys=keys))
        for path, keys in demoted.items():
            self._shelf.change(path, partial(without_mark, keys=keys))

    def _failure(self, what: str, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        if isinstance(error, NotPlainError):
            what, reason = error.filename, f"{reason}: move it away, and start again"
        if error.errno not in durable.DISK_FULL:
            return StoreError(f"{what}: {reason}", "Nothing that was committed before is lost.")
        kept = count(len(self._index), "attempt")
        return StoreError(
            f"{what}: {reason} ({_free(self.run_folder)} free)",
            f"What was committed before ({kept}) is safe. Make room and start the same sweep again: it goes on.",
        )


def _grown(before: Any, keys: Collection[Key], table: Any) -> Any:
    """What a part holds, with the columns of this version, these attempts without the mark, and `table` behind it."""
    return joined(without_mark(conform(before), keys), table)


def _free(folder: Path) -> str:
    """What is left on the disk of `folder`: bytes, and files where these are what is short."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return "an unknown number of bytes"
    files = "" if found.f_favail or not found.f_files else " and no more files"
    return f"{found.f_bavail * found.f_frsize:,} bytes{files}"
