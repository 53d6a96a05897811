"""Bring an artifact to this node: verified, once per node, resumable, and never a partial file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quants.digests import file_sha256
from quants.errors import CorruptFileError, SourceError
from quants.fetch_progress import FetchProgress
from quants.sources.local import builtin_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from quants.artifact import Artifact, ModelFile
    from quants.hub.client import HubSettings


def fetch(
    artifact: Artifact,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    hub: HubSettings | None = None,
) -> Path:
    """The local path of the artifact's first file, after every file's size and sha256 have been verified.

    Hub files land in huggingface_hub's own cache (`HF_HOME`, `HF_HUB_CACHE`) at the pinned commit and are used
    from there without network ever after. Two processes on one node download once: the second waits for the first.

    Args:
        artifact: what a plan pinned.
        progress: called with (bytes done, bytes in all) now and then; the last call has both equal.
        cancelled: asked now and then; when it returns True the work stops and keeps what it has.
        hub: where the Hub is; by default as huggingface_hub took it from the environment.

    Raises:
        CorruptFileError: what is there, or what arrived twice, is not what was pinned.
        DiskFullError: not enough room, found before the first byte is fetched.
        FetchCancelledError: `cancelled` returned True.
        SourceError: a local file is gone.
        HubError: the Hub refused or cannot be reached, and the cache does not hold the file.
    """
    tally = FetchProgress(artifact.file_bytes, progress, cancelled)
    if artifact.repo is not None:
        from quants.hub.download import fetch_hub

        return fetch_hub(artifact, tally, hub)
    root = builtin_root(artifact.builtin) if artifact.builtin is not None else Path(artifact.root or ".")
    paths = [_verify_local(root, file, tally) for file in artifact.files]
    return paths[0]


def _verify_local(root: Path, file: ModelFile, tally: FetchProgress) -> Path:
    path = root / file.path
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise SourceError(
            f"cannot read {path}: {error.strerror or error}",
            "A local model has to be at the same path on every node; hf: sources are fetched by each node itself",
        ) from error
    if size_bytes != file.size_bytes:
        raise CorruptFileError(
            f"{path} has {size_bytes:,} bytes, {file.size_bytes:,} were pinned", "It changed since the plan was made"
        )
    if file_sha256(path, progress=tally.add, cancelled=tally.is_cancelled) != file.sha256:
        raise CorruptFileError(f"{path} is not the file that was pinned (sha256)", "It changed since the plan was made")
    return path
