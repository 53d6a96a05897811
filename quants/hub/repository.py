"""Repositories on the Hugging Face Hub: their GGUF files at a pinned commit, with sizes and sha256.

A listing is remembered under its commit, which never changes, and the branch or tag that led there is remembered too:
once listed, a repository can be planned without network. Without such a memory, what huggingface_hub's cache holds
(put there by `hf download` or any other tool) is what is offered offline.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from quants.artifact import ModelFile
from quants.digests import cache_folder, file_sha256, write_atomically
from quants.errors import CorruptFileError, HubError, OfflineError, SourceError
from quants.hub.client import HubClient, HubSettings
from quants.sources.labels import group
from quants.sources.listing import Candidate, ListedFile, Listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LISTING_VERSION: Final = 1
_LONGEST_NAME_BYTES: Final = 255
_MAX_UNHASHED_BYTES: Final = 64 * 1024 * 1024  # the Hub stores larger files with a sha256 always


def list_repo(
    repo: str, *, revision: str | None = None, source: str | None = None, settings: HubSettings | None = None
) -> Listing:
    """The quants of a Hub repository at the commit that `revision` (default branch: None) stands for now.

    Raises:
        HubError: missing, gated, private, rate-limited, unavailable or offline, each with what to do.
        SourceError: the repository holds no GGUF file, or none that can be used.
    """
    settings = settings or HubSettings.from_environment()
    source = source or (f"hf:{repo}@{revision}" if revision else f"hf:{repo}")
    if revision is not None and _COMMIT.fullmatch(revision):
        files = _recall(repo, revision)
        if files is not None:
            return _listing(repo, revision, source, files)
    if settings.offline:
        return _list_cached(repo, revision, source, settings, None)
    client = HubClient(settings)
    try:
        info = client.model_info(repo, revision)
        if info.gated:
            client.check_access(repo)
    except OfflineError as error:
        return _list_cached(repo, revision, source, settings, error)
    commit, files = _read_info(info, repo)
    _remember(repo, revision, commit, files)
    return _listing(repo, commit, source, files)


def pin_files(listing: Listing, candidate: Candidate, settings: HubSettings | None = None) -> tuple[ModelFile, ...]:
    """The candidate's files with their sha256.

    The Hub publishes it for every file stored as LFS or Xet, that is, for practically every GGUF; a small file stored
    in git itself is read here, and checked against its git object id.

    Raises:
        HubError: such a file cannot be read.
    """
    if listing.repo is None or listing.revision is None:
        raise SourceError(f"{listing.source} is no Hub repository")
    settings = settings or HubSettings.from_environment()
    pinned: list[ModelFile] = []
    for file in candidate.files:
        sha256 = file.sha256 or _hash_unpublished(listing.repo, listing.revision, file, settings)
        pinned.append(ModelFile(file.path, file.size_bytes, sha256))
    return tuple(pinned)


def repo_folder(cache_dir: Path, repo: str) -> Path:
    """The folder of a model repository in huggingface_hub's cache."""
    from huggingface_hub.file_download import repo_folder_name

    return cache_dir / str(repo_folder_name(repo_id=repo, repo_type="model"))


def _read_info(info: Any, repo: str) -> tuple[str, list[ListedFile]]:
    """Commit and GGUF files of a `ModelInfo`, none of which is trusted to be well-formed."""
    commit = info.sha
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise HubError(f"hf:{repo}: the Hub named no commit", "Check HF_ENDPOINT: this does not look like a Hub")
    files: list[ListedFile] = []
    for sibling in info.siblings or ():
        path = sibling.rfilename
        if not path.lower().endswith(".gguf"):
            continue
        if path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in path.split("/")):
            raise HubError(f"hf:{repo} lists the file {path!r}, which would lie outside its own folder")
        if not _is_possible(path):
            raise HubError(f"hf:{repo} lists the file {path[:80]!r}, and no file can be called that")
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        size_bytes = sibling.lfs.size if sibling.lfs else sibling.size
        if not isinstance(size_bytes, int) or (sha256 is not None and not _SHA256.fullmatch(sha256)):
            raise HubError(f"hf:{repo} lists {path!r} without a sound size and sha256")
        files.append(ListedFile(path, size_bytes, sha256, sibling.blob_id))
    return commit, files


def _is_possible(path: str) -> bool:
    """Whether a file system takes the name: it can be encoded, has no zero byte, and no part is too long."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:  # JSON can hold half a character
        return False
    return b"\0" not in raw and all(len(part) <= _LONGEST_NAME_BYTES for part in raw.split(b"/"))


def _listing(repo: str, commit: str, source: str, files: Iterable[ListedFile]) -> Listing:
    grouping = group(files)
    if not grouping.candidates:
        reason = grouping.incomplete[0] if grouping.incomplete else None
        raise SourceError(
            f"hf:{repo} holds no usable GGUF model" + (f": {reason[0]}: {reason[1]}" if reason else ""),
            "Look for a repository of the same model whose name ends in -GGUF",
        )
    return Listing(
        kind="hub",
        source=source,
        repo=repo,
        revision=commit,
        root=None,
        builtin=None,
        candidates=grouping.candidates,
        sidecars=grouping.sidecars,
        skipped=grouping.incomplete,
    )


def _hash_unpublished(repo: str, commit: str, file: ListedFile, settings: HubSettings) -> str:
    cached = repo_folder(settings.cache_dir, repo) / "snapshots" / commit / file.path
    if cached.exists():
        return file_sha256(cached)
    if file.size_bytes > _MAX_UNHASHED_BYTES:
        raise HubError(f"hf:{repo} publishes no sha256 for {file.path}, and it is too large to be read for one")
    data = HubClient(settings).read_range(repo, commit, file.path, 0, max(file.size_bytes, 1))
    git_object = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if len(data) != file.size_bytes or file.git_sha1 not in {None, git_object}:
        raise CorruptFileError(f"hf:{repo}: what arrived as {file.path} is not what the Hub lists")
    return hashlib.sha256(data).hexdigest()


# -- without network


def _list_cached(
    repo: str, revision: str | None, source: str, settings: HubSettings, cause: OfflineError | None
) -> Listing:
    """The listing from memory, or else what the cache holds."""
    commit = revision if revision is not None and _COMMIT.fullmatch(revision) else _recall_ref(repo, revision)
    files = _recall(repo, commit) if commit is not None else None
    if files is None or commit is None:
        folder = repo_folder(settings.cache_dir, repo)
        commit = commit or _read_text(folder / "refs" / (revision or "main"))
        files = list(_cached_files(folder / "snapshots" / commit)) if commit and _COMMIT.fullmatch(commit) else []
        if not files or commit is None:
            if cause is not None:
                raise cause
            raise OfflineError(
                f"{source} was never listed on this machine, and offline mode is on",
                "Unset HF_HUB_OFFLINE once, so that the repository can be listed and fetched",
            )
    return _listing(repo, commit, source, files)


def _cached_files(snapshot: Path) -> Iterator[ListedFile]:
    """The GGUF files of a snapshot in huggingface_hub's cache; blobs of LFS files are named by their sha256."""
    for path in sorted(snapshot.rglob("*.gguf")):
        try:
            size_bytes = path.stat().st_size
            name = path.readlink().name if path.is_symlink() else ""
        except OSError:
            continue  # a link whose blob was deleted
        sha256 = name if _SHA256.fullmatch(name) else None
        yield ListedFile(path.relative_to(snapshot).as_posix(), size_bytes, sha256)


def _memory(repo: str) -> Path:
    return cache_folder() / "hub" / repo.replace("/", "--")


def _remember(repo: str, revision: str | None, commit: str, files: list[ListedFile]) -> None:
    listing = {
        "version": _LISTING_VERSION,
        "files": [[file.path, file.size_bytes, file.sha256, file.git_sha1] for file in files],
    }
    write_atomically(_memory(repo) / f"{commit}.json", json.dumps(listing))
    write_atomically(_memory(repo) / "refs" / quote(revision or "HEAD", safe=""), commit)


def _recall(repo: str, commit: str) -> list[ListedFile] | None:
    try:
        listing = json.loads((_memory(repo) / f"{commit}.json").read_bytes())
        if listing["version"] != _LISTING_VERSION:
            return None
        return [ListedFile(path, size_bytes, sha256, git) for path, size_bytes, sha256, git in listing["files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # nothing remembered, or by another version


def _recall_ref(repo: str, revision: str | None) -> str | None:
    return _read_text(_memory(repo) / "refs" / quote(revision or "HEAD", safe=""))


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
