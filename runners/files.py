"""The files that a grader returns with a grade: few, small and inert, named in the row by the sha256 of their content.

They travel with the row: in its spool file, in the message to the driver, which writes them to the run folder before it
commits the row. So they are bounded like everything else in a row, and a name is a label, never a path that is opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from runners.errors import RunnersError
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_FILES = 32
FILE_BYTES = 2 << 20
ALL_BYTES = 4 << 20
"""Of all files of one grade together."""
NAME_BYTES = 100

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}/[a-z0-9][a-z0-9.+-]{0,80}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileRefusedError(RunnersError):
    """A grader returned a file that no row may name, or too many or too large ones: the grader's own failure."""

    outcome = Outcome.GRADER_CRASH


@dataclass(frozen=True)
class GradedFile:
    """One file that a grade leaves.

    Attributes:
        name: What a person calls it (`picture.png`): one component of a path, printable, unique within the grade
            whatever the case of its letters.
        media_type: As `image/png`, lower case, without parameters.
        data: Its content, FILE_BYTES at most. Whatever a model's program wrote is the model's: it is kept, never run.
        sha256: Of the content, in hex.

    Raises:
        FileRefusedError: it may not be kept so.
    """

    name: str
    media_type: str
    data: bytes = field(repr=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            raise FileRefusedError(f"a grader returned a file whose content is no bytes: {_shown(self.name)}")
        problem = _problem_of_name(self.name) or _problem_of_type(self.media_type)
        if problem is not None:
            raise FileRefusedError(f"a grader returned a file that cannot be kept: {problem}")
        if len(self.data) > FILE_BYTES:
            raise FileRefusedError(
                f"a grader returned {_shown(self.name)} with {len(self.data):,} bytes; a file may have {FILE_BYTES:,}"
            )
        object.__setattr__(self, "sha256", hashlib.sha256(self.data).hexdigest())


class NamedFile(NamedTuple):
    """A file as the row names it."""

    name: str
    media_type: str
    sha256: str
    bytes: int


def check_together(files: Sequence[GradedFile]) -> None:
    """Raises `FileRefusedError` if one row cannot name all of `files`."""
    problem = _problem_together([NamedFile(each.name, each.media_type, each.sha256, len(each.data)) for each in files])
    if problem is not None:
        raise FileRefusedError(f"a grader returned files that cannot be kept: {problem}")


def files_json(files: Sequence[GradedFile]) -> str | None:
    """The column `files`; None where there is none."""
    named = [NamedFile(each.name, each.media_type, each.sha256, len(each.data))._asdict() for each in files]
    return json.dumps(named, ensure_ascii=False, separators=(",", ":")) if named else None


def contents_of(files: Iterable[GradedFile]) -> dict[str, bytes]:
    """Content by sha256: equal files are one."""
    return {each.sha256: each.data for each in files}


def named_in(row: Mapping[str, Any]) -> tuple[NamedFile, ...]:
    """The files that a row names.

    Raises:
        ValueError: its column is not what `files_json` makes.
    """
    text = row.get("files")
    if text is None:
        return ()
    found = json.loads(text)
    if (problem := problem_of(found)) is not None:
        raise ValueError(problem)
    return tuple(NamedFile(**each) for each in found)


def problem_of(found: Any) -> str | None:
    """What is wrong with a parsed column `files`, as words that follow `what was recorded`; None if nothing is."""
    if not isinstance(found, list) or not found:
        return "was no list of files"
    for each in found:
        if not isinstance(each, dict) or each.keys() != set(NamedFile._fields):
            return f"had an entry without {', '.join(NamedFile._fields)}"
        size, sha256 = each["bytes"], each["sha256"]
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= FILE_BYTES:
            return f"had a file of no size up to {FILE_BYTES:,} bytes"
        if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
            return "had a file without a sha256"
        if (problem := _problem_of_name(each["name"]) or _problem_of_type(each["media_type"])) is not None:
            return f"had a file that may not be: {problem}"
    return _problem_together([NamedFile(**each) for each in found])


def require_contents(row: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Raises `ValueError` if `row` names a file whose content is not in `contents` as the row says."""
    for file in named_in(row):
        data = contents.get(file.sha256)
        if data is None or len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise ValueError(f"the row names a file that did not come with it, or not as it was: {_shown(file.name)}")


def joined(row: Mapping[str, Any], contents: Mapping[str, bytes]) -> bytes:
    """What the files of `row` hold, one after the other, each content once; `split` takes it apart."""
    return b"".join(contents[sha256] for sha256 in _sizes(row))


def split(row: Mapping[str, Any], data: bytes) -> dict[str, bytes]:
    """The contents of the files that `row` names, out of what `joined` made of them.

    Raises:
        ValueError: it is not that, or was changed since.
    """
    contents, begin = {}, 0
    for sha256, size in _sizes(row).items():
        contents[sha256] = data[begin : begin + size]
        begin += size
    if begin != len(data):
        raise ValueError(f"the files that the row names have {begin:,} bytes, and {len(data):,} came with it")
    require_contents(row, contents)
    return contents


def _sizes(row: Mapping[str, Any]) -> dict[str, int]:
    return {file.sha256: file.bytes for file in named_in(row)}


def _problem_together(files: Sequence[NamedFile]) -> str | None:
    if len(files) > MOST_FILES:
        return f"there are {len(files)} of them; {MOST_FILES} are allowed"
    if (size := sum(file.bytes for file in files)) > ALL_BYTES:
        return f"they have {size:,} bytes together; {ALL_BYTES:,} are allowed"
    names = [file.name.casefold() for file in files]
    doubled = next((file.name for file, name in zip(files, names, strict=True) if names.count(name) > 1), None)
    return None if doubled is None else f"more than one is called {_shown(doubled)}"


def _problem_of_name(name: Any) -> str | None:
    if not isinstance(name, str) or not name.strip() or name != name.strip() or not name.isprintable():
        return f"its name is no line of printable text: {_shown(name)}"
    if len(name.encode()) > NAME_BYTES:
        return f"its name has more than {NAME_BYTES} bytes: {_shown(name)}"
    if name.startswith(".") or any(letter in name for letter in "/\\:"):
        return f"its name begins with a dot, or holds / or \\ or a colon: {_shown(name)}"
    return None


def _problem_of_type(media_type: Any) -> str | None:
    if not isinstance(media_type, str) or _MEDIA_TYPE.fullmatch(media_type) is None:
        return f"its media type is none, such as image/png: {_shown(media_type)}"
    return None


def _shown(value: Any) -> str:
    text = repr(value[:60]) if isinstance(value, str) else f"a value of type {type(value).__name__}"
    return text.encode("ascii", "backslashreplace").decode()[:120]
