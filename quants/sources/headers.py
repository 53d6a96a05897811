"""The headers of everything a source offers: from local files, or by HTTP Range from the Hub, several at once.

From the Hub the first header is read in doubling steps. Of the others only what can differ is fetched (see
`quants.sources.splice`): sixty quants cost little more than one. Nothing but headers is fetched, and nothing at all of
a file that lies in the cache, so what was downloaded once can be planned for without network. Memory is bounded: each
header as `quants.gguf.limits` says, those of a source together by `LISTING_BYTES`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError, HubError, QuantsError
from quants.gguf import LISTING_BYTES, SET_BYTES, HeaderParser, Window, combine, held_bytes
from quants.hub.client import HubClient, HubSettings
from quants.hub.repository import repo_folder
from quants.sources.local import MARGIN_BYTES
from quants.sources.splice import BEGINNING_BYTES, Sibling, ends_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quants.gguf import Header, KnownEntries
    from quants.gguf.window import Read
    from quants.sources.listing import Candidate, ListedFile, Listing

FIRST_BYTES: Final = 1024 * 1024
LATER_SHARD_BYTES: Final = 64 * 1024  # shards after the first hold no tokenizer, only their tensor table
WORKERS: Final = 8


@dataclass(frozen=True, slots=True)
class CandidateHeader:
    """The header of one candidate, or why there is none.

    Attributes:
        candidate: as the listing has it.
        header: of the whole split set where it is one; None if it could not be read.
        error: why not; None if it could.
        fetched_bytes: read over the network for it.
        missing_bytes: how much shorter its files are than their headers say; 0 where they are whole.
    """

    candidate: Candidate
    header: Header | None
    error: QuantsError | None
    fetched_bytes: int
    missing_bytes: int = 0


def read_headers(
    listing: Listing,
    candidates: Sequence[Candidate] | None = None,
    *,
    hub: HubSettings | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[CandidateHeader, ...]:
    """The headers of `candidates` (default: all) of a listing, in their order.

    A file that cannot be read is reported in its place; it does not end the others.

    Raises:
        FetchCancelledError: `cancelled` returned True.
        HubError: the very first header could not be had because the Hub refuses or cannot be reached.
    """
    chosen = listing.candidates if candidates is None else tuple(candidates)
    if not chosen:
        return ()
    if listing.kind != "hub":
        return _read_local(listing, chosen)
    client = HubClient(hub or HubSettings.from_environment(), cancelled)
    reader = _RangeReader(listing, client)
    # The smallest file first and alone: it teaches the others how long a header is in this repository.
    first = min(chosen, key=lambda candidate: candidate.file_bytes)
    done = {first: reader.read(first)}
    rest = [candidate for candidate in chosen if candidate is not first]
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="gguf-header") as pool:
        done.update(zip(rest, pool.map(reader.read_or_say_why, rest), strict=True))
    return tuple(done[candidate] for candidate in chosen)


def _read_local(listing: Listing, chosen: Sequence[Candidate]) -> tuple[CandidateHeader, ...]:
    """Headers that the listing has read already, put together for split sets."""
    results: list[CandidateHeader] = []
    for candidate in chosen:
        headers = [listing.headers[file.path] for file in candidate.files]
        try:
            header = combine(headers)
        except GGUFError as error:
            results.append(CandidateHeader(candidate, None, error, 0))
        else:
            results.append(CandidateHeader(candidate, header, None, 0, _missing(candidate, headers)))
    return tuple(results)


def _missing(candidate: Candidate, headers: Sequence[Header]) -> int:
    """How much of the files is not there, by their own headers."""
    pairs = zip(candidate.files, headers, strict=True)
    return sum(max(0, header.file_bytes - file.size_bytes) for file, header in pairs)


class _RangeReader:
    """Reads headers of one repository by Range, and remembers how long they were."""

    def __init__(self, listing: Listing, client: HubClient) -> None:
        self._repo = listing.repo or ""
        self._revision = listing.revision or ""
        self._client = client
        self._snapshot = repo_folder(client.settings.cache_dir, self._repo) / "snapshots" / self._revision
        self._usual_bytes = 0
        self._held_bytes = 0
        self._sibling: Sibling | None = None

    def read(self, candidate: Candidate) -> CandidateHeader:
        fetched = [0]
        try:
            headers = self._read_files(candidate, fetched)
            header = combine(headers)
            self._hold(header)
            return CandidateHeader(candidate, header, None, fetched[0], _missing(candidate, headers))
        except GGUFError as error:
            return CandidateHeader(candidate, None, error, fetched[0])

    def read_or_say_why(self, candidate: Candidate) -> CandidateHeader:
        """As `read`, but with a refusal by the Hub in the candidate's place too."""
        try:
            return self.read(candidate)
        except HubError as error:
            return CandidateHeader(candidate, None, error, 0)

    def _read_files(self, candidate: Candidate, fetched: list[int]) -> list[Header]:
        headers: list[Header] = []
        total_bytes = 0
        for index, file in enumerate(candidate.files):
            headers.append(self._read_file(file, index, fetched))
            total_bytes += held_bytes(headers[-1])
            if total_bytes > SET_BYTES:
                raise GGUFError(f"the headers of its {len(candidate.files)} files take more than {SET_BYTES >> 20} MiB")
        return headers

    def _hold(self, header: Header) -> None:
        """Count a header that will be kept; threads may overshoot by one each."""
        self._held_bytes += held_bytes(header)
        if self._held_bytes > LISTING_BYTES:
            raise too_many(f"hf:{self._repo}")

    def _read_file(self, file: ListedFile, shard: int, fetched: list[int]) -> Header:
        cached = self._snapshot / file.path
        is_here = cached.is_file() and cached.stat().st_size == file.size_bytes
        beginning = b""

        def read(start: int, end: int) -> bytes:
            nonlocal beginning
            if is_here:
                with cached.open("rb") as whole:
                    whole.seek(start)
                    piece = whole.read(end - start)
            else:
                piece = self._client.read_range(self._repo, self._revision, file.path, start, end)
                fetched[0] += len(piece)
            if start == len(beginning) < BEGINNING_BYTES:
                beginning += piece[: BEGINNING_BYTES - start]
            return piece

        if self._sibling is not None and shard == 0:
            parser = self._parser(file, read, self._sibling.first_bytes, self._sibling.known)
            try:
                header = parser.parse()
            except GGUFError:
                if not parser.took_known:
                    raise
            else:
                if not parser.took_known or ends_with(header, file.size_bytes):
                    return header
        parser = self._parser(file, read, LATER_SHARD_BYTES if shard else (self._usual_bytes or FIRST_BYTES), None)
        header = parser.parse()
        if shard == 0:
            self._usual_bytes = max(self._usual_bytes, header.header_bytes + MARGIN_BYTES)
            self._sibling = self._sibling or Sibling.of(header, parser, beginning)
        return header

    def _parser(self, file: ListedFile, read: Read, first_bytes: int, known: KnownEntries | None) -> HeaderParser:
        where = f"hf:{self._repo} ({file.path})"
        return HeaderParser(Window(read, size_bytes=file.size_bytes, first_bytes=first_bytes, where=where), known=known)


def too_many(where: str) -> GGUFError:
    """The error for a header beyond what is kept of one source."""
    return GGUFError(
        f"its header was left out: those of this source take more than {LISTING_BYTES >> 20} MiB",
        "Name fewer files, or a folder with fewer of them",
        None,
        where,
    )
