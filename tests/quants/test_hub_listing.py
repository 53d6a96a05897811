"""Listings of Hub repositories: pinned commits, digests, refusals in clear words, and what works without network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from quants.cache import fetch
from quants.errors import (
    CorruptFileError,
    FetchCancelledError,
    GatedRepoError,
    HubError,
    HubUnavailableError,
    OfflineError,
    PrivateRepoError,
    RateLimitedError,
    RepoNotFoundError,
    SourceError,
)
from quants.hub.client import HubClient
from quants.sources.resolve import resolve, select
from tests.quants.ggufbytes import small_model, split_model

if TYPE_CHECKING:
    from pathlib import Path

    from quants.hub.client import HubSettings
    from quants.sources.listing import Listing
    from tests.hubserver.server import LocalHub

MODEL = small_model().data()
FILES: dict[str, bytes | Path] = {
    "M-Q4_K_M.gguf": MODEL,
    "Q8_0/M-Q8_0-00001-of-00002.gguf": split_model(2)[0].data(),
    "Q8_0/M-Q8_0-00002-of-00002.gguf": split_model(2)[1].data(),
    "mmproj-F16.gguf": b"x",
    "README.md": b"# M",
}


@pytest.fixture
def listing(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> Listing:
    local_hub.add("acme/M-GGUF", FILES)
    return resolve("hf:acme/M-GGUF", base_dir=tmp_path, hub=hub_settings)


def ask(source: str, hub: HubSettings, tmp_path: Path) -> Listing:
    return resolve(source, base_dir=tmp_path, hub=hub)


def test_a_repository_is_listed_at_its_commit(listing: Listing, local_hub: LocalHub) -> None:
    assert listing.kind == "hub"
    assert (listing.repo, listing.revision) == ("acme/M-GGUF", local_hub.repos["acme/M-GGUF"].refs["main"])
    assert set(listing.quants) == {"Q4_K_M", "Q8_0"}
    assert [sidecar.kind for sidecar in listing.sidecars] == ["mmproj"]
    artifact = select(listing, ["Q4_K_M"])[0]
    assert artifact.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert artifact.file_bytes == len(MODEL)
    assert artifact.source == f"hf:acme/M-GGUF@{listing.revision}"
    assert [request.path for request in local_hub.log] == ["/api/models/acme/M-GGUF"]


def test_branches_tags_and_commits(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    first = local_hub.add("acme/M-GGUF", {"M-Q4_K_M.gguf": MODEL}, branch="v1")
    second = local_hub.add("acme/M-GGUF", {"M-Q8_0.gguf": MODEL}, branch="refs/pr/2")
    local_hub.add("acme/M-GGUF", {"M-Q2_K.gguf": MODEL})
    for revision, commit in (("v1", first), ("refs/pr/2", second), (first, first)):
        assert ask(f"hf:acme/M-GGUF@{revision}", hub_settings, tmp_path).revision == commit
    asked = len(local_hub.log)
    assert ask(f"hf:acme/M-GGUF@{second}", hub_settings, tmp_path).quants == ("Q8_0",)
    assert len(local_hub.log) == asked  # a commit that was listed never changes


def test_a_file_stored_in_git_itself_is_hashed_and_checked(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    local_hub.add("acme/tiny", {"T-Q8_0.gguf": MODEL}, plain=["T-Q8_0.gguf"])
    listing = ask("hf:acme/tiny", hub_settings, tmp_path)
    (artifact,) = select(listing, "all", hub=hub_settings)
    assert artifact.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    (again,) = select(listing, "all", hub=hub_settings)
    assert again == artifact
    other = small_model(tokens=9).data()
    local_hub.add("acme/other", {"T-Q8_0.gguf": other}, plain=["T-Q8_0.gguf"])
    listing = ask("hf:acme/other", hub_settings, tmp_path)
    local_hub.misbehave("GET /acme/other/resolve", flip_byte=40)
    with pytest.raises(CorruptFileError, match="is not what the Hub lists"):
        select(listing, "all", hub=hub_settings)


# -- refusals


def test_a_missing_repository(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    with pytest.raises(PrivateRepoError, match=r"hf:acme/none does not exist, or is private.*hf auth login"):
        ask("hf:acme/none", hub_settings, tmp_path)


def test_a_missing_repository_told_to_an_account(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    with pytest.raises(RepoNotFoundError, match=r"hf:acme/none does not exist\. Check the name"):
        ask("hf:acme/none", hub_settings, tmp_path)
    assert local_hub.log[-1].token == "hf_good"
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(HubError, match="refused the token"):
        ask("hf:acme/none", hub_settings, tmp_path)


def test_a_missing_revision(listing: Listing, hub_settings: HubSettings, tmp_path: Path) -> None:
    with pytest.raises(RepoNotFoundError, match="hf:acme/M-GGUF@v9: no such branch, tag or commit"):
        ask("hf:acme/M-GGUF@v9", hub_settings, tmp_path)


def test_a_private_repository(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.add("acme/secret", {"S-Q8_0.gguf": MODEL}, private=True, readers=["hf_good"])
    with pytest.raises(PrivateRepoError, match="private"):
        ask("hf:acme/secret", hub_settings, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    (artifact,) = select(ask("hf:acme/secret", hub_settings, tmp_path), "all")
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    on_cdn = [request for request in local_hub.log if request.path.startswith("/cdn/")]
    assert on_cdn
    assert {request.token for request in on_cdn} == {None}  # the token stays with the Hub


def test_a_gated_repository(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.tokens.add("hf_other")
    local_hub.add("meta/gated", {"S-Q8_0.gguf": MODEL}, gated="manual", readers=["hf_good"])
    for token in (None, "hf_other"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(GatedRepoError, match=r"hf:meta/gated is gated.*Accept its terms at http.*/meta/gated"):
            ask("hf:meta/gated", hub_settings, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert ask("hf:meta/gated", hub_settings, tmp_path).quants == ("Q8_0",)


def test_a_repository_without_models(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    local_hub.add("acme/M", {"model.safetensors": b"x"})
    local_hub.add("acme/half", {"M-Q8_0-00001-of-00002.gguf": MODEL})
    with pytest.raises(SourceError, match=r"hf:acme/M holds no usable GGUF model\. Look for .* ends in -GGUF"):
        ask("hf:acme/M", hub_settings, tmp_path)
    with pytest.raises(SourceError, match="without number 2"):
        ask("hf:acme/half", hub_settings, tmp_path)


@pytest.mark.parametrize("name", ["a\ud800", "a\0b", "x" * 251, "folder" * 50 + "/a"])
def test_names_that_no_file_can_have_are_refused(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, name: str
) -> None:
    commit = local_hub.add("acme/odd", {"x-Q8_0.gguf": MODEL})
    tree = local_hub.repos["acme/odd"].commits[commit]
    tree[f"{name}.gguf"] = tree.pop("x-Q8_0.gguf")
    with pytest.raises(HubError, match="no file can be called that"):
        ask("hf:acme/odd", hub_settings, tmp_path)


def test_names_that_lead_out_of_the_cache_are_refused(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    for path in ("../x-Q8_0.gguf", "/etc/x-Q8_0.gguf", "a//b-Q8_0.gguf", "..\\x-Q8_0.gguf"):
        local_hub.add("acme/evil", {path: MODEL})
        with pytest.raises(HubError, match="outside its own folder"):
            ask("hf:acme/evil", hub_settings, tmp_path)


# -- patience


def test_passing_troubles_are_waited_out(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    local_hub.add("acme/M-GGUF", FILES)
    waits: list[float] = []
    patient = replace(hub_settings, sleep=waits.append)
    local_hub.misbehave("/api/models", status=503)
    local_hub.misbehave("/api/models", status=429, headers={"Retry-After": "2"})
    local_hub.misbehave("/api/models", status=429, headers={"RateLimit": '"api";r=0;t=1'})
    assert ask("hf:acme/M-GGUF", patient, tmp_path).quants
    assert sum(waits) == pytest.approx(3.0, abs=0.1)


def test_rate_limits_are_bounded(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    local_hub.add("acme/M-GGUF", FILES)
    local_hub.misbehave("/api/models", status=429, headers={"Retry-After": "3600"}, times=99)
    with pytest.raises(RateLimitedError, match=r"limits requests \(429\) and asks to wait 3600 s"):
        ask("hf:acme/M-GGUF", hub_settings, tmp_path)
    assert len(local_hub.log) == 1
    local_hub.faults.clear()
    local_hub.misbehave("/api/models", status=429, times=99)
    with pytest.raises(RateLimitedError, match="accounts have higher limits"):
        ask("hf:acme/M-GGUF", hub_settings, tmp_path)
    assert len(local_hub.log) == 1 + hub_settings.attempts


def test_a_retry_date_is_understood(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    local_hub.add("acme/M-GGUF", FILES)
    local_hub.misbehave("/api/models", status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    local_hub.misbehave("/api/models", status=503, headers={"Retry-After": "soon"})
    assert ask("hf:acme/M-GGUF", hub_settings, tmp_path).quants
    local_hub.misbehave("/api/models", status=503, headers={"Retry-After": "Wed, 21 Oct 2065 07:28:00 GMT"})
    with pytest.raises(HubUnavailableError):
        ask("hf:acme/M-GGUF", hub_settings, tmp_path)


@pytest.mark.parametrize("how", [{"status": 500}, {"cut_after": 10}, {"status": 200, "body": b"<html>", "times": 1}])
def test_servers_that_never_recover(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, how: dict[str, object]
) -> None:
    local_hub.add("acme/M-GGUF", FILES)
    local_hub.misbehave("/api/models", **({"times": 99} | how))
    with pytest.raises(HubError, match=r"answered 500 every time|broke off every time|does not answer like a Hub"):
        ask("hf:acme/M-GGUF", hub_settings, tmp_path)


def test_a_long_wait_can_be_cancelled(hub_settings: HubSettings) -> None:
    with pytest.raises(FetchCancelledError):
        HubClient(hub_settings, lambda: True).wait(1000.0)


# -- without network


def test_what_was_listed_can_be_planned_offline(listing: Listing, hub_settings: HubSettings, tmp_path: Path) -> None:
    offline = replace(hub_settings, offline=True)
    assert ask("hf:acme/M-GGUF", offline, tmp_path) == listing
    assert ask(f"hf:acme/M-GGUF@{listing.revision}", offline, tmp_path).candidates == listing.candidates
    with pytest.raises(OfflineError, match="was never listed on this machine"):
        ask("hf:acme/other", offline, tmp_path)


def test_what_was_listed_can_be_planned_when_the_hub_cannot_be_reached(
    listing: Listing, hub_settings: HubSettings, tmp_path: Path
) -> None:
    nowhere = replace(hub_settings, endpoint="http://127.0.0.1:9")
    assert ask("hf:acme/M-GGUF", nowhere, tmp_path) == listing
    with pytest.raises(OfflineError, match=r"http://127.0.0.1:9 cannot be reached.*Check the network"):
        ask("hf:acme/other", nowhere, tmp_path)


def test_what_another_tool_cached_can_be_used_offline(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    from huggingface_hub import hf_hub_download

    commit = local_hub.add("acme/M-GGUF", FILES)
    hf_hub_download(
        "acme/M-GGUF", "M-Q4_K_M.gguf", endpoint=local_hub.endpoint, cache_dir=hub_settings.cache_dir, token=False
    )
    offline = replace(hub_settings, offline=True)
    listing = ask("hf:acme/M-GGUF", offline, tmp_path)
    assert (listing.quants, listing.revision) == (("Q4_K_M",), commit)
    (artifact,) = select(listing, "all", hub=offline)
    assert fetch(artifact, hub=offline).read_bytes() == MODEL
