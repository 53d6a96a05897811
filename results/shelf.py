"""The files of a run's attempts, for the process that writes them: which are there, and sound, and which takes more."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from results import durable
from results.columnar import encode_alone
from results.index import INDEXED
from results.parts import Identity, Part, forget_past, identity_of, is_open_size
from results.plainfile import plain_folder
from results.reading import StoreError, Torn, attempt_files, part_name, part_number, read_file, read_files
from results.seal import TornFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUARANTINE_FOLDER: Final = "quarantine"

NEEDED: Final = (*INDEXED, "files")

READERS_GRACE_S: Final = 60.0
"""So long after a part was closed, nobody reads any more what it was before."""

CHECKED_WHOLE_BYTES: Final = 1 << 28
"""Runs of up to this size are read from end to end when they are opened; of larger ones, what the index needs."""

_LOADED_PARTS: Final = 4
_WITH_PAST_BYTES: Final = 1 << 17


class Shelf:
    """The files in `folder`, and those of them that are in memory.

    Attributes:
        quarantined: Files that were set aside, by their new paths.
    """

    def __init__(self, run_folder: Path, folder: Path) -> None:
        self.folder = folder
        self.quarantined: list[Torn] = []
        self._quarantine = run_folder / QUARANTINE_FOLDER
        self._known: dict[Path, Identity] = {}
        self._loaded: dict[Path, Part] = {}
        self._number = 0
        self._newest: Path | None = None
        self._closed: deque[tuple[float, Path]] = deque()

    # --- opening ----------------------------------------------------------------------------------------------------

    def scan(self) -> Iterator[tuple[Path, Any]]:
        """Every sound file with what the store needs of it (NEEDED); damaged ones are set aside."""
        files = attempt_files(self.folder)
        taken = sum(path.stat().st_blocks * 512 for path in files)
        for path, found in read_files(self.folder, NEEDED, whole=taken <= CHECKED_WHOLE_BYTES):
            if isinstance(found, TornFileError):
                self.set_aside(path, str(found))
            else:
                self._known[path] = identity_of(path)
                yield path, found
        parts = [path for path in self._known if part_number(path) is not None]
        self._number = max((part_number(path) or 0 for path in parts), default=0)
        self._newest = parts[-1] if parts else None

    def tidy(self) -> None:
        """Close the parts that a killed process left open, but the newest, and give back space that it had not yet."""
        for path, (_, _, size, changed_ns) in list(self._known.items()):
            if part_number(path) is None or path == self._newest:
                continue
            if is_open_size(size):
                part = self.part(path)
                if part is not None and not part.closed:
                    self.write(part, part.table(), closed=True)
            elif size >= _WITH_PAST_BYTES and time.time() - changed_ns / 1e9 > READERS_GRACE_S:
                self._forget_past(path)

    # --- parts ------------------------------------------------------------------------------------------------------

    def current(self) -> Part:
        """The part that takes the next attempts."""
        part = None if self._newest is None else self.part(self._newest)
        if part is None or part.closed or not part.takes_rows:
            self._number += 1
            part = Part(self.folder / part_name(self._number, secrets.token_hex(4)))
            self._newest = part.path
            self._loaded[part.path] = part
        return part

    def part(self, path: Path) -> Part | None:
        """The part at `path`, in memory, changed by nobody but us; None where it is none, or none any more.

        What is in memory is still there when the file is damaged or gone: the next `write` makes it anew.

        Raises:
            StoreError: Another process has changed it.
            OSError: It cannot be read.
        """
        part = self._loaded.pop(path, None)
        if part is None:
            if part_number(path) is None:
                return None
            try:
                part = Part.load(path)
            except (FileNotFoundError, TornFileError):
                return None
        elif part.identity is not None and not self._is_ours(part):
            part.identity = None
        self._loaded[path] = part
        while len(self._loaded) > _LOADED_PARTS:
            del self._loaded[next(other for other in self._loaded if other != self._newest)]
        return part

    def write(self, part: Part, table: Any, *, add: bool = False, closed: bool = False) -> None:
        """Put `table` into `part`, durably: behind what it holds (`add`), or in place of it.

        Raises:
            OSError: It may be there or not; what was there before is, unless `table` replaces it.
        """
        try:
            if add:
                part.add(table)
            else:
                part.rewrite(table, closed=closed)
        except BaseException:
            self._loaded.pop(part.path, None)  # what is on disk now is not known: it will be read again
            raise
        self._known[part.path] = part.identity or identity_of(part.path)
        if closed:
            self._closed.append((time.monotonic(), part.path))
        if self._closed and time.monotonic() - self._closed[0][0] > READERS_GRACE_S:
            self._forget_past(self._closed.popleft()[1])

    def change(self, path: Path, change: Callable[[Any], Any]) -> None:
        """Put `change` of its table in place of a file, durably, with whatever columns it has; none left, set it aside.

        For what happens once in a long while: a reader that is just opening the file may fail.

        Raises:
            TornFileError: It is damaged.
            OSError: It is as it was.
        """
        import pyarrow.parquet as pq

        read_file(path)  # every byte of it is sound
        with pq.ParquetFile(path) as parquet:
            table = change(parquet.read())
        self._loaded.pop(path, None)
        if not table.num_rows:
            self.set_aside(path, "everything in it is in another file too")
            return
        if part_number(path) is None:
            durable.replace(path, encode_alone(table))
        else:
            part = Part(path)
            part.identity = self._known[path]
            part.rewrite(table, closed=True)
        self._known[path] = identity_of(path)

    def _is_ours(self, part: Part) -> bool:
        """Whether a part is on disk as we wrote it; False where it is damaged or gone."""
        try:
            if identity_of(part.path) == part.identity:
                return True
            read_file(part.path)
        except FileNotFoundError:
            return False
        except TornFileError as error:
            self.set_aside(part.path, f"{error}; it was written anew")
            return False
        raise StoreError(
            f"{part.path} was changed by another process while this one wrote to it",
            "See to it that one sweep at a time has this run folder, and start again: it goes on.",
        )

    def _forget_past(self, path: Path) -> None:
        with contextlib.suppress(OSError, TornFileError):  # space is not worth an error
            if self._known.get(path) == identity_of(path):
                forget_past(path)
                self._known[path] = identity_of(path)
                self._loaded.pop(path, None)

    # --- damage -----------------------------------------------------------------------------------------------------

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Files that are not as they were when we read or wrote them, and why; those in memory are written anew."""
        for path, identity in list(self._known.items()):
            if (part := self._loaded.get(path)) is not None:
                if not self._is_ours(part):
                    part.identity = None
                    self.write(part, part.table(), closed=part.closed)
                continue
            try:
                if identity_of(path) == identity:
                    continue
                read_file(path)
                self._known[path] = identity_of(path)
            except FileNotFoundError:
                yield path, "it is gone"
            except TornFileError as error:
                yield path, str(error)

    def keep_copy(self, path: Path, reason: str) -> None:
        """Copy a file to quarantine, before something is taken out of it."""
        target = self._place_aside(path)
        shutil.copyfile(path, target)
        self.quarantined.append(Torn(target, reason))

    def set_aside(self, path: Path, reason: str) -> None:
        """Move a damaged file to quarantine, where no reader finds it; one that is gone is only noted."""
        target = self._place_aside(path)
        try:
            path.rename(target)
        except FileNotFoundError:
            target = path
        durable.sync_folder(self.folder)
        self._known.pop(path, None)
        self._loaded.pop(path, None)
        self.quarantined.append(Torn(target, reason))

    def _place_aside(self, path: Path) -> Path:
        plain_folder(self._quarantine)
        target = self._quarantine / f"{path.name}.torn"
        number = 1
        while target.exists():
            number += 1
            target = self._quarantine / f"{path.name}.torn{number}"
        return target
