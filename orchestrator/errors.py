"""The errors a person meets: what was wrong, where, and what to do about it.

    SweepError                 anything that ends a command with a sentence instead of a traceback
    ├── SpecError              the TOML file: syntax, keys, values (one error lists all problems found)
    ├── RunFolderError         the run folder: in use, of a spec that cannot be compared, not writable, full
    └── ClusterError           Ray: not reachable, refused, no node that can do the work

Rooms below this one raise their own (`quants.errors.QuantsError`, `runners.errors.RunnersError`,
`results.store.StoreError`): `user_errors` names all of them for the command line.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_DONE = 0
EXIT_FAILURES = 1
EXIT_STOPPED = 2


class SweepError(Exception):
    """Ends a command: `message` says what was wrong and where, `details` more of it, `hint` what to do.

    Each is one line where it is shown, whatever it holds.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.details, *([self.hint] if self.hint else [])])


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a spec: `key` is a dotted path, `line` counts from 1."""

    message: str
    key: str | None = None
    line: int | None = None

    def render(self, file: str) -> str:
        """`file:line: key: message`, leaving out what is not known."""
        where = file if self.line is None else f"{file}:{self.line}"
        return f"{where}: {self.message}" if self.key is None else f"{where}: {self.key}: {self.message}"


MOST_PROBLEMS = 100
"""Problems of one spec that are shown; the rest are counted."""


class SpecError(SweepError):
    """The spec cannot be run; every problem found is listed, not only the first. `more` were not looked into."""

    def __init__(self, file: str, problems: list[Problem], *, more: int = 0) -> None:
        self.file = file
        self.problems = problems
        first, *others = (problem.render(file) for problem in problems[:MOST_PROBLEMS])
        if (rest := max(0, len(problems) - MOST_PROBLEMS) + more) > 0:
            others.append(f"{file}: and {rest:,} more")
        super().__init__(first, details=others)


class RunFolderError(SweepError):
    """The run folder cannot be used as asked."""


class ClusterError(SweepError):
    """Ray, or the nodes it has, cannot do the work."""


def user_errors() -> tuple[type[Exception], ...]:
    """Every exception whose text is meant for a person, from all rooms."""
    from profiles.errors import ProfilesError
    from quants.errors import QuantsError
    from results.store import StoreError
    from runners.errors import RunnersError

    return (SweepError, ProfilesError, QuantsError, StoreError, RunnersError)


def lines_of(error: Exception) -> list[str]:
    """What a person reads of an error, each a line of its own: what was wrong, and behind it what to do."""
    message = getattr(error, "message", None)
    if not isinstance(message, str) or not isinstance(error, user_errors()):
        return [str(error)]
    from quants.errors import QuantsError

    if isinstance(error, QuantsError):  # it says where, too, and in one sentence
        return [str(error)]
    hint = getattr(error, "hint", None)
    return [message, *getattr(error, "details", ()), *([hint] if hint else [])]


def one_line(error: Exception) -> str:
    """An error of a room below in one sentence, as a line among the problems of a spec."""
    return in_one_line(str(error))


def in_one_line(text: str) -> str:
    """A message and what to do about it, which stand on lines of their own, as one sentence."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


_CURES = {
    errno.ENOSPC: "Make room there, or name another folder.",
    errno.EDQUOT: "Your quota there is used up: make room, or name another folder.",
    errno.EFBIG: "Files may not grow that large here: see `ulimit -f`.",
    errno.EMFILE: "This process may open no more files: see `ulimit -n`.",
    errno.ENFILE: "The machine has no more open files to give.",
    errno.EACCES: "Look at who may do that there.",
    errno.EPERM: "Look at who may do that there, and whether the file is marked immutable (lsattr).",
    errno.EROFS: "It is mounted read-only: name another folder.",
    errno.EAGAIN: "The machine starts no more processes or threads: see `ulimit -u`.",
    errno.ENOMEM: "The machine has no memory left for this: see `free`, and `ulimit -v`.",
}


def _folder_gone() -> str | None:
    """What the current folder was called, if it was deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            return str(Path("/proc/self/cwd").readlink()).removesuffix(" (deleted)")
        return "the current folder"
    except OSError:
        pass
    return None


def machine_trouble(error: OSError | MemoryError) -> list[str]:
    """What a person reads when the machine refused something of which nobody was to expect it."""
    if isinstance(error, MemoryError):
        return ["this machine has no memory left for this", _CURES[errno.ENOMEM]]
    if isinstance(error, FileNotFoundError) and error.filename is None and (gone := _folder_gone()) is not None:
        return [f"{gone}: the folder that this was started in was deleted", "Change to one that is there (cd)."]
    what = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename is not None else ""
    cure = _CURES.get(error.errno or 0)
    return [f"{where}{what}", *([cure] if cure else [])]
