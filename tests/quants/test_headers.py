"""Headers of whole sources: by Range from the Hub with few bytes, from folders, and with bad files in between."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest

import quants.sources.headers
from quants.errors import FetchCancelledError, GGUFError, HubUnavailableError
from quants.gguf import read_header
from quants.sources.headers import read_headers
from quants.sources.resolve import resolve
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import Tensor, small_model, split_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quants.hub.client import HubSettings
    from quants.sources.listing import Listing
    from tests.hubserver.server import LocalHub

TENSOR_BYTES = 4 * 1024 * 1024
TENSORS = [Tensor("t", (TENSOR_BYTES,), 24, TENSOR_BYTES)]
QUANTS = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")


def model(tokens: int, index: int) -> bytes:
    """A file whose header differs a little from its neighbours', as imatrix notes make it."""
    note = ("quantize.imatrix.file", gb.STRING, "x" * (100 + 10 * index))
    return small_model(tokens=tokens, extra=[note], tensors=TENSORS, file_type=10 + index).data()


def listed(local_hub: LocalHub, hub: HubSettings, tmp_path: Path, files: dict[str, bytes]) -> Listing:
    local_hub.add("acme/M-GGUF", dict(files))
    listing = resolve("hf:acme/M-GGUF", base_dir=tmp_path, hub=hub)
    local_hub.log.clear()
    return listing


# 1.4 MB and 0.6 MB of header: one needs a second request, one ends within the first. The last is too small to splice.
@pytest.mark.parametrize("tokens", [100_000, 40_000, 18_000])
def test_a_repository_costs_little_more_than_one_header(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, tokens: int
) -> None:
    files = {f"M-{quant}.gguf": model(tokens, index) for index, quant in enumerate(QUANTS)}
    listing = listed(local_hub, hub_settings, tmp_path, files)
    found = read_headers(listing, hub=hub_settings)
    for result in found:
        assert result.error is None
        assert result.header == read_header(files[result.candidate.files[0].path])
    header_bytes = sum(result.header.header_bytes for result in found if result.header)
    fetched_bytes = sum(result.fetched_bytes for result in found)
    assert fetched_bytes == local_hub.file_bytes_sent()
    assert fetched_bytes < 2 * header_bytes
    if tokens > 18_000:
        assert (
            fetched_bytes
            < max(quants.sources.headers.FIRST_BYTES, 2 * header_bytes / len(QUANTS)) + len(QUANTS) * 16_384
        )


def test_split_sets_and_a_choice_of_candidates(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    shards = [shard.data() for shard in split_model(3)]
    files = {f"BF16/M-BF16-{index:05d}-of-00003.gguf": shard for index, shard in enumerate(shards, 1)}
    listing = listed(local_hub, hub_settings, tmp_path, files | {"M-Q8_0.gguf": model(9, 0)})
    (wanted,) = (candidate for candidate in listing.candidates if candidate.quant == "BF16")
    (result,) = read_headers(listing, [wanted], hub=hub_settings)
    assert result.header is not None
    assert [tensor.shard for tensor in result.header.tensors] == [0, 0, 1, 1, 2, 2]
    assert result.fetched_bytes == sum(map(len, shards))
    assert read_headers(listing, [], hub=hub_settings) == ()


def test_a_bad_file_is_reported_in_its_place(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    files = {"M-Q8_0.gguf": model(9, 0), "M-Q4_K_M.gguf": b"no model" * 700_000, "M-Q2_K.gguf": model(9, 1)[:80]}
    listing = listed(local_hub, hub_settings, tmp_path, files)
    found = {result.candidate.quant: result for result in read_headers(listing, hub=hub_settings)}
    assert found["Q8_0"].header is not None
    assert isinstance(found["Q4_K_M"].error, GGUFError)
    assert "hf:acme/M-GGUF (M-Q4_K_M.gguf): no GGUF" in str(found["Q4_K_M"].error)
    assert "hf:acme/M-GGUF (M-Q2_K.gguf): cut off within its header: 80 bytes" in str(found["Q2_K"].error)


def test_broken_bodies_are_read_again_and_refusals_named(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    files = {f"M-{quant}.gguf": model(9, index) for index, quant in enumerate(QUANTS)}
    listing = listed(local_hub, hub_settings, tmp_path, files)
    local_hub.misbehave("GET /cdn/", cut_after=100, times=2)
    local_hub.misbehave("GET /cdn/", ignore_range=True, times=2)
    assert all(result.header for result in read_headers(listing, hub=hub_settings))
    local_hub.misbehave("GET /acme/M-GGUF/resolve/.*Q8_0", status=503, times=99)
    results = {result.candidate.quant: result for result in read_headers(listing, hub=hub_settings)}
    assert isinstance(results["Q8_0"].error, HubUnavailableError)
    assert sum(result.header is not None for result in results.values()) == len(QUANTS) - 1


def test_a_hub_that_refuses_everything_ends_it(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    listing = listed(local_hub, hub_settings, tmp_path, {"M-Q8_0.gguf": model(9, 0), "M-Q2_K.gguf": model(9, 1)})
    local_hub.misbehave("GET /acme", status=500, times=99)
    with pytest.raises(HubUnavailableError, match="answered 500 every time"):
        read_headers(listing, hub=hub_settings)
    assert len(local_hub.log) == hub_settings.attempts
    with pytest.raises(FetchCancelledError):
        read_headers(listing, hub=replace(hub_settings, backoff_s=60.0), cancelled=lambda: True)


def test_a_folder_is_read_once(tmp_path: Path) -> None:
    for index, quant in enumerate(QUANTS):
        (tmp_path / f"M-{quant}.gguf").write_bytes(model(20_000, index))
    for index, shard in enumerate(split_model(2), 1):
        (tmp_path / f"M-BF16-{index:05d}-of-00002.gguf").write_bytes(shard.data())
    listing = resolve(".", base_dir=tmp_path)
    for path in tmp_path.glob("*.gguf"):
        path.unlink()
    found = {result.candidate.quant: result for result in read_headers(listing)}
    assert set(found) == {*QUANTS, "BF16"}
    for result in found.values():
        assert result.header is not None
        assert result.fetched_bytes == 0
        assert result.header.length("tokenizer.ggml.tokens") == (8 if result.candidate.quant == "BF16" else 20_000)


def test_the_first_request_is_small(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    listing = listed(local_hub, hub_settings, tmp_path, {"M-Q8_0.gguf": model(9, 0)})
    read_headers(listing, hub=hub_settings)
    assert [request.range for request in local_hub.log if request.path.startswith("/cdn/")] == [
        f"bytes=0-{quants.sources.headers.FIRST_BYTES - 1}"
    ]


@cache
def vocabulary(words: tuple[str, ...], *, name: str = "M", between: int | None = None, cut: int = 0) -> bytes:
    """A file with these tokens and a header that differs from its neighbours' before and behind them."""
    built = small_model(tokens=1, tensors=TENSORS)
    built.keys = [
        ("general.architecture", gb.STRING, "llama"),
        ("general.name", gb.STRING, name),
        ("tokenizer.ggml.tokens", gb.ARRAY, gb.Array(gb.STRING, list(words))),
        *([("llama.block_count", gb.UINT32, between)] if between is not None else []),
        ("tokenizer.ggml.scores", gb.ARRAY, gb.Array(gb.FLOAT32, [0.0] * len(words))),
        ("general.file_type", gb.UINT32, len(name)),
    ]
    data = built.data()
    return data[: len(data) - cut]


WORDS = tuple(f"word{number:06d}" for number in range(30_000))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(partial(vocabulary, WORDS, name="another name"), id="same vocabulary, shifted"),
        pytest.param(partial(vocabulary, (*WORDS[:-1], "last")), id="a shorter last word"),
        pytest.param(partial(vocabulary, (*WORDS, "one more")), id="one more word"),
        pytest.param(
            partial(vocabulary, (*WORDS[:20_000], *(word[:-1] for word in WORDS[20_000:]))), id="shorter words"
        ),
        pytest.param(partial(vocabulary, tuple(word.upper() for word in WORDS)), id="other words"),
        pytest.param(partial(vocabulary, WORDS, between=7), id="a key in between"),
        pytest.param(partial(vocabulary, ("w",)), id="no vocabulary"),
        pytest.param(partial(vocabulary, WORDS, name="x" * 9000), id="a long name before"),
        pytest.param(partial(vocabulary, WORDS, cut=5), id="cut off"),
    ],
)
@pytest.mark.parametrize(
    "first", [partial(vocabulary, WORDS), partial(vocabulary, WORDS, between=3)], ids=["plain", "key between"]
)
def test_headers_read_beside_a_sibling_are_those_read_alone(
    local_hub: LocalHub,
    hub_settings: HubSettings,
    tmp_path: Path,
    first: Callable[[], bytes],
    other: Callable[[], bytes],
) -> None:
    one, two = first(), other()  # made here: thirty of them would be made by every process that collects the tests
    listing = listed(local_hub, hub_settings, tmp_path, {"M-Q2_K.gguf": one, "M-Q8_0.gguf": two + b"\0" * 31})
    results = {result.candidate.quant: result for result in read_headers(listing, hub=hub_settings)}
    assert results["Q2_K"].header == read_header(one)
    assert results["Q8_0"].header == read_header(two)
