"""Every error that model files can cause, written for the person who meets it.

    QuantsError                     message, and a hint that says what to do
    ├── GGUFError                   the bytes are no sound GGUF: what is wrong, and at which byte
    ├── SourceError                 a source that cannot be used: path missing, empty, no GGUF, cut off
    │   └── SelectionError          a quant that the source does not hold, or that is ambiguous
    ├── DiskFullError               the model does not fit on the disk where it has to land
    ├── CorruptFileError            bytes that are not those which were pinned (size or sha256 differ)
    ├── FetchCancelledError         the caller asked to stop
    └── HubError                    the Hugging Face Hub said no
        ├── RepoNotFoundError       no such repository, revision or file
        ├── GatedRepoError          licence to accept first
        ├── PrivateRepoError        not visible with this token
        ├── RateLimitedError        429, after the retries that its Retry-After allowed
        ├── HubUnavailableError     5xx or cut-off answers, after bounded retries
        └── OfflineError            no network (or offline mode), and not in the cache

All of them survive pickling, because they cross process and Ray boundaries.
"""

from __future__ import annotations


class QuantsError(Exception):
    """Something about a model file or its source is wrong; `str()` says what, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        # Positional arguments only: BaseException pickles by calling the class with `args`.
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class GGUFError(QuantsError):
    """The bytes are not a sound GGUF header.

    Attributes:
        offset: where in the file, in bytes; None where no single place is wrong.
        where: the file (or URL) it was read from, as the user knows it; None for bare bytes.
    """

    def __init__(
        self, message: str, hint: str | None = None, offset: int | None = None, where: str | None = None
    ) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, offset, where)
        self.offset = offset
        self.where = where

    def __str__(self) -> str:
        place = "" if self.offset is None else f" (at byte {self.offset:,})"
        text = f"{self.where}: {self.message}{place}" if self.where else f"{self.message}{place}"
        return f"{text}. {self.hint}" if self.hint else text


class SourceError(QuantsError):
    """A model source that cannot be used: missing, empty, no GGUF in it, cut off, incomplete split set."""


class SelectionError(SourceError):
    """A quant that the source does not hold, or a name that stands for several files."""


class DiskFullError(QuantsError):
    """There is no room for the model on the disk where it has to land."""


class CorruptFileError(QuantsError):
    """A file's size or sha256 is not what was pinned."""


class FetchCancelledError(QuantsError):
    """The caller cancelled a download; what was fetched so far is kept for the next attempt."""


class HubError(QuantsError):
    """The Hugging Face Hub did not give what was asked for."""


class RepoNotFoundError(HubError):
    """No such repository, revision or file on the Hub."""


class GatedRepoError(HubError):
    """The repository is gated: its licence has to be accepted on its page first."""


class PrivateRepoError(HubError):
    """The repository is private, or its existence is hidden from this token."""


class RateLimitedError(HubError):
    """The Hub answered 429 more often than the bounded retries could wait for."""


class HubUnavailableError(HubError):
    """The Hub answered 5xx, or broke off, more often than the bounded retries allow."""


class OfflineError(HubError):
    """The Hub cannot be reached (or offline mode is set) and the cache does not hold what is needed."""
