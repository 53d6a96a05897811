"""The headers of everything a source offers: from local files, or by HTTP Range from the Hub, several at once.

From the Hub the first header is read in doubling steps. Of the others only what can differ is fetched (see
`quants.splice`): sixty quants cost little more than one. Nothing but headers is fetched, and nothing at all of a file
that lies in the cache, so what was downloaded once can be planned for without network.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError, HubError, NeedMoreBytes, QuantsError
from quants.gguf import ArrayMemo, HeaderParser, combine
from quants.gguf.read import cut_off
from quants.hub import repo_folder
from quants.hubclient import HubClient, HubSettings
from quants.local import MARGIN_BYTES
from quants.splice import Sibling, read_spliced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quants.gguf import Header
    from quants.listing import Candidate, ListedFile, Listing

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
    """

    candidate: Candidate
    header: Header | None
    error: QuantsError | None
    fetched_bytes: int


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
        try:
            header = combine([listing.headers[file.path] for file in candidate.files])
        except GGUFError as error:
            results.append(CandidateHeader(candidate, None, error, 0))
        else:
            results.append(CandidateHeader(candidate, header, None, 0))
    return tuple(results)


class _RangeReader:
    """Reads headers of one repository by Range, and remembers how long they were."""

    def __init__(self, listing: Listing, client: HubClient) -> None:
        self._repo = listing.repo or ""
        self._revision = listing.revision or ""
        self._client = client
        self._snapshot = repo_folder(client.settings.cache_dir, self._repo) / "snapshots" / self._revision
        self._memo = ArrayMemo()
        self._usual_bytes = 0
        self._sibling: Sibling | None = None

    def read(self, candidate: Candidate) -> CandidateHeader:
        fetched = [0]
        try:
            headers = [self._read_file(file, index, fetched) for index, file in enumerate(candidate.files)]
            return CandidateHeader(candidate, combine(headers), None, fetched[0])
        except GGUFError as error:
            return CandidateHeader(candidate, None, error, fetched[0])

    def read_or_say_why(self, candidate: Candidate) -> CandidateHeader:
        """As `read`, but with a refusal by the Hub in the candidate's place too."""
        try:
            return self.read(candidate)
        except HubError as error:
            return CandidateHeader(candidate, None, error, 0)

    def _read_file(self, file: ListedFile, shard: int, fetched: list[int]) -> Header:
        cached = self._snapshot / file.path
        is_here = cached.is_file() and cached.stat().st_size == file.size_bytes

        def read(start: int, end: int) -> bytes:
            if is_here:
                with cached.open("rb") as whole:
                    whole.seek(start)
                    return whole.read(end - start)
            piece = self._client.read_range(self._repo, self._revision, file.path, start, end)
            fetched[0] += len(piece)
            return piece

        if self._sibling is not None and shard == 0:
            header = read_spliced(self._sibling, file.size_bytes, read, self._memo)
            if header is not None:
                return header
        header, data = self._read_whole(file, shard, read)
        if shard == 0:
            self._usual_bytes = max(self._usual_bytes, header.header_bytes + MARGIN_BYTES)
            self._sibling = self._sibling or Sibling.of(header, data)
        return header

    def _read_whole(self, file: ListedFile, shard: int, read: Callable[[int, int], bytes]) -> tuple[Header, bytearray]:
        """The header, read from the start of the file in doubling steps, and the bytes that were read."""
        parser = HeaderParser(where=f"hf:{self._repo} ({file.path})", memo=self._memo)
        data = bytearray()
        wanted = LATER_SHARD_BYTES if shard else (self._usual_bytes or FIRST_BYTES)
        while True:
            piece = read(len(data), min(file.size_bytes, wanted))
            data += piece
            try:
                return parser.parse(data), data
            except NeedMoreBytes as short:
                if len(data) >= file.size_bytes or not piece:
                    raise cut_off(len(data), short) from None
                wanted = max(2 * len(data), short.needed_bytes)
