"""Model sources: from the text in a spec to what is there, and from quant names to pinned artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quants.artifact import Artifact

SourceKind = Literal["file", "folder", "hub", "builtin"]


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as a source lists it.

    Attributes:
        path: relative to the source, with forward slashes.
        size_bytes: its length.
        sha256: of its content where the source publishes it (the Hub does); None for local files until selected.
    """

    path: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One quant that a source offers: not pinned yet, so listing a folder of huge files costs no hashing."""

    quant: str
    files: tuple[ListedFile, ...]

    @property
    def file_bytes(self) -> int:
        """The size of all its files together, in bytes."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file that belongs to the model without being a quant of it (mmproj, imatrix, draft model)."""

    kind: Literal["mmproj", "imatrix", "draft"]
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

    @property
    def quants(self) -> tuple[str, ...]:
        """The labels of all candidates, smallest file first."""
        return tuple(candidate.quant for candidate in self.candidates)


def resolve(text: str, *, base_dir: Path) -> Listing:
    """What `text` (a file, a folder, `hf:owner/name[@revision]`, `builtin:stand-in`) holds.

    Local headers are read and checked; nothing is hashed or downloaded yet.

    Args:
        text: the source as the spec has it. A relative path counts from `base_dir`, `~` is the home folder.
        base_dir: the folder of the spec.

    Raises:
        SourceError: nothing usable there, with the path or repository named.
        HubError: the Hub refused or cannot be reached.
    """
    from quants.listing import list_source

    return list_source(text, base_dir=base_dir)


def select(listing: Listing, quants: Sequence[str] | Literal["all"]) -> tuple[Artifact, ...]:
    """The artifacts of `quants`, pinned by size and sha256, in the order asked ("all": smallest first).

    Local files are hashed here; digests are remembered by path, size, mtime and inode.

    Raises:
        SelectionError: a quant that is not there (the nearest is named) or a name that stands for several.
        SourceError: a file that cannot be read, or changed while it was hashed.
    """
    from quants.listing import pin

    return pin(listing, quants)
