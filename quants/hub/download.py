"""Download the files of a Hub artifact into huggingface_hub's cache: verified, resumable, once per node.

huggingface_hub itself starts an interrupted download from the beginning (each attempt gets a temporary file of its
own), and trusts what its cache holds. Twenty gigabytes deserve better: here the partial file has a fixed name per
node and is continued with a Range request, and a file is used only after its sha256 was computed from the disk.
The result lies where huggingface_hub would have put it (blobs/<sha256>, a link in snapshots/<commit>/), under the same
lock, so `hf download`, llama.cpp and everything else that knows that cache finds it.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import shutil
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from quants.digests import file_sha256, forget, remember_verified
from quants.errors import CorruptFileError, DiskFullError, OfflineError, QuantsError, SourceError
from quants.hub.client import HubClient, HubSettings
from quants.hub.repository import repo_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from quants.artifact import Artifact, ModelFile
    from quants.fetch_progress import FetchProgress

CHUNK_BYTES: Final = 256 * 1024
# One request asks for at most this much: CDNs refuse to serve files beyond 50 GB in one piece.
WINDOW_BYTES: Final = 8 * 1024**3
# A server that sends less than this in this time is taken to hang; the next request may meet a better one.
PACE_S: Final = 60.0
PACE_BYTES: Final = 256 * 1024
# Left free on the disk beside the model, so that a sweep can still write its results.
SPARE_BYTES: Final = 256 * 1024**2
_HOME_HINT: Final = "Set HF_HOME to a folder that can be written"
_LOG: Final = logging.getLogger("quantsweep.quants")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def fetch_hub(artifact: Artifact, tally: FetchProgress, settings: HubSettings | None = None) -> Path:
    """The path of the artifact's first file in the cache, once all its files are there and verified.

    Raises:
        QuantsError: as `quants.cache.fetch` lists them.
    """
    settings = settings or HubSettings.from_environment()
    if artifact.repo is None or artifact.revision is None:
        raise SourceError(f"artifact {artifact.quant} is not pinned to a commit on the Hub")
    places = [_Place(artifact.repo, artifact.revision, file, settings) for file in artifact.files]
    missing = [place for place in places if not place.is_whole(tally)]
    if missing and settings.offline:
        _refuse_offline(missing[0])
    _require_room(missing, settings.cache_dir)
    for place in missing:
        _fetch_one(place, HubClient(settings, tally.is_cancelled), tally)
    return places[0].pointer


class _Place:
    """Where one file lies in the cache, and what is there now."""

    def __init__(self, repo: str, revision: str, file: ModelFile, settings: HubSettings) -> None:
        folder = repo_folder(settings.cache_dir, repo)
        node = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "node"
        self.repo = repo
        self.revision = revision
        self.file = file
        self.blob = folder / "blobs" / file.sha256
        self.pointer = folder / "snapshots" / revision / file.path
        # Named by node: on a network file system whose locks do nothing, two nodes must not write to one file.
        self.partial = folder / "blobs" / f"{file.sha256}.{node}.quantsweep.incomplete"
        self.lock = settings.cache_dir / ".locks" / folder.name / f"{file.sha256}.lock"

    def __str__(self) -> str:
        return f"hf:{self.repo}@{self.revision[:8]} ({self.file.path})"

    def is_whole(self, tally: FetchProgress) -> bool:
        """Whether the pinned bytes are in place. Changes nothing: another process may be using what is there."""
        return self.pointer.exists() and self._matches(self.pointer, tally)

    def adopt_blob(self, tally: FetchProgress) -> bool:
        """Link the snapshot to the blob that another commit or another tool brought, if it is right."""
        if not self.blob.exists() or not self._matches(self.blob, tally):
            return False
        _link(self.blob, self.pointer)
        return True

    def remove_bad(self) -> None:
        """Remove what lies in the file's place without being the file."""
        found = [path for path in (self.pointer.resolve(), self.pointer, self.blob) if path.exists()]
        if not found:
            self.pointer.unlink(missing_ok=True)  # a link to a blob that was deleted
            return
        _LOG.warning("%s: %s is not what was pinned; fetching it again", self, found[0])
        if self.pointer.is_symlink() and found[0].parent != self.blob.parent.resolve():
            found = found[1:]  # the link leads out of this repository's cache: what it points to is not ours
        for path in found:
            forget(path)
            path.unlink(missing_ok=True)
        self.pointer.unlink(missing_ok=True)

    def _matches(self, path: Path, tally: FetchProgress) -> bool:
        if path.stat().st_size != self.file.size_bytes:
            return False
        before = tally.done_bytes
        if file_sha256(path, progress=tally.add, cancelled=tally.is_cancelled) == self.file.sha256:
            return True
        tally.add(before - tally.done_bytes)
        return False


def _refuse_offline(place: _Place) -> NoReturn:
    if place.pointer.exists():
        raise CorruptFileError(
            f"{place.pointer} is not what was pinned (size or sha256 differ)",
            "Unset HF_HUB_OFFLINE once: it is then fetched again",
        )
    raise OfflineError(f"{place} is not in the cache, and offline mode is on", "Unset HF_HUB_OFFLINE once to fetch it")


def _require_room(missing: list[_Place], cache_dir: Path) -> None:
    """Raise DiskFullError unless the disk of the cache has room for what has still to arrive."""
    needed_bytes = 0
    for place in missing:
        if not place.blob.exists():
            arrived = place.partial.stat().st_size if place.partial.exists() else 0
            needed_bytes += max(0, place.file.size_bytes - arrived)
    if needed_bytes == 0:
        return
    existing = next(folder for folder in (cache_dir, *cache_dir.absolute().parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise DiskFullError(
            f"{missing[0]} needs {needed_bytes / 1e9:.1f} GB in {cache_dir}, where {free_bytes / 1e9:.1f} GB are free",
            "Free some space (`hf cache ls` shows what models take), or set HF_HOME to a larger disk",
        )


def _fetch_one(place: _Place, client: HubClient, tally: FetchProgress) -> None:
    """Fetch one file under its lock, unless another process did so while we waited."""
    try:
        for folder in (place.blob.parent, place.pointer.parent, place.lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(
            f"cannot write to the model cache {place.blob.parent}: {error.strerror}", _HOME_HINT
        ) from error
    with _locked(place, tally):
        if place.is_whole(tally):
            return
        if not place.adopt_blob(tally):
            place.remove_bad()
            _download_verified(place, client, tally)
            place.partial.replace(place.blob)
            _sync_folder(place.blob.parent)
            _link(place.blob, place.pointer)
            remember_verified(place.blob, place.file.sha256)


@contextmanager
def _locked(place: _Place, tally: FetchProgress) -> Iterator[None]:
    """Hold the lock that huggingface_hub takes for the same blob; waits as long as the caller does not cancel."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined] # public, but not in an __all__

    said = False
    with ExitStack() as stack:
        while True:
            tally.check(str(place))
            try:
                stack.enter_context(WeakFileLock(place.lock, timeout=0.5))
                break
            except TimeoutError:  # filelock's Timeout is one
                if not said:
                    _LOG.info("%s: another process is fetching it; waiting", place)
                    said = True
        yield


def _download_verified(place: _Place, client: HubClient, tally: FetchProgress) -> None:
    """Leave the whole file, verified, under its partial name. A wrong one is fetched anew, once."""
    for last in (False, True):
        before = tally.done_bytes
        _download(place, client, tally)
        # Read back from the disk: what counts is what the engine will load, and a resumed part was never hashed.
        if file_sha256(place.partial, cancelled=tally.is_cancelled, trust_memory=False) == place.file.sha256:
            return
        _LOG.warning("%s: what arrived has another sha256%s", place, "" if last else "; fetching it once more")
        place.partial.unlink()
        tally.add(before - tally.done_bytes)
    raise CorruptFileError(
        f"{place}: what arrived is not what the Hub lists (sha256 differs), twice",
        "A proxy or mirror in between may change files; check HF_ENDPOINT and the network",
    )


def _download(place: _Place, client: HubClient, tally: FetchProgress) -> None:
    """Bring the partial file to its full size, from where it stands, through as many requests as it takes."""
    size_bytes = place.file.size_bytes
    failures = 0
    with place.partial.open("ab") as out:
        if out.tell() > size_bytes:
            out.truncate(0)
        tally.add(out.tell())
        while out.tell() < size_bytes:
            start = out.tell()
            try:
                _receive(place, client, out, tally)
                failures = 0
            except QuantsError:
                raise
            except Exception as error:  # of huggingface_hub or its HTTP client
                # A line that breaks now and then is no failure as long as it brings something.
                failures = 1 if out.tell() - start >= CHUNK_BYTES else failures + 1
                client.after_failure(str(place), error, failures)
        out.flush()
        os.fsync(out.fileno())


def _receive(place: _Place, client: HubClient, out: BinaryIO, tally: FetchProgress) -> None:
    """One request: append what arrives from the end of `out` on."""
    size_bytes = place.file.size_bytes
    start = out.tell()
    end = min(size_bytes, start + WINDOW_BYTES)
    with client.stream(place.repo, place.revision, place.file.path, start, end) as response:
        if response.status_code == 200 and start > 0:  # the server ignores ranges: everything comes again
            out.truncate(0)
            tally.add(-start)
            start = 0
        _check_range(place, response, start)
        # Pieces as they arrive: gathered to a size, a trickle would keep us from seeing that it is one.
        pace = _Pace()
        for chunk in response.iter_bytes():
            pace.check(len(chunk))
            if out.tell() + len(chunk) > size_bytes:
                raise CorruptFileError(f"{place}: more than the {size_bytes:,} bytes arrive that the Hub lists")
            _write(out, chunk, place)
            tally.add(len(chunk))
            tally.check(str(place))
    if out.tell() < end:
        raise ConnectionError(f"the body ended {end - out.tell():,} bytes early")


class _Pace:
    """Notices a body that trickles: each piece comes in time, and the file never would."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = clock()
        self._bytes = 0

    def check(self, count: int) -> None:
        """Counts bytes that arrived. Raises `ConnectionError` if there were too few for a minute."""
        self._bytes += count
        if self._clock() - self._since_s >= PACE_S:
            if self._bytes < PACE_BYTES:
                raise ConnectionError(f"only {self._bytes:,} bytes arrived within {PACE_S:.0f} s")
            self._since_s, self._bytes = self._clock(), 0


def _check_range(place: _Place, response: Any, start: int) -> None:
    """Refuse an answer whose range is not the one that was asked for, or whose file has another size."""
    if response.status_code != 206:
        return
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None or int(match[1]) != start:
        raise CorruptFileError(
            f"{place}: asked for bytes from {start:,} on, got {response.headers.get('Content-Range')!r}"
        )
    if match[2] != "*" and int(match[2]) != place.file.size_bytes:
        raise CorruptFileError(
            f"{place}: the server's file has {int(match[2]):,} bytes, the Hub lists {place.file.size_bytes:,}"
        )


def _write(out: BinaryIO, chunk: bytes, place: _Place) -> None:
    try:
        out.write(chunk)
        out.flush()
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(
                f"the disk of {place.partial.parent} is full: {place} is not complete",
                "Free some space and start again: the download goes on where it stopped",
            ) from error
        raise SourceError(f"cannot write {place.partial}: {error.strerror}", _HOME_HINT) from error


def _link(blob: Path, pointer: Path) -> None:
    """Put a snapshot entry in place, as huggingface_hub does: a relative link, or a copy where there are no links."""
    temporary = pointer.with_name(f".{pointer.name}.{os.getpid()}.linking")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        try:
            temporary.hardlink_to(blob)
        except OSError:
            shutil.copyfile(blob, temporary)
    temporary.replace(pointer)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the file system knows how."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
