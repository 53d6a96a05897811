"""What a model source offers, before anything is pinned: candidates, sidecars and what was skipped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quants.gguf import Header

SourceKind = Literal["file", "folder", "hub", "builtin"]
SidecarKind = Literal["mmproj", "imatrix", "draft"]


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as a source lists it.

    Attributes:
        path: relative to the source, with forward slashes.
        size_bytes: its length.
        sha256: of its content where the source publishes it (the Hub does); None for local files until selected.
        git_sha1: the git object id of a Hub file that is stored in git itself; None elsewhere.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One quant that a source offers: not pinned yet, so listing a folder of huge files costs no hashing.

    Attributes:
        quant: its label, unique within the listing.
        files: one file, or the shards of a split set in order.
        label: the quant label by its file name alone, e.g. "Q4_K_M", else by its header; several candidates may share
            it.
    """

    quant: str
    files: tuple[ListedFile, ...]
    label: str

    @property
    def file_bytes(self) -> int:
        """The size of all its files together, in bytes."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file that belongs to the model without being a quant of it (mmproj, imatrix, draft model)."""

    kind: SidecarKind
    file: ListedFile


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds, at one commit where it is a repository.

    Attributes:
        kind: file, folder, hub or builtin.
        source: the text that was resolved.
        repo: "owner/name" for the Hub.
        revision: the full commit hash for the Hub.
        root: the absolute local folder (file and folder sources).
        builtin: the name of the model that ships with quantsweep.
        candidates: the quants, smallest first.
        sidecars: mmproj, imatrix and draft files.
        skipped: (path, reason) of GGUF files that cannot be used; selecting one of them is an error that says so.
        headers: of local files by path, as they were read while listing; empty for the Hub, where headers cost bytes
            (`quants.sources.headers.read_headers` has them for every kind of source).
    """

    kind: SourceKind
    source: str
    repo: str | None
    revision: str | None
    root: str | None
    builtin: str | None
    candidates: tuple[Candidate, ...]
    sidecars: tuple[Sidecar, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, Header] = field(default_factory=dict, repr=False, compare=False)

    @property
    def quants(self) -> tuple[str, ...]:
        """The labels of all candidates, smallest file first."""
        return tuple(candidate.quant for candidate in self.candidates)
