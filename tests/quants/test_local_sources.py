"""Files, folders and built-in models as sources: what is found, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from quants.artifact import Artifact
from quants.cache import fetch
from quants.digests import file_sha256, forget
from quants.errors import CorruptFileError, FetchCancelledError, SelectionError, SourceError
from quants.sources.local import BUILTIN_MODELS, builtin_root
from quants.sources.resolve import find, parse_hub, resolve, select
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import small_model, split_model

if TYPE_CHECKING:
    from pathlib import Path

OLD = 1_600_000_000  # a modification time long ago: digests of fresh files are not remembered


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (OLD, OLD))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_pinned_and_fetched(tmp_path: Path) -> None:
    path = write(tmp_path / "models" / "M-Q4_K_M.gguf", small_model().data())
    for text, base in (
        (str(path), tmp_path),
        ("models/M-Q4_K_M.gguf", tmp_path),
        ("../models/M-Q4_K_M.gguf", tmp_path / "x"),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        listing = resolve(text, base_dir=base)
        assert (listing.kind, listing.quants) == ("file", ("Q4_K_M",))
        (artifact,) = select(listing, "all")
        assert artifact.sha256 == sha256(path)
        assert artifact.file_bytes == path.stat().st_size
        assert Artifact.from_json(artifact.to_json()) == artifact
        assert fetch(artifact).samefile(path)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "M-Q8_0.gguf", small_model().data())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/M-Q8_0.gguf", base_dir=tmp_path / "elsewhere").quants == ("Q8_0",)


def test_a_file_without_a_label_takes_its_headers(tmp_path: Path) -> None:
    write(tmp_path / "sha256-0123", small_model(file_type=18).data())  # the way Ollama names its blobs
    assert resolve("sha256-0123", base_dir=tmp_path).quants == ("Q6_K",)


def test_a_name_stays_whatever_lies_beside_it(tmp_path: Path) -> None:
    """The same file had three names: by its header alone, by its file name beside another, another one in `fits`."""
    own = write(tmp_path / "My Model.gguf", small_model(file_type=7).data())
    assert resolve(str(tmp_path), base_dir=tmp_path).quants == ("My Model",)
    assert resolve(str(own), base_dir=tmp_path).quants == ("Q8_0",)
    write(tmp_path / "second-Q8_0.gguf", small_model().data())
    listing = resolve(str(tmp_path), base_dir=tmp_path)
    assert set(listing.quants) == {"My Model", "Q8_0"}
    assert resolve(str(own), base_dir=tmp_path).quants == ("Q8_0",)
    assert find(listing, "my model").files[0].path == "My Model.gguf"
    (tmp_path / "second-Q8_0.gguf").unlink()
    assert find(resolve(str(tmp_path), base_dir=tmp_path), "q8_0").quant == "My Model"


def test_a_file_that_is_cut_off_has_the_same_name_and_gives_others_the_same(tmp_path: Path) -> None:
    write(tmp_path / "whole-Q4_K_M.gguf", small_model().data())
    write(tmp_path / "torn-Q4_K_M.gguf", small_model().data()[:-1])
    assert resolve(".", base_dir=tmp_path).quants == ("whole-Q4_K_M",)
    judged = resolve(".", base_dir=tmp_path, need_data=False)
    assert set(judged.quants) == {"whole-Q4_K_M", "torn-Q4_K_M"}


def test_a_folder_holds_quants_split_sets_and_sidecars(tmp_path: Path) -> None:
    write(tmp_path / "M-Q4_K_M.gguf", small_model().data())
    write(tmp_path / "mmproj-F16.gguf", small_model(architecture="clip").data())
    write(tmp_path / "vision.gguf", small_model(architecture="clip").data())
    write(tmp_path / "lora.gguf", small_model(extra=[("general.type", gb.STRING, "adapter")]).data())
    write(tmp_path / "vocab.gguf", small_model(tensors=[]).data())
    write(tmp_path / ".hidden" / "H-Q2_K.gguf", small_model().data())
    for index, shard in enumerate(split_model(3), 1):
        write(tmp_path / "BF16" / f"M-BF16-{index:05d}-of-00003.gguf", shard.data())
    listing = resolve(str(tmp_path), base_dir=tmp_path)
    assert set(listing.quants) == {"Q4_K_M", "BF16"}
    assert sorted(sidecar.file.path for sidecar in listing.sidecars) == ["mmproj-F16.gguf", "vision.gguf"]
    reasons = dict(listing.skipped)
    assert "is a LoRA adapter" in reasons.pop("lora.gguf")
    assert "a vocabulary only" in reasons.pop("vocab.gguf")
    assert not reasons
    (artifact,) = select(listing, ["bf16"])
    assert [file.path for file in artifact.files] == [f"BF16/M-BF16-{index:05d}-of-00003.gguf" for index in (1, 2, 3)]
    digests = "".join(f"{file.sha256}\n" for file in artifact.files)
    assert artifact.sha256 == hashlib.sha256(digests.encode()).hexdigest()
    seen: list[tuple[int, int]] = []
    assert fetch(artifact, progress=lambda done, total: seen.append((done, total))).name == "M-BF16-00001-of-00003.gguf"
    assert seen[-1] == (artifact.file_bytes, artifact.file_bytes)


def test_any_shard_stands_for_its_set(tmp_path: Path) -> None:
    for index, shard in enumerate(split_model(2), 1):
        write(tmp_path / f"M-Q8_0-{index:05d}-of-00002.gguf", shard.data())
    listing = resolve("M-Q8_0-00002-of-00002.gguf", base_dir=tmp_path)
    assert listing.quants == ("Q8_0",)
    assert len(listing.candidates[0].files) == 2
    (tmp_path / "M-Q8_0-00001-of-00002.gguf").unlink()
    with pytest.raises(SourceError, match=r"M-Q8_0-00001-of-00002.gguf.*No such file"):
        resolve("M-Q8_0-00002-of-00002.gguf", base_dir=tmp_path)
    with pytest.raises(SourceError, match=r"no usable model.*split set of 2 files without number 1"):
        resolve(".", base_dir=tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"Q4_K_M.gguf: no GGUF: it is empty"),
        (b"hello, this is text", r"Q4_K_M.gguf: no GGUF: it begins with b'hell'"),
        (small_model().data()[:-1], r"Q4_K_M.gguf: cut off: the header announces"),
        (small_model().data()[:60], r"Q4_K_M.gguf: cut off within its header: 60 bytes"),
        (small_model(architecture="clip").data(), "is no model but its mmproj file"),
        (small_model(tensors=[]).data(), "holds no tensors"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, data: bytes, message: str) -> None:
    write(tmp_path / "M-Q4_K_M.gguf", data)
    with pytest.raises(SourceError, match=message):
        resolve("M-Q4_K_M.gguf", base_dir=tmp_path)


def test_one_bad_file_does_not_spoil_a_folder_but_says_why_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "M-Q4_K_M.gguf", small_model().data())
    write(tmp_path / "M-Q8_0.gguf", small_model().data()[:-1])
    listing = resolve(".", base_dir=tmp_path)
    assert listing.quants == ("Q4_K_M",)
    with pytest.raises(SelectionError, match=r"'q8_0' of \. cannot be used: .*M-Q8_0.gguf: cut off"):
        select(listing, ["q8_0"])


def test_sizing_needs_no_tensor_data(tmp_path: Path) -> None:
    write(tmp_path / "M-Q4_K_M.gguf", small_model().header())
    with pytest.raises(SourceError, match="cut off"):
        resolve("M-Q4_K_M.gguf", base_dir=tmp_path)
    assert resolve("M-Q4_K_M.gguf", base_dir=tmp_path, need_data=False).quants == ("Q4_K_M",)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "M-Q4_K_M.gguf", small_model().data())
    (tmp_path / "empty").mkdir()
    write(tmp_path / "safe" / "model.safetensors", b"x")
    write(tmp_path / "parts" / "M-Q8_0.gguf.part1of2", b"x")
    os.mkfifo(tmp_path / "pipe")
    for text, message in (
        ("M-Q4_KM.gguf", r"M-Q4_KM.gguf does not exist\. There is .*M-Q4_K_M.gguf"),
        ("unsloth/Qwen3-8B-GGUF", r"does not exist\. For a repository .* write hf:unsloth/Qwen3-8B-GGUF"),
        ("empty", "empty holds no .gguf file"),
        ("safe", "holds no .gguf file.*convert_hf_to_gguf"),
        ("parts", "holds no .gguf file.*unfinished download"),
        ("pipe", "neither a file nor a folder"),
        ("  ", "source is empty"),
        ("a\0b", "zero byte"),
        ("x" * 5000, "cannot read|does not exist"),
    ):
        with pytest.raises(SourceError, match=message):
            resolve(text, base_dir=tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "M-Q4_K_M.gguf").symlink_to("/proc/self/mem")  # has no end, and at address 0 nobody can read
    with pytest.raises(SourceError, match=r"cannot read .*M-Q4_K_M.gguf: Invalid argument"):
        resolve("M-Q4_K_M.gguf", base_dir=tmp_path)


def test_hub_addresses() -> None:
    for text, repo, revision in (
        ("hf:a/b", "a/b", None),
        ("hf:a/b@v1.0", "a/b", "v1.0"),
        ("hf:a/b@refs/pr/3", "a/b", "refs/pr/3"),
        ("https://huggingface.co/a/b", "a/b", None),
        ("https://huggingface.co/a/b/tree/main", "a/b", "main"),
    ):
        address = parse_hub(text)
        assert address is not None
        assert (address.repo, address.revision) == (repo, revision)
    assert parse_hub("models/a.gguf") is None
    for text, hint in (
        ("hf:a", "hf:owner/name"),
        ("hf:a/b/c", "form"),
        ("hf:a/b:Q4_K_M", "Write hf:a/b and name the quant"),
    ):
        with pytest.raises(SourceError, match=hint):
            parse_hub(text)


def test_built_in_models_are_found_by_name() -> None:
    for name, folder in BUILTIN_MODELS.items():
        assert builtin_root(name).name == folder
        assert builtin_root(name).is_dir()
    with pytest.raises(SourceError, match=r"no built-in model 'other'\. There is: stand-in"):
        resolve("builtin:other", base_dir=builtin_root("stand-in"))


@pytest.fixture
def three_quants(tmp_path: Path) -> Path:
    for quant, tokens in (("UD-Q4_K_XL", 20), ("Q8_0", 30), ("Q2_K", 10), ("MXFP4", 40)):
        write(tmp_path / f"M-{quant}.gguf", small_model(tokens=tokens).data())
    return tmp_path


def test_selection_by_any_name_and_in_the_order_asked(three_quants: Path) -> None:
    listing = resolve(".", base_dir=three_quants)
    assert listing.quants == ("Q2_K", "UD-Q4_K_XL", "Q8_0", "MXFP4")
    assert [artifact.quant for artifact in select(listing, "all")] == list(listing.quants)
    chosen = select(listing, ["q8_0", "M-UD-Q4_K_XL.gguf", "m-q2_k", "MXFP4_MOE"])
    assert [artifact.quant for artifact in chosen] == ["Q8_0", "UD-Q4_K_XL", "Q2_K", "MXFP4"]


def test_selection_of_what_is_not_there(three_quants: Path) -> None:
    listing = resolve(".", base_dir=three_quants)
    with pytest.raises(
        SelectionError, match=r"no quant 'Q4_K_XL'\. Did you mean UD-Q4_K_XL\? It has: Q2_K, UD-Q4_K_XL"
    ):
        select(listing, ["Q4_K_XL"])
    with pytest.raises(SelectionError, match="asked for twice"):
        select(listing, ["Q8_0", "q8_0"])
    write(three_quants / "N-Q8_0.gguf", small_model(tokens=50).data())
    listing = resolve(".", base_dir=three_quants)
    with pytest.raises(SelectionError, match=r"'Q8_0' stands for 2 files in \.\. Take one of: M-Q8_0, N-Q8_0"):
        select(listing, ["Q8_0"])
    assert select(listing, ["n-q8_0"])[0].files[0].path == "N-Q8_0.gguf"


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "M-Q8_0.gguf", small_model().data())
    (artifact,) = select(resolve("M-Q8_0.gguf", base_dir=tmp_path), "all")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    write(path, bytes(changed))
    os.utime(path, (OLD + 1, OLD + 1))
    with pytest.raises(CorruptFileError, match="is not the file that was pinned"):
        fetch(artifact)
    write(path, bytes(changed) + b"x")
    with pytest.raises(CorruptFileError, match=r"were pinned\. It changed since the plan was made"):
        fetch(artifact)
    path.unlink()
    with pytest.raises(SourceError, match="same path on every node"):
        fetch(artifact)


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path, cache_home: Path) -> None:
    path = write(tmp_path / "file", b"one")
    hashed: list[int] = []
    assert file_sha256(path, progress=hashed.append) == sha256(path)
    entries = list((cache_home / "quantsweep" / "sha256").iterdir())
    assert len(entries) == 1
    planted = "0" * 64
    entries[0].write_text(entries[0].read_text().replace(sha256(path), planted))
    assert file_sha256(path) == planted  # from memory
    assert file_sha256(path, trust_memory=False) == sha256(path)
    entries[0].write_text("{ torn")
    assert file_sha256(path) == sha256(path)
    write(path, b"two")
    os.utime(path, (OLD + 1, OLD + 1))
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()
    forget(path)
    assert not list((cache_home / "quantsweep" / "sha256").iterdir())


def test_a_time_stamp_that_was_set_back_hides_no_change(tmp_path: Path, cache_home: Path) -> None:
    """`touch -r`, rsync and the like: same size, same time, same inode, another model."""
    path = write(tmp_path / "file", b"one")
    before = path.stat()
    file_sha256(path)
    assert list((cache_home / "quantsweep" / "sha256").iterdir())
    with path.open("r+b") as file:
        file.write(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, cache_home: Path) -> None:
    path = write(tmp_path / "file", b"one")
    os.utime(path, (time.time(), time.time()))
    file_sha256(path)
    assert not (cache_home / "quantsweep").exists()


def test_hashing_can_be_cancelled_and_needs_no_writable_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "file", b"one")
    with pytest.raises(FetchCancelledError):
        file_sha256(path, cancelled=lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path / "no-folder", b"")))
    assert file_sha256(path) == sha256(path)
    with pytest.raises(SourceError, match="cannot read"):
        file_sha256(tmp_path / "missing")
