"""The files that attempts left: `files/<sha256>` in the run folder, there before any row that names them.

    runs/<sweep>/files/<sha256>     what one file holds, or several of equal content; the column `files` has their names

A file is written, with fsync and rename, before the row that names it, so that a kill in between leaves a file without
a row, never a row without its file: the row is offered again, and finds the file there. Content is held against its
sha256 whenever it is taken for there.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from results import durable
from results.figures import count, size
from results.plainfile import NotPlainError, plain_folder, read_plain
from results.rows import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Content = Callable[[str], bytes | None]
    """What a file holds, by its sha256; None where it is not to be had."""

FILES_FOLDER: Final = "files"

MOST_BYTES: Final = 64 << 20
"""Nothing larger is a file that we wrote."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class NamedFile(NamedTuple):
    """A file as a row names it."""

    name: str
    media_type: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class LostFiles:
    """Files that attempts name and that are not in the folder any more, as they were."""

    folder: Path
    number: int
    known: int

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.number:,} of {count(self.known, 'file')} that attempts name are gone, or changed; "
            "what those attempts scored is kept"
        )


@dataclass(frozen=True, slots=True)
class FilesSummary:
    """The files that the final attempts of a run name, equal ones counted once.

    Attributes:
        answers: Attempts that name any.
        files, bytes: How many there are, and their size.
        missing: Those of them that are not in the folder.
    """

    folder: str
    answers: int
    files: int
    bytes: int
    missing: int

    def __str__(self) -> str:
        text = (
            f"Files of {count(self.answers, 'answer')}: {self.files:,} ({size(self.bytes)}) in {self.folder}; "
            "the column `files` names them."
        )
        return f"{text} {self.missing:,} of them are gone, or changed." if self.missing else text


def summary_of(texts: Iterable[str | None], run_folder: Path) -> FilesSummary | None:
    """What these columns `files` name, and what of it is there; None where they name nothing."""
    files = RunFiles(run_folder)
    answers = sum(files.remember([text]) for text in texts if text)
    return files.summary(answers) if answers else None


def named_files(text: str | None) -> tuple[NamedFile, ...]:
    """The files that a column `files` names.

    Raises:
        SchemaError: It is not what the column holds: a list of objects with these fields.
    """
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(map(_is_file, found)):
        raise SchemaError(["files must be a list of objects with name, media_type, sha256 and bytes"])
    return tuple(NamedFile(**each) for each in found)


def _is_file(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == set(NamedFile._fields)
        and all(isinstance(found[name], str) for name in ("name", "media_type", "sha256"))
        and _SHA256.fullmatch(found["sha256"]) is not None  # it becomes the name of a file
        and isinstance(found["bytes"], int)
        and found["bytes"] >= 0
    )


class RunFiles:
    """The folder of files of one run. It is made with the first of them."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / FILES_FOLDER
        self._known: dict[str, int] = {}

    def clean(self) -> None:
        """Remove what killed writers left."""
        if self.folder.is_dir():
            durable.clean_leftovers(self.folder)

    def remember(self, texts: Iterable[str | None]) -> int:
        """Take in the files that committed rows name, and return how many of these name any.

        What a column holds that is none of ours is passed over.
        """
        rows = 0
        for text in texts:
            with suppress(SchemaError):
                found = {file.sha256: file.bytes for file in named_files(text)}
                rows += bool(found)
                self._known.update(found)
        return rows

    def keep(self, texts: Iterable[str | None], content: Content) -> None:
        """Make what these rows name durable, before they are committed; what is there already is not written again.

        Raises:
            SchemaError: A row names a file that is not here, and whose content is not given; or none at all.
            OSError: No room, or no right, to write.
        """
        wanted = {file.sha256: file for text in texts for file in named_files(text)}
        if not wanted:
            return
        if not self.folder.is_dir():
            plain_folder(self.folder)
            durable.sync_folder(self.folder.parent)
        for sha256, file in wanted.items():
            if self.read(sha256) is not None:
                continue
            data = content(sha256)
            if data is None or hashlib.sha256(data).hexdigest() != sha256:
                raise SchemaError([f"files names {file.name!r}, whose content is neither kept here nor given"])
            durable.write(self.folder / sha256, data)
        durable.sync_folder(self.folder)  # for those, too, that a killed process had written

    def read(self, sha256: str) -> bytes | None:
        """What a file holds; None where it is not there, or damaged, or none of ours."""
        path = self.folder / sha256
        try:
            data = read_plain(path, most_bytes=MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError, NotPlainError):
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def lost(self) -> LostFiles | None:
        """What became of the files that rows name: None where all are there with the size that they had."""
        gone = self._gone()
        return LostFiles(self.folder, gone, len(self._known)) if gone else None

    def summary(self, answers: int) -> FilesSummary:
        """What is remembered, of so many answers, and what of it is there."""
        return FilesSummary(
            str(self.folder), answers, len(self._known), sum(self._known.values()), missing=self._gone()
        )

    def _gone(self) -> int:
        return sum(self._size(sha256) != length for sha256, length in self._known.items())

    def _size(self, sha256: str) -> int | None:
        try:
            return (self.folder / sha256).stat().st_size
        except OSError:
            return None
