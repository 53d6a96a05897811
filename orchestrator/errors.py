"""The errors a person meets: what was wrong, where, and what to do about it.

    SweepError                 anything that ends a command with a sentence instead of a traceback
    ├── SpecError              the TOML file: syntax, keys, values (one error lists all problems found)
    ├── RunFolderError         the run folder: in use, made from another spec, not writable, full
    └── ClusterError           Ray: not reachable, refused, no node that can do the work

Rooms below this one raise their own (`quants.errors.QuantsError`, `runners.errors.RunnersError`,
`results.store.StoreError`): `user_errors` names all of them for the command line.
"""

from __future__ import annotations

from dataclasses import dataclass

EXIT_DONE = 0
EXIT_FAILURES = 1
EXIT_STOPPED = 2


class SweepError(Exception):
    """Ends a command: `message` says what was wrong and where, `hint` what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


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


class SpecError(SweepError):
    """The spec cannot be run; every problem found is listed, not only the first."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        super().__init__("\n".join(problem.render(file) for problem in problems))


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
