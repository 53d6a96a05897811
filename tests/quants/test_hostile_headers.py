"""What headers made to do harm really cost: measured in processes of their own, from files, by Range, as split sets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from quants.errors import GGUFError, SourceError
from quants.gguf import LISTING_BYTES, combine, held_bytes, read_header
from quants.sources.headers import read_headers
from quants.sources.labels import group
from quants.sources.listing import ListedFile
from quants.sources.resolve import resolve
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import small_model, split_model
from tests.quants.hostile_headers import HEADERS, MB, PROMISED_BYTES, costs, on_a_hub, split_set

if TYPE_CHECKING:
    from pathlib import Path

    from quants.hub.client import HubSettings
    from tests.hubserver.server import LocalHub

SLOW = bool(os.environ.get("QUANTSWEEP_SLOW"))
# Those that take seconds to write or send.
LARGE = {
    "a 500 MB vocabulary",
    "a 500 MB array of numbers",
    "sixteen million empty strings",
    "arrays four million deep",
}
SENT = ["a 500 MB header of long strings", "four million empty strings", "everything at its cap"]
HANG_S = 60.0  # of CPU: what took a minute takes a second at most


@pytest.mark.long
def test_no_header_takes_more_than_is_promised(tmp_path: Path) -> None:
    names = [name for name in HEADERS if SLOW or name not in LARGE]
    paths: list[Path] = []
    for name in names:
        paths.append(tmp_path / f"{len(paths)}.gguf")
        HEADERS[name][0](paths[-1])
    for name, found in zip(names, costs("file", *map(str, paths)), strict=True):
        word = HEADERS[name][1]
        assert found.refused is bool(word), (name, found)
        assert word in found.said, (name, found)
        assert found.peak_bytes < PROMISED_BYTES, (name, found)
        assert found.cpu_s < HANG_S / 4, (name, found)


def test_nor_one_that_is_read_by_range(tmp_path: Path) -> None:
    files = {}
    for number, name in enumerate(SENT if SLOW else SENT[1:2]):
        path = tmp_path / f"{number}.gguf"
        HEADERS[name][0](path)
        files[f"R{number}"] = {"M-Q8_0.gguf": path}
    with on_a_hub(tmp_path, **files) as hub:
        for name, found in zip(files, costs("hub", *hub, *(f"hf:acme/{name}" for name in files)), strict=True):
            # The HTTP client's own buffers come on top.
            assert found.peak_bytes < PROMISED_BYTES + 16 * MB, (name, found)
            assert found.cpu_s < HANG_S / 4, (name, found)


def test_nor_a_split_set(tmp_path: Path) -> None:
    split_set(tmp_path, 3, 17_000)
    (found,) = costs("folder", str(tmp_path))
    assert found.refused
    assert "the shards hold 51,000 tensors; at most 49,152 are read" in found.said
    assert found.peak_bytes < PROMISED_BYTES


def test_nor_one_of_which_the_shards_are_fetched_one_by_one(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = {f"M-Q8_0-{number:05d}-of-00009.gguf": one.data() for number, one in enumerate(split_model(9), 1)}
    local_hub.add("acme/Split", dict(shards))
    listing = resolve("hf:acme/Split", base_dir=tmp_path, hub=hub_settings)
    monkeypatch.setattr("quants.sources.headers.SET_BYTES", 8_000)
    local_hub.log.clear()
    (found,) = read_headers(listing, hub=hub_settings)
    assert "the headers of its 9 files take more than" in str(found.error)
    assert sum(request.path.startswith("/cdn/") for request in local_hub.log) < 9


def test_the_headers_of_a_source_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"M{number}-Q8_0.gguf").write_bytes(small_model(extra=[("x", gb.STRING, "x" * 90_000)]).data())
    assert len(resolve(".", base_dir=tmp_path).candidates) == 4
    monkeypatch.setattr("quants.sources.local.LISTING_BYTES", MB)
    with pytest.raises(SourceError, match="the headers of its files take more than 0 MiB"):
        resolve(".", base_dir=tmp_path)
    assert held_bytes(read_header(tmp_path / "M0-Q8_0.gguf")) > 360_000
    assert LISTING_BYTES > 100 * MB


def test_a_name_cannot_claim_any_number_of_files(tmp_path: Path) -> None:
    path = tmp_path / "M-Q8_0-00001-of-99999.gguf"
    path.write_bytes(small_model().data())
    with pytest.raises(SourceError, match=r"one of 99,999 files; at most 1,024 are read"):
        resolve(str(path), base_dir=tmp_path)
    many = [ListedFile(f"M{number}-Q8_0-00001-of-99999.gguf", 1) for number in range(2_000)]
    found = group(many)  # two hundred million numbers to go through, or none
    assert len(found.incomplete) == 2_000
    assert found.incomplete[0][1].endswith("without number 2, 3, 4, 5, 6 ...")


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quants.sources.local.MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"M{number}-Q8_0.gguf").write_bytes(small_model().data())
    with pytest.raises(SourceError, match=r"holds more than 3 \.gguf files"):
        resolve(".", base_dir=tmp_path)


def test_shards_cannot_hold_more_than_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [read_header(shard.data()) for shard in split_model(3)]
    monkeypatch.setattr("quants.gguf.split.LIMITS", type("Few", (), {"tensors": 5}))
    with pytest.raises(GGUFError, match="the shards hold 6 tensors; at most 5 are read"):
        combine(shards)
