"""What lies in an exam's folder: read once, within bounds, so that nothing that happens there later changes a grade.

A folder may be anybody's: a link would take in files from elsewhere, a pipe would keep its reader for ever, and a data
set that lies there by mistake would be sent to every node. Such things are named and refused; hidden files and what
Python leaves behind are passed over.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from runners.errors import RunnersError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MIB: Final = 1 << 20
MOST_BYTES: Final = 16 * MIB
MOST_FILES: Final = 2000
_MOST_DEPTH: Final = 12
_MOST_NAME: Final = 100
_KINDS: Final = (
    (stat.S_ISLNK, "a link, which may lead out of the folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_WHEN: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say: equal content, equal bytes


class ExamFolderError(RunnersError):
    """A folder that is no exam; the message says where and what, each of `details` what else, the hint what to do."""

    def __init__(self, message: str, hint: str = "", *, details: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n".join([self.message, *self.details, *([self.hint] if self.hint else [])])


@dataclass(frozen=True)
class Content:
    """The files of an exam's folder by their path in it (`files/data.csv`), in order of their names."""

    files: Mapping[str, bytes]

    @cached_property
    def sha256(self) -> str:
        """Of all paths and what is there; 64 hex digits."""
        return digest_of(self.files)

    def below(self, *folders: str) -> dict[str, bytes]:
        """The files in these folders, by their path in the exam's folder."""
        starts = tuple(f"{folder}/" for folder in folders)
        return {path: data for path, data in self.files.items() if path.startswith(starts)}

    def text(self, path: str) -> str | None:
        """A file as text; None where there is none.

        Raises:
            ExamFolderError: it is not UTF-8.
        """
        data = self.files.get(path)
        try:
            return None if data is None else data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise ExamFolderError(f"{path}: byte {error.start} is not UTF-8", "save it as UTF-8 text") from None

    def pack(self) -> bytes:
        """The content as one value that crosses the cluster; equal for equal content."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in self.files.items():
                archive.writestr(zipfile.ZipInfo(path, _WHEN), data, zipfile.ZIP_DEFLATED)
        return packed.getvalue()

    @classmethod
    def unpack(cls, packed: bytes) -> Content:
        """What `pack` made.

        Raises:
            ExamFolderError: it is damaged, or larger than an exam may be.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                found = archive.infolist()
                if len(found) > MOST_FILES or sum(each.file_size for each in found) > MOST_BYTES:
                    raise ExamFolderError("a packed exam is larger than an exam may be")
                files = {each.filename: archive.read(each) for each in found}
        # What `zipfile` raises over bytes that are no archive of ours: it has no one class for that.
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ExamFolderError(f"a packed exam is damaged: {error}") from None
        for path in files:
            parts = PurePosixPath(path).parts
            if path.startswith("/") or any(_odd_name(part) for part in parts) or len(parts) > _MOST_DEPTH:
                raise ExamFolderError(f"a packed exam holds a file that none may hold: {path[:_MOST_NAME]!r}")
        return cls(dict(sorted(files.items())))

    def write_to(self, folder: Path) -> None:
        """Writes all files below an empty folder.

        Raises:
            OSError: there is no room.
        """
        for path, data in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def digest_of(files: Mapping[str, bytes]) -> str:
    """sha256 over the paths and contents of files; 64 hex digits."""
    listed = [[path, hashlib.sha256(data).hexdigest()] for path, data in sorted(files.items())]
    return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()


def read_content(folder: Path) -> Content:
    """Reads an exam's folder.

    Raises:
        ExamFolderError: there is none, or something in it is no plain file, has an odd name, or is too large.
    """
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ExamFolderError(
            f"there is no folder {folder}", "give the path of an exam's folder; `quantsweep exams new NAME` makes one"
        ) from None
    except NotADirectoryError:
        raise ExamFolderError(f"{folder} is no folder", "an exam is a folder with an exam.toml in it") from None
    except OSError as error:
        raise ExamFolderError(f"{folder}: cannot be read: {error.strerror or error}") from None
    try:
        files: dict[str, bytes] = {}
        left = MOST_BYTES
        for path, descriptor in _plain_files(root, folder, ""):
            with os.fdopen(descriptor, "rb") as file:
                if len(files) >= MOST_FILES:
                    raise ExamFolderError(f"{folder} holds more than {MOST_FILES:,} files", _MOVE_AWAY)
                data = file.read(left + 1)  # by what is read, not by the size that is said: it may grow meanwhile
            left -= len(data)
            if left < 0:
                raise ExamFolderError(
                    f"{folder} holds more than {MOST_BYTES // MIB} MiB, which every node would be sent "
                    f"(with {path} it is too much)",
                    _MOVE_AWAY,
                )
            files[path] = data
    except OSError as error:
        raise ExamFolderError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from None
    finally:
        os.close(root)
    return Content(dict(sorted(files.items())))


_MOVE_AWAY: Final = (
    "move what the exam does not need out of its folder, or into a hidden one (.data), which is not read"
)


def _plain_files(descriptor: int, folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Every file below an open folder: its path, and a descriptor that the caller closes."""
    if prefix.count("/") > _MOST_DEPTH:
        raise ExamFolderError(f"{folder / prefix} lies deeper than {_MOST_DEPTH} folders", _MOVE_AWAY)
    with os.scandir(descriptor) as found:
        names = sorted(entry.name for entry in found)
    for name in names:
        if name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", "~")):
            continue
        if _odd_name(name):
            raise ExamFolderError(f"{folder / prefix}: the name {name[:_MOST_NAME]!r} is no plain one", "rename it")
        path = f"{prefix}{name}"
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        for is_kind, what in _KINDS:
            if is_kind(status.st_mode):
                raise ExamFolderError(f"{folder / path} is {what}", "an exam holds plain files and folders")
        guard = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            opened = os.open(name, guard, dir_fd=descriptor)
        except OSError as error:
            raise ExamFolderError(f"{folder / path}: cannot be read: {error.strerror or error}") from None
        mode = os.fstat(opened).st_mode
        if stat.S_ISREG(mode):
            yield path, opened
            continue
        try:
            if not stat.S_ISDIR(mode):  # exchanged between the two looks
                raise ExamFolderError(f"{folder / path} is no plain file", "an exam holds plain files and folders")
            yield from _plain_files(opened, folder, f"{path}/")
        finally:
            os.close(opened)


def _odd_name(name: str) -> bool:
    """Whether a name would be misread somewhere on its way: in a message, an archive, a path of the sandbox."""
    return (
        name in {"", ".", ".."} or len(name) > _MOST_NAME or not name.isprintable() or not set(name).isdisjoint('\\:"')
    )
