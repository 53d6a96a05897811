"""The artifact: one quant of a model as a file or split set, pinned by path, size and sha256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from quants.errors import SourceError


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of an artifact.

    Attributes:
        path: relative to the repository or folder, with forward slashes.
        size_bytes: its exact length.
        sha256: of its content, 64 lower-case hex digits.
    """

    path: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The file as a JSON object; `from_json` reads it back."""
        return {"path": self.path, "size_bytes": self.size_bytes, "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ModelFile:
        """The file that `to_json` wrote."""
        return cls(path=str(value["path"]), size_bytes=int(value["size_bytes"]), sha256=str(value["sha256"]))


@dataclass(frozen=True, slots=True)
class Artifact:
    """One quant of a model, pinned: what is fetched, verified, loaded and written into every row.

    Where it comes from is one of three: a Hub repository (`repo` and `revision`), a model that ships with
    quantsweep (`builtin`), or a local folder (`root`).

    Attributes:
        quant: its label, unique within its source, e.g. "Q4_K_M" or "UD-Q4_K_XL".
        files: one file, or the shards of a split set in order.
        repo: "owner/name" on the Hugging Face Hub.
        revision: the full commit hash that the files are pinned to.
        root: the absolute local folder that `files[].path` is relative to.
        builtin: the name of a model inside the quantsweep package; resolved anew on every node.
    """

    quant: str
    files: tuple[ModelFile, ...]
    repo: str | None = None
    revision: str | None = None
    root: str | None = None
    builtin: str | None = None

    def __post_init__(self) -> None:
        if not self.files:
            raise SourceError(f"artifact {self.quant!r} has no files")

    @property
    def file_bytes(self) -> int:
        """The size of all files together, in bytes."""
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """The digest that identifies the content, 64 hex digits.

        For a single file its own sha256. For a split set the sha256 of the shards' digests, each as 64 ASCII hex
        digits followed by a newline, in shard order: `for f in shards: sha256sum f | cut -c-64` piped to `sha256sum`.
        """
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("".join(f"{file.sha256}\n" for file in self.files).encode("ascii")).hexdigest()

    @property
    def source(self) -> str:
        """Where the artifact comes from, in the form that a spec accepts (a local one is an absolute folder)."""
        if self.repo is not None:
            return f"hf:{self.repo}@{self.revision}" if self.revision else f"hf:{self.repo}"
        if self.builtin is not None:
            return f"builtin:{self.builtin}"
        return self.root or "."

    def to_json(self) -> dict[str, Any]:
        """The artifact as a JSON object, as it is written into a plan; `from_json` reads it back."""
        return {
            "quant": self.quant,
            "files": [file.to_json() for file in self.files],
            "repo": self.repo,
            "revision": self.revision,
            "root": self.root,
            "builtin": self.builtin,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Artifact:
        """The artifact that `to_json` wrote."""
        return cls(
            quant=str(value["quant"]),
            files=tuple(ModelFile.from_json(file) for file in value["files"]),
            repo=value.get("repo"),
            revision=value.get("revision"),
            root=value.get("root"),
            builtin=value.get("builtin"),
        )
