"""Downloads: verified, continued, once per node, never partial, and clear about what stands in the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import quants.hub.download
from quants.cache import fetch
from quants.errors import (
    CorruptFileError,
    DiskFullError,
    FetchCancelledError,
    GatedRepoError,
    HubUnavailableError,
    OfflineError,
    RepoNotFoundError,
    SourceError,
)
from quants.sources.resolve import resolve, select
from tests.quants.ggufbytes import Tensor, small_model, split_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from quants.artifact import Artifact
    from quants.hub.client import HubSettings
    from tests.hubserver.server import LocalHub

SIZE = 3 * 1024 * 1024
MODEL = small_model(tensors=[Tensor("t", (SIZE,), 24, SIZE)]).data()


@pytest.fixture
def artifact(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> Artifact:
    local_hub.add("acme/M-GGUF", {"M-Q8_0.gguf": MODEL})
    return select(resolve("hf:acme/M-GGUF", base_dir=tmp_path, hub=hub_settings), "all")[0]


def partials(hub: HubSettings) -> list[Path]:
    return list(hub.cache_dir.rglob("*.incomplete"))


def ranges(local_hub: LocalHub) -> list[str | None]:
    return [request.range for request in local_hub.log if request.path.startswith("/cdn/")]


def test_a_file_lands_where_huggingface_hub_looks_for_it(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    from huggingface_hub import hf_hub_download

    seen: list[tuple[int, int]] = []
    path = fetch(artifact, hub=hub_settings, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == MODEL
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(MODEL), len(MODEL))
    sent = local_hub.file_bytes_sent()
    theirs = hf_hub_download(
        "acme/M-GGUF", "M-Q8_0.gguf", endpoint=local_hub.endpoint, cache_dir=hub_settings.cache_dir, token=False
    )
    assert Path(theirs) == path
    assert fetch(artifact, hub=replace(hub_settings, offline=True)) == path
    assert local_hub.file_bytes_sent() == sent == len(MODEL)
    assert not partials(hub_settings)


def test_what_huggingface_hub_fetched_is_used_after_a_check(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    from huggingface_hub import hf_hub_download

    theirs = hf_hub_download(
        "acme/M-GGUF",
        "M-Q8_0.gguf",
        revision=artifact.revision,
        endpoint=local_hub.endpoint,
        cache_dir=hub_settings.cache_dir,
        token=False,
    )
    sent = local_hub.file_bytes_sent()
    assert fetch(artifact, hub=hub_settings) == Path(theirs)
    assert local_hub.file_bytes_sent() == sent


def test_a_new_commit_with_the_same_file_is_not_fetched_again(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    fetch(artifact, hub=hub_settings)
    local_hub.add("acme/M-GGUF", {"M-Q8_0.gguf": MODEL, "README.md": b"new"})
    (newer,) = select(resolve("hf:acme/M-GGUF", base_dir=tmp_path, hub=hub_settings), "all")
    assert newer.revision != artifact.revision
    assert fetch(newer, hub=hub_settings).read_bytes() == MODEL
    assert local_hub.file_bytes_sent() == len(MODEL)


def test_split_sets_lie_side_by_side(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    shards = [shard.data() for shard in split_model(3)]
    local_hub.add("acme/S", {f"Q8_0/S-Q8_0-{i:05d}-of-00003.gguf": shard for i, shard in enumerate(shards, 1)})
    (artifact,) = select(resolve("hf:acme/S", base_dir=tmp_path, hub=hub_settings), "all")
    first = fetch(artifact, hub=hub_settings)
    assert first.name == "S-Q8_0-00001-of-00003.gguf"
    assert [path.read_bytes() for path in sorted(first.parent.iterdir())] == shards


# -- trouble on the way


def test_bodies_that_break_off_are_continued(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    for _ in range(8):  # more often than the attempts, but each time something arrived
        local_hub.misbehave("GET /cdn/", cut_after=300_000)
    local_hub.misbehave("GET /acme", status=502)
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    starts = [int(str(value).removeprefix("bytes=").split("-")[0]) for value in ranges(local_hub)]
    assert starts == sorted(starts)
    assert len(starts) == 9
    assert len(set(starts)) == 9


def test_a_line_that_brings_nothing_is_given_up(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    local_hub.misbehave("GET /cdn/", cut_after=0, times=99)
    with pytest.raises(
        HubUnavailableError, match=r"hf:acme/M-GGUF@.* \(M-Q8_0.gguf\): the answer broke off every time"
    ):
        fetch(artifact, hub=hub_settings)
    assert len(ranges(local_hub)) == hub_settings.attempts


def test_a_server_without_ranges_is_begun_anew(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    local_hub.misbehave("GET /cdn/", cut_after=1_000_000)
    local_hub.misbehave("GET /cdn/", ignore_range=True)
    seen: list[int] = []
    assert fetch(artifact, hub=hub_settings, progress=lambda done, _: seen.append(done)).read_bytes() == MODEL
    assert seen[-1] == len(MODEL)


def test_wrong_content_is_fetched_once_more(artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings) -> None:
    local_hub.misbehave("GET /cdn/", flip_byte=SIZE - 7)
    seen: list[int] = []
    assert fetch(artifact, hub=hub_settings, progress=lambda done, _: seen.append(done)).read_bytes() == MODEL
    assert seen[-1] == len(MODEL)


def test_content_that_stays_wrong_is_never_used(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    local_hub.misbehave("GET /cdn/", flip_byte=1000, times=99)
    with pytest.raises(CorruptFileError, match=r"sha256 differs\), twice.*proxy or mirror"):
        fetch(artifact, hub=hub_settings)
    assert len(ranges(local_hub)) == 2
    assert not [path for path in hub_settings.cache_dir.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_file_of_another_size_is_refused(artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings) -> None:
    blob = local_hub.blobs[artifact.sha256]
    local_hub.blobs[artifact.sha256] = replace(blob, size=blob.size - 1)
    with pytest.raises(CorruptFileError, match=r"the server's file has [\d,]+ bytes, the Hub lists"):
        fetch(artifact, hub=hub_settings)


def test_a_file_that_is_gone_or_locked_up(artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings) -> None:
    local_hub.repos["acme/M-GGUF"].gated = "auto"
    with pytest.raises(GatedRepoError, match="is gated"):
        fetch(artifact, hub=hub_settings)
    local_hub.repos["acme/M-GGUF"].gated = False
    local_hub.repos["acme/M-GGUF"].commits[str(artifact.revision)].clear()
    with pytest.raises(RepoNotFoundError, match="no such file at this commit"):
        fetch(artifact, hub=hub_settings)


def test_no_network_and_not_cached(artifact: Artifact, hub_settings: HubSettings) -> None:
    with pytest.raises(OfflineError, match=r"\(M-Q8_0.gguf\) is not in the cache, and offline mode is on"):
        fetch(artifact, hub=replace(hub_settings, offline=True))
    with pytest.raises(OfflineError, match="cannot be reached"):
        fetch(artifact, hub=replace(hub_settings, endpoint="http://127.0.0.1:9"))


def test_the_disk_is_looked_at_before_the_first_byte(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quants.hub.download, "SPARE_BYTES", 2**60)
    with pytest.raises(DiskFullError, match=r"needs 0.0 GB in .*, where .* GB are free.*HF_HOME"):
        fetch(artifact, hub=hub_settings)
    assert not ranges(local_hub)


def test_a_disk_that_fills_up_under_way(artifact: Artifact, hub_settings: HubSettings) -> None:
    partial = _partial_of(artifact, hub_settings)
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")  # every write says: no space left on device
    with pytest.raises(DiskFullError, match=r"is full: .* is not complete.*goes on where it stopped"):
        fetch(artifact, hub=hub_settings)


def _partial_of(artifact: Artifact, hub: HubSettings) -> Path:
    return quants.hub.download._Place(str(artifact.repo), str(artifact.revision), artifact.files[0], hub).partial


def test_a_cache_that_cannot_be_written(artifact: Artifact, hub_settings: HubSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError, match=r"cannot write to the model cache .*Set HF_HOME"):
        fetch(artifact, hub=replace(hub_settings, cache_dir=tmp_path / "file" / "cache"))


# -- what lies in the cache is not taken on trust


@pytest.mark.parametrize("damage", ["flip", "cut", "link"])
def test_a_damaged_cache_is_noticed_and_mended(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings, damage: str
) -> None:
    path = fetch(artifact, hub=hub_settings)
    blob = path.resolve()
    if damage == "flip":
        data = bytearray(MODEL)
        data[SIZE // 2] ^= 1
        blob.write_bytes(bytes(data))
        os.utime(blob, (1, 1))
    elif damage == "cut":
        os.truncate(blob, SIZE // 2)
    else:
        blob.unlink()
    refused = OfflineError if damage == "link" else CorruptFileError
    with pytest.raises(refused, match="HF_HUB_OFFLINE"):
        fetch(artifact, hub=replace(hub_settings, offline=True))
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    assert local_hub.file_bytes_sent() == 2 * len(MODEL)


def test_a_leftover_that_is_too_long_is_dropped(artifact: Artifact, hub_settings: HubSettings) -> None:
    partial = _partial_of(artifact, hub_settings)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(MODEL + b"more")
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL


def test_a_leftover_with_wrong_bytes_costs_one_more_download(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    partial = _partial_of(artifact, hub_settings)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1_000_000))
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    assert ranges(local_hub) == [f"bytes=1000000-{len(MODEL) - 1}", f"bytes=0-{len(MODEL) - 1}"]


def test_cancelling_keeps_what_arrived(artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings) -> None:
    done = 0

    def progress(done_bytes: int, _: int) -> None:
        nonlocal done
        done = done_bytes

    with pytest.raises(FetchCancelledError):
        fetch(artifact, hub=hub_settings, progress=progress, cancelled=lambda: done > 1_000_000)
    assert partials(hub_settings)[0].stat().st_size == done
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    assert ranges(local_hub)[-1] == f"bytes={done}-{len(MODEL) - 1}"


def test_a_body_that_trickles_is_given_up_and_fetched_by_another_request(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte came within the time-out, so the lease waited for weeks."""
    monkeypatch.setattr(quants.hub.download, "PACE_S", 0.2)
    local_hub.misbehave("GET /cdn/", trickle_s=0.01, times=2)
    assert fetch(artifact, hub=hub_settings).read_bytes() == MODEL
    assert len(ranges(local_hub)) == 3


def test_a_body_that_trickles_can_be_cancelled(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    """The wish was looked at after each quarter of a megabyte, which never came."""
    local_hub.misbehave("GET /cdn/", trickle_s=0.01, times=9)
    arrived: list[int] = []
    with pytest.raises(FetchCancelledError):
        fetch(
            artifact,
            hub=hub_settings,
            progress=lambda done, _: arrived.append(done),
            cancelled=lambda: len(arrived) > 5,
        )
    assert arrived[-1] < 1000


# -- real processes, configured through the environment as users do it

SCRIPT = """
import json, sys
from quants.artifact import Artifact
from quants.cache import fetch
print("started", flush=True)
print(fetch(Artifact.from_json(json.loads(sys.argv[1]))), flush=True)
"""


@pytest.fixture
def start(artifact: Artifact, hub_settings: HubSettings, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start_process(**extra: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path / "xdg-cache"),
            "HF_HUB_CACHE": str(hub_settings.cache_dir),
            "HF_ENDPOINT": hub_settings.endpoint,
        }
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(artifact.to_json())],
            env=environment | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, error


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_download_once(
    start: Callable[..., subprocess.Popen[str]], local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    local_hub.gate.clear()  # the body stops half-way, until the second process is there
    first = start()
    wait_for(lambda: any(path.stat().st_size for path in partials(hub_settings)))
    second = start()
    assert second.stdout is not None
    assert second.stdout.readline() == "started\n"
    local_hub.gate.set()
    results = [finish(first), finish(second)]
    assert [code for code, _, _ in results] == [0, 0], results
    paths = [out.strip().splitlines()[-1] for _, out, _ in results]
    assert paths[0] == paths[1]
    assert Path(paths[0]).read_bytes() == MODEL
    assert local_hub.file_bytes_sent() == len(MODEL)


def test_a_killed_download_goes_on_where_it_stopped(
    start: Callable[..., subprocess.Popen[str]], local_hub: LocalHub, hub_settings: HubSettings
) -> None:
    local_hub.gate.clear()
    process = start()
    wait_for(lambda: any(path.stat().st_size > 1_000_000 for path in partials(hub_settings)))
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    local_hub.gate.set()
    have = partials(hub_settings)[0].stat().st_size
    assert not list(hub_settings.cache_dir.rglob("*.gguf"))
    code, out, error = finish(start())
    assert code == 0, error
    assert Path(out.split()[-1]).read_bytes() == MODEL
    assert ranges(local_hub)[-1] == f"bytes={have}-{len(MODEL) - 1}"


def test_offline_through_the_environment(start: Callable[..., subprocess.Popen[str]], local_hub: LocalHub) -> None:
    code, _, error = finish(start(HF_HUB_OFFLINE="1"))
    assert code == 1
    assert "OfflineError: hf:acme/M-GGUF" in error
    assert finish(start())[0] == 0
    asked = len(local_hub.log)
    code, out, _ = finish(start(HF_HUB_OFFLINE="1"))
    assert (code, Path(out.split()[-1]).read_bytes() == MODEL) == (0, True)
    assert len(local_hub.log) == asked


def test_any_order_of_troubles_ends_with_the_right_bytes(
    artifact: Artifact, local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    chance = random.Random(7)
    for round_number in range(6):
        for _ in range(chance.randrange(4)):
            kind: dict[str, Any] = chance.choice(
                [{"status": 503}, {"cut_after": chance.randrange(SIZE)}, {"ignore_range": True}, {"status": 429}]
            )
            local_hub.misbehave("GET /cdn/", **kind)
        settings = replace(hub_settings, cache_dir=tmp_path / f"cache{round_number}", attempts=8)
        assert fetch(artifact, hub=settings).read_bytes() == MODEL
