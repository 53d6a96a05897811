"""Talk to the Hugging Face Hub: who we are, how long to wait, how often to try, and what its refusals mean.

Everything goes through huggingface_hub's own session, so its token, proxy and offline settings hold. That library
retries some calls and not others, and waits as long as a server asks; here every call is bounded the same way.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from quants.errors import (
    FetchCancelledError,
    GatedRepoError,
    HubError,
    HubUnavailableError,
    OfflineError,
    PrivateRepoError,
    QuantsError,
    RateLimitedError,
    RepoNotFoundError,
)
from quants.secrets import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOGIN_HINT: Final = "log in with `hf auth login` (or set HF_TOKEN)"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where the Hub is and how patient to be.

    Attributes:
        endpoint: its address without a slash at the end (HF_ENDPOINT).
        cache_dir: huggingface_hub's cache (HF_HUB_CACHE, HF_HOME).
        offline: never use the network (HF_HUB_OFFLINE).
        attempts: how often a request is tried in all, as long as nothing arrives.
        max_wait_s: the longest Retry-After that is waited for; a longer one is an error that names it.
        backoff_s: the wait after a first failure without Retry-After; it doubles, up to 8 s.
        timeout_s: for connecting, and between two pieces of a body.
        sleep: how to wait, in seconds.
    """

    endpoint: str
    cache_dir: Path
    offline: bool = False
    attempts: int = 5
    max_wait_s: float = 60.0
    backoff_s: float = 0.5
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep)

    @classmethod
    def from_environment(cls) -> HubSettings:
        """The settings that huggingface_hub took from the environment when it was imported."""
        from huggingface_hub import constants

        return cls(
            endpoint=constants.ENDPOINT, cache_dir=Path(constants.HF_HUB_CACHE), offline=constants.HF_HUB_OFFLINE
        )


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a failure means: the error to show, and whether trying again can help."""

    error: HubError
    attempts: int | None = None  # None: as many as the settings allow; 1: never again
    retry_after_s: float | None = None


class HubClient:
    """Requests to one Hub, each tried a bounded number of times."""

    def __init__(self, settings: HubSettings, cancelled: Callable[[], bool] | None = None) -> None:
        self.settings = settings
        self._cancelled = cancelled

    def model_info(self, repo: str, revision: str | None) -> Any:
        """`huggingface_hub.ModelInfo` at `revision` (default branch: None), with sizes and digests of all files.

        Raises:
            HubError: refused, missing, or not reachable.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.settings.endpoint)
        return self.retrying(
            _where(repo, revision),
            lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=self.settings.timeout_s),
        )

    def check_access(self, repo: str) -> None:
        """Raise GatedRepoError or PrivateRepoError unless files of `repo` may be read with the present token."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.settings.endpoint)
        self.retrying(_where(repo, None), lambda: api.auth_check(repo))

    @contextmanager
    def stream(self, repo: str, revision: str, path: str, start: int, end: int) -> Iterator[Any]:
        """The open response for bytes `start` to `end` (exclusive) of a file; one attempt, errors untranslated.

        The status is 206, or 200 from a server that ignores ranges. Redirects to a CDN are followed; the library's
        client drops the token on the way to another host.
        """
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined] # public, but not in an __all__

        headers = dict(build_hf_headers(library_name="quantsweep"))
        headers["Range"] = f"bytes={start}-{end - 1}"
        headers["Accept-Encoding"] = "identity"  # we count and hash the file's bytes, not a compressed form
        url = hf_hub_url(repo, path, revision=revision, endpoint=self.settings.endpoint)
        with get_session().stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=self.settings.timeout_s
        ) as response:
            hf_raise_for_status(response)
            yield response

    def read_range(self, repo: str, revision: str, path: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` (exclusive) of a file, fewer only where the file ends.

        Raises:
            HubError: refused, missing, broken off too often, or not reachable.
        """

        def once() -> bytes:
            data = bytearray()
            with self.stream(repo, revision, path, start, end) as response:
                # A server that ignores the range sends the file from its beginning, which may be gigabytes before it.
                skip = start if response.status_code == 200 else 0
                for chunk in response.iter_bytes(256 * 1024):
                    data += chunk[skip:]
                    skip = max(0, skip - len(chunk))
                    if len(data) >= end - start:
                        break
            return bytes(data[: end - start])

        return self.retrying(f"{_where(repo, None)} ({path})", once)

    def retrying(self, what: str, action: Callable[[], T]) -> T:
        """The result of `action`, tried again after failures that may pass.

        Raises:
            HubError: it failed for good; says what was asked of whom, and what to do.
            FetchCancelledError: the caller wants to stop.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return action()
            except QuantsError:
                raise
            except Exception as error:  # the library raises over a dozen types, not all of one family
                self.after_failure(what, error, attempt)

    def after_failure(self, what: str, error: Exception, attempt: int) -> None:
        """Wait before the next attempt, or raise what the failure means if there should be none.

        Args:
            what: the repository (and file), for the error text.
            error: from huggingface_hub or its HTTP client.
            attempt: how many times it has been tried, from 1.
        """
        verdict = self.judge(what, error)
        if attempt >= (verdict.attempts or self.settings.attempts):
            raise verdict.error from error
        wait_s = verdict.retry_after_s
        if wait_s is None:
            wait_s = min(8.0, self.settings.backoff_s * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        elif wait_s > self.settings.max_wait_s:
            raise verdict.error from error
        self.wait(wait_s)

    def wait(self, seconds: float) -> None:
        """Sleep in short pieces, so that a cancelled sweep does not hang in a long Retry-After."""
        left = seconds
        while left > 0:
            if self._cancelled is not None and self._cancelled():
                raise FetchCancelledError("waiting for the Hub was cancelled", "What was fetched so far is kept")
            piece = min(left, 0.5)
            self.settings.sleep(piece)
            left -= piece

    def judge(self, what: str, error: Exception) -> _Verdict:
        """What a failure means."""
        from huggingface_hub import errors

        endpoint = redacted(self.settings.endpoint)
        status = getattr(getattr(error, "response", None), "status_code", None)
        repo = what.removeprefix("hf:").split("@")[0].split(" ")[0]
        if isinstance(error, errors.OfflineModeIsEnabled):
            return _Verdict(
                OfflineError(f"{what} is not in the cache, and offline mode is on", "Unset HF_HUB_OFFLINE once"), 1
            )
        if isinstance(error, errors.GatedRepoError):
            hint = f"Accept its terms at {endpoint}/{repo}, then {_LOGIN_HINT}"
            return _Verdict(GatedRepoError(f"{what} is gated: this token may not read it yet", hint), 1)
        if isinstance(error, errors.RevisionNotFoundError):
            return _Verdict(RepoNotFoundError(f"{what}: no such branch, tag or commit"), 1)
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return _Verdict(RepoNotFoundError(f"{what}: no such file at this commit"), 1)
        if isinstance(error, errors.DisabledRepoError):
            return _Verdict(HubError(f"{what} was disabled by the Hub"), 1)
        if isinstance(error, errors.HFValidationError):
            return _Verdict(RepoNotFoundError(f"{what} is no valid repository name", "The form is hf:owner/name"), 1)
        if status == 401 and "Invalid credentials" in str(error):
            return _Verdict(HubError(f"{what}: the Hub refused the token", f"Check it, or {_LOGIN_HINT}"), 1)
        if status in {401, 403}:
            hint = f"Check the name; if it is private, {_LOGIN_HINT} with an account that may read it"
            return _Verdict(PrivateRepoError(f"{what} does not exist, or is private to others", hint), 1)
        if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
            return _Verdict(RepoNotFoundError(f"{what} does not exist", "Check the name on the Hub's web page"), 1)
        if status == 429:
            return _rate_limited(what, error)
        if status in TRANSIENT_STATUS:
            return _Verdict(
                HubUnavailableError(f"{what}: the Hub answered {status} every time", "Try again later"),
                retry_after_s=_retry_after(error),
            )
        if status is not None:
            return _Verdict(HubError(f"{what}: the Hub answered {status}: {_first_line(error)}"), 1)
        return self._judge_transport(what, error)

    def _judge_transport(self, what: str, error: Exception) -> _Verdict:
        """Failures without an answer. Told by name: the library moved from httpx to httpx2 and may move again."""
        names = {kind.__name__ for kind in type(error).__mro__}
        endpoint = redacted(self.settings.endpoint)
        if names & {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"}:
            hint = "Check the network, HF_ENDPOINT and proxy settings; what is cached works without network"
            return _Verdict(
                OfflineError(f"{what}: {endpoint} cannot be reached ({_first_line(error)})", hint), attempts=2
            )
        if names & {"TransportError", "ConnectionError", "TimeoutError"}:
            return _Verdict(
                HubUnavailableError(
                    f"{what}: the answer broke off every time ({_first_line(error)})", "Try again later"
                )
            )
        return _Verdict(
            HubError(
                f"{what}: {endpoint} does not answer like a Hub ({type(error).__name__}: {_first_line(error)})",
                "Check HF_ENDPOINT and proxy settings",
            ),
            1,
        )


def _where(repo: str, revision: str | None) -> str:
    return f"hf:{repo}@{revision}" if revision else f"hf:{repo}"


def _rate_limited(what: str, error: Exception) -> _Verdict:
    wait_s = _retry_after(error)
    asked = "" if wait_s is None else f" and asks to wait {wait_s:.0f} s"
    hint = f"Try again later, or {_LOGIN_HINT}: accounts have higher limits"
    return _Verdict(RateLimitedError(f"{what}: the Hub limits requests (429){asked}", hint), retry_after_s=wait_s)


def _retry_after(error: Exception) -> float | None:
    """The wait that the server asks for in seconds (RFC 9110, section 10.2.3: a number or a date), None if it does not.

    The Hub also says it in the draft header `RateLimit: "api";r=0;t=55`.
    """
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined] # public, but not in an __all__

    headers = getattr(getattr(error, "response", None), "headers", {})
    value = str(headers.get("Retry-After", "")).strip()
    if value:
        try:
            return max(0.0, float(value)) if value.isascii() and value.isdigit() else _until(value)
        except (ValueError, TypeError):
            return None
    limits = parse_ratelimit_headers(headers)
    return float(limits.reset_in_seconds) if limits is not None and limits.remaining == 0 else None


def _until(date: str) -> float:
    from email.utils import parsedate_to_datetime

    return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())


def _first_line(error: Exception) -> str:
    """What the library says, without what signs a URL: it ends in rows."""
    lines = (line.strip() for line in str(error).splitlines() if line.strip())
    return redacted(next(lines, type(error).__name__)[:2000])[:200]
