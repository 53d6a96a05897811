"""Bring an artifact to this node: verified, once per node, resumable, and never a partial file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quants.artifact import Artifact


def fetch(
    artifact: Artifact,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """The local path of the artifact's first file, after every file's size and sha256 have been verified.

    Hub files land in huggingface_hub's own cache (`HF_HOME`, `HF_HUB_CACHE`) at the pinned commit and are used
    from there without network ever after. Two processes on one node download once: the second waits for the first.

    Args:
        artifact: what a plan pinned.
        progress: called with (bytes done, bytes in all) now and then; not called when everything is there already.
        cancelled: asked now and then; when it returns True the download stops and keeps what it has.

    Raises:
        CorruptFileError: what is there, or what arrived twice, is not what was pinned.
        DiskFullError: not enough room, found before the first byte is fetched.
        FetchCancelledError: `cancelled` returned True.
        SourceError: a local file is gone.
        HubError: the Hub refused or cannot be reached, and the cache does not hold the file.
    """
    from quants.transfer import fetch_artifact

    return fetch_artifact(artifact, progress=progress, cancelled=cancelled)
