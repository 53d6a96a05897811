"""Model files, split sets, folders and caches that try to cost memory or time, to hang, or to be taken for a model.

Headers are read in processes of their own, whose memory and CPU time are measured, from a file and from a local Hub.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from tests.attacks.attack import Attack
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import GGUF, Array, Tensor, small_model, split_model
from tests.quants.hostile_headers import HEADERS, MB, PROMISED_BYTES, ROOT, Cost, costs, on_a_hub, split_set

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = "model files: memory and time"
RANGE = "model files: memory and time, by Range"
REFUSED = "model files: taken for sound"
SETS = "split sets"
FOLDERS = "folders and caches"
CPU_S = 10.0
CLIENT_BYTES = 16 * MB  # what the HTTP client takes
HANG_S = 60.0


def _judge(found: Cost, word: str, allowed_bytes: int = PROMISED_BYTES) -> str | None:
    if found.peak_bytes > allowed_bytes:
        return f"{found.peak_bytes / MB:.0f} MB of memory"
    if found.cpu_s > CPU_S:
        return f"{found.cpu_s:.0f} s of CPU"
    if found.refused is not bool(word):
        return f"it was {'refused' if found.refused else 'taken'}: {found.said}"
    return None if word in found.said else f"it was refused for something else: {found.said}"


def _header(name: str, folder: Path) -> str | None:
    write, word = HEADERS[name]
    path = folder / "M-Q8_0.gguf"
    write(path)
    (found,) = costs("file", str(path))
    return _judge(found, word)


def _by_range(name: str, folder: Path) -> str | None:
    write, word = HEADERS[name]
    path = folder / "M-Q8_0.gguf"
    write(path)
    with on_a_hub(folder, Hostile={path.name: path}) as hub:
        (found,) = costs("hub", *hub, "hf:acme/Hostile")
    return _judge(found, word, PROMISED_BYTES + CLIENT_BYTES)


def _refused(data: bytes, folder: Path) -> str | None:
    path = folder / "M-Q8_0.gguf"
    path.write_bytes(data)
    (found,) = costs("folder", str(path))
    return None if found.refused else f"it was taken: {found.said}"


def _set(make: Callable[[Path], None], word: str, folder: Path) -> str | None:
    files = folder / "set"
    files.mkdir()
    make(files)
    (found,) = costs("folder", str(files))
    return _judge(found, word, 2 * PROMISED_BYTES)


def _shards(*indices: int, count: int = 3, **changed: int) -> Callable[[Path], None]:
    """The shards of these indices of a set, under the names of its first ones."""

    def make(files: Path) -> None:
        shards = split_model(count)
        for place, index in enumerate(indices, start=1):
            shard = shards[index]
            shard.keys = [(key, kind, changed.get(key.replace(".", "_"), value)) for key, kind, value in shard.keys]
            (files / f"M-Q8_0-{place:05d}-of-{count:05d}.gguf").write_bytes(shard.data())

    return make


def _claims_many(files: Path) -> None:
    for number in range(2_000):
        (files / f"M{number}-Q8_0-00001-of-99999.gguf").write_bytes(small_model().data())


# A script for a process that must end: it resolves a source and prints what came of it.
_RESOLVE = """
import sys
from pathlib import Path
from quants.errors import QuantsError
from quants.gguf import read_header
from quants.sources.resolve import resolve, select
try:
    listing = resolve(sys.argv[1], base_dir=Path(sys.argv[2]))
    print("listed", len(listing.candidates))
except QuantsError as error:
    print("refused", error)
"""


def _resolved(folder: Path, source: str, expected: str, **env: str) -> str | None:
    """Listing ends, soon, as `expected`: not by a traceback."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RESOLVE, source, str(folder)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=HANG_S,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), **env},
        )
    except subprocess.TimeoutExpired:
        return f"listing did not end in {HANG_S:g} s"
    if done.returncode or not done.stdout.startswith(expected):
        return f"{done.stdout.strip()[-200:]} {done.stderr.strip()[-200:]}"
    return None


def _pipe(folder: Path) -> str | None:
    os.mkfifo(folder / "M-Q8_0.gguf")
    return _resolved(folder, ".", "refused") or _resolved(folder, "./M-Q8_0.gguf", "refused")


def _link_to(target: str, folder: Path) -> str | None:
    (folder / "M-Q8_0.gguf").symlink_to(target)
    return _resolved(folder, "./M-Q8_0.gguf", "refused") or _resolved(folder, ".", "refused")


def _links_in_circles(folder: Path) -> str | None:
    models = folder / "models"
    models.mkdir()
    (models / "M-Q8_0.gguf").write_bytes(small_model().data())
    for number in range(60):
        (models / f"again{number}").symlink_to(models)
    return _resolved(folder, "./models", "listed 1")


def _hole(folder: Path) -> str | None:
    path = folder / "M-Q8_0.gguf"
    path.write_bytes(small_model(tensors=[Tensor("t", (2**39,), 24, 0)]).data())
    os.truncate(path, 2**40)
    return _resolved(folder, ".", "listed 1")


def _cut_off(folder: Path) -> str | None:
    """A file that ends within its vocabulary."""
    path = folder / "M-Q8_0.gguf"
    head = small_model(tokens=400_000).data()
    path.write_bytes(head[:3_000_000])
    return _resolved(folder, ".", "refused")


def _memory_of_digests(text: str, folder: Path) -> str | None:
    """What is remembered about files is no more trusted than files: it is there, and no sound entry."""
    from quants.digests import _entry

    path = folder / "M-Q8_0.gguf"
    path.write_bytes(small_model().data())
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        from quants.digests import file_sha256

        entry = _entry(str(path.resolve()))
        entry.parent.mkdir(parents=True)
        entry.write_text(text)
        digest = file_sha256(path)
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
    return None if len(digest) == 64 and digest != "0" * 64 else f"the digest is {digest}"


def _memory_of_a_hub(text: str, folder: Path) -> str | None:
    commit = "0" * 40
    memory = folder / "cache" / "quantsweep" / "hub" / "acme--M"
    (memory / "refs").mkdir(parents=True)
    (memory / "refs" / "HEAD").write_text(commit)
    (memory / f"{commit}.json").write_text(text)
    return _resolved(folder, "hf:acme/M", "refused", HF_HUB_OFFLINE="1", HF_HOME=str(folder / "hf"))


def _names(folder: Path) -> str | None:
    """Names that are no UTF-8, that break lines, that look like options."""
    for name in (
        b"\xff\xfe.gguf",
        b"a\nb.gguf",
        b"--help.gguf",
        b"-00001-of-00000.gguf",
        b" .gguf",
        b"M-00003-of-00002.gguf",
    ):
        (folder / os.fsdecode(name)).write_bytes(small_model().data())
    return _resolved(folder, ".", "listed")


def _many_files(folder: Path) -> str | None:
    for number in range(10_001):
        (folder / f"{number}.gguf").touch()
    return _resolved(folder, ".", "refused")


_DEEP = "[" * 200_000
_BAD_TABLES: dict[str, bytes] = {
    "tensors that share their bytes": small_model(
        tensors=[Tensor("a", (64,), 0, 256), Tensor("b", (64,), 0, 256, offset=32)]
    ).data(),
    "a tensor behind the end": small_model(tensors=[Tensor("t", (64,), 0, 256)]).data()[:-1],
    "a tensor at an odd offset": small_model(tensors=[Tensor("t", (64,), 0, 256, offset=33)]).data(),
    "two keys of one name": GGUF([("k", gb.UINT8, 1), ("k", gb.UINT8, 2)], [Tensor("t", (1,), 0, 4)]).data(),
    "an alignment of nothing": small_model(extra=[("general.alignment", gb.UINT32, 0)]).data(),
    "an alignment that is text": small_model(extra=[("general.alignment", gb.STRING, "32")]).data(),
    "an alignment of 2**31": small_model(extra=[("general.alignment", gb.UINT32, 2**31)]).data(),
    "rows that are no whole blocks": small_model(tensors=[Tensor("t", (33,), 8, 34)]).data(),
    "a key that is no text": GGUF([("k", gb.UINT8, 1)])
    .header()
    .replace(b"\x01\0\0\0\0\0\0\0k", b"\x01\0\0\0\0\0\0\0\xff"),
    "a string that leads behind the file": GGUF([("k", gb.ARRAY, Array(gb.STRING, ["a", "b"]))])
    .header()
    .replace(b"\x01\0\0\0\0\0\0\0b", struct.pack("<Q", 2**64 - 9) + b"b"),
    "a version of the future": b"GGUF" + struct.pack("<IQQ", 4, 0, 0),
    "a web page": b"<!DOCTYPE html>" * 1000,
    "an architecture without text": GGUF([("general.architecture", gb.UINT8, 1)], [Tensor("t", (1,), 0, 4)]).data()[
        :30
    ],
}

ATTACKS: list[Attack] = [
    *(Attack(HEADER, name, partial(_header, name)) for name in HEADERS),
    *(
        Attack(RANGE, name, partial(_by_range, name))
        for name in ("a 500 MB header of long strings", "four million empty strings", "everything at its cap")
    ),
    *(Attack(REFUSED, name, partial(_refused, data)) for name, data in _BAD_TABLES.items()),
    Attack(
        SETS,
        "shards of 100,000 tensors together",
        partial(_set, partial(split_set, count=5, tensors_each=20_000), "tensors"),
    ),
    Attack(SETS, "two thousand files that each claim 99,998 more", partial(_set, _claims_many, "without number")),
    Attack(SETS, "a shard that is there twice", partial(_set, _shards(0, 1, 1), "says of itself")),
    Attack(SETS, "shards in another order", partial(_set, _shards(0, 2, 1), "says of itself")),
    Attack(
        SETS, "a set that says it has fewer", partial(_set, _shards(0, 1, 2, split_count=2), "of which 3 are there")
    ),
    Attack(SETS, "tensors that do not add up", partial(_set, _shards(0, 1, 2, split_tensors_count=99), "announces 99")),
    Attack(FOLDERS, "a pipe that nobody writes to", _pipe),
    Attack(FOLDERS, "a link to /dev/zero", partial(_link_to, "/dev/zero")),
    Attack(FOLDERS, "a link to itself", partial(_link_to, "M-Q8_0.gguf")),
    Attack(FOLDERS, "a link to the memory of the process", partial(_link_to, "/proc/self/mem")),
    Attack(FOLDERS, "sixty links in circles", _links_in_circles),
    Attack(FOLDERS, "a terabyte of nothing", _hole),
    Attack(FOLDERS, "a file that ends in its vocabulary", _cut_off),
    Attack(FOLDERS, "ten thousand files", _many_files),
    Attack(FOLDERS, "names that are no names", _names),
    *(
        Attack(FOLDERS, f"{what} in what is remembered of {whose}", partial(attempt, text))
        for what, text in (
            ("brackets without an end", _DEEP),
            ("a number", "7"),
            ("nothing", ""),
            ("half an entry", '{"path": '),
        )
        for whose, attempt in (("digests", _memory_of_digests), ("a repository", _memory_of_a_hub))
    ),
]
