"""Headers made to cost their reader memory or time, written to disk, and what reading one really costs.

Each is read in a process of its own, as a sweep reads it: from a file, from a local Hub by Range, or as a split set.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hubserver.server import LocalHub
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import GGUF, Array, Tensor, small_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MB = 1_000_000
# What is promised for one header (quants.gguf.limits), all told.
PROMISED_BYTES = 64 * MB
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Cost:
    """What reading took.

    Attributes:
        said: the error in words, or what was read.
        refused: whether it was an error.
        peak_bytes: resident memory at its highest, over what it was before.
        cpu_s: CPU seconds of the process.
    """

    said: str
    refused: bool
    peak_bytes: int
    cpu_s: float


def _array_head(key: str, kind: int, count: int) -> bytes:
    return GGUF().string(key) + struct.pack("<IIQ", gb.ARRAY, kind, count)


def _preamble(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def _write(path: Path, head: bytes, *, size_bytes: int = 0) -> None:
    """The file, with a hole behind its head up to its size."""
    path.write_bytes(head)
    if size_bytes:
        os.truncate(path, size_bytes)


def _long_strings(path: Path) -> None:
    with path.open("wb") as file:
        file.write(_preamble(0, 1_000))
        for number in range(1_000):
            file.write(GGUF().string(f"k{number}") + struct.pack("<IQ", gb.STRING, 500_000))
            file.seek(500_000, os.SEEK_CUR)
        file.truncate(file.tell())


def _words(path: Path, count: int, length: int) -> None:
    word = struct.pack("<Q", length) + b"w" * length
    with path.open("wb") as file:
        file.write(_preamble(0, 1) + _array_head("tokenizer.ggml.tokens", gb.STRING, count))
        for _ in range(0, count, 100_000):
            file.write(word * 100_000)


def _real_words(path: Path) -> None:
    """What the largest real tokenizers have: 262,144 tokens with scores and types, 514,906 merges."""
    with path.open("wb") as file:
        file.write(_preamble(1, 5))
        file.write(GGUF().string("general.architecture") + struct.pack("<I", gb.STRING) + GGUF().string("gemma3"))
        for key, count, text in (("tokens", 262_144, "token%07d"), ("merges", 514_906, "merge%06d and%06d")):
            file.write(_array_head(f"tokenizer.ggml.{key}", gb.STRING, count))
            for number in range(count):
                word = (text % ((number,) * text.count("%"))).encode()
                file.write(struct.pack("<Q", len(word)) + word)
        for key, kind in (("scores", gb.FLOAT32), ("token_type", gb.INT32)):
            file.write(_array_head(f"tokenizer.ggml.{key}", kind, 262_144) + bytes(4 * 262_144))
        file.write(GGUF([], [Tensor("output_norm.weight", (8,), 0, 32)]).header()[24:])
        file.write(bytes(64))


def _nested(path: Path, count: int) -> None:
    inner = struct.pack("<IQ", gb.UINT8, 0)
    _write(path, _preamble(0, 1) + _array_head("k", gb.ARRAY, count) + inner * count)


def _deep(path: Path) -> None:
    """Arrays of one array, as deep as the file is long."""
    _write(path, _preamble(0, 1) + _array_head("k", gb.ARRAY, 1) + struct.pack("<IQ", gb.ARRAY, 1) * 4_000_000)


def _keys(path: Path, announced: int, there: int) -> None:
    one = (GGUF().string(f"{number:0250d}") + struct.pack("<IB", gb.UINT8, 1) for number in range(there))
    _write(path, _preamble(0, announced) + b"".join(one))


def _tensors(path: Path, announced: int, there: int, **changed: int) -> None:
    def row(number: int) -> bytes:
        shape = (changed.get("extent", 2**9), 2**9, 7, 9)
        offset = changed["offset"] if "offset" in changed else number * 4 * 2**18 * 63
        return GGUF().string(f"{number:060d}") + struct.pack("<I4QIQ", 4, *shape, 0, offset)

    _write(path, _preamble(announced, 0) + b"".join(map(row, range(there))))


def _everything(path: Path) -> None:
    """As much of everything as is read."""
    from quants.gguf import LIMITS

    wide = "x" * 50 + "\U0001f916"
    keys: list[tuple[str, int, object]] = [("text", gb.STRING, "x" * (LIMITS.text_bytes - 4) + "\U0001f916")]
    keys += [(f"array{number}", gb.ARRAY, Array(gb.INT64, range(2**40, 2**40 + 16_000))) for number in range(8)]
    keys += [(f"{number:05d}{wide * 4}", gb.FLOAT64, 0.1) for number in range(LIMITS.keys - len(keys))]
    size_bytes = 4 * 2**18 * 31 * 63
    path.write_bytes(
        GGUF(
            keys,
            [
                Tensor(f"{number:06d}{wide}", (2**9 * 31, 2**9, 7, 9), 0, 0, offset=2**40 + number * size_bytes)
                for number in range(LIMITS.tensors)
            ],
        ).header()
    )


# Name -> how to write it, and a word of the refusal ("" where it is a header that has to be read).
HEADERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a 500 MB header of long strings": (_long_strings, "more than any header holds"),
    "a 500 MB vocabulary": (lambda path: _words(path, 4_600_000, 100), "than"),
    "500 MB of empty strings": (
        lambda path: _write(path, _preamble(0, 1) + _array_head("k", gb.STRING, 62_000_000), size_bytes=500 * MB),
        "more than any header holds",
    ),
    "eight million empty strings": (
        lambda path: _write(path, _preamble(0, 1) + _array_head("k", gb.STRING, 8_000_000), size_bytes=65 * MB),
        "more than 4,194,304 strings",
    ),
    "four million empty strings": (
        lambda path: _write(path, _preamble(0, 1) + _array_head("k", gb.STRING, 4_000_000), size_bytes=65 * MB),
        "",
    ),
    "sixteen million empty strings": (
        lambda path: _write(path, _preamble(0, 1) + _array_head("k", gb.STRING, 16_000_000), size_bytes=129 * MB),
        "than",
    ),
    "a 500 MB array of numbers": (
        lambda path: _write(path, _preamble(0, 1) + _array_head("k", gb.UINT8, 500 * MB), size_bytes=501 * MB),
        "more than any header holds",
    ),
    "five million nested arrays": (lambda path: _nested(path, 5_000_000), "nests more than"),
    "arrays four million deep": (_deep, "deep"),
    "two million keys": (lambda path: _keys(path, 2_000_000, 100), "metadata keys"),
    "as many keys as are read": (lambda path: _keys(path, 8_192, 8_192), ""),
    "2**63 tensors": (lambda path: _tensors(path, 2**63, 1), "tensors"),
    "as many tensors as are read": (lambda path: _tensors(path, 49_152, 49_152), ""),
    "tensors one over the other": (lambda path: _tensors(path, 9_000, 9_000, offset=0), "begins within"),
    "a negative offset": (lambda path: _tensors(path, 1, 1, offset=2**64 - 32), "which no file reaches"),
    "an offset that overflows": (lambda path: _tensors(path, 1, 1, offset=2**63 - 32), "ends beyond"),
    "an extent that overflows": (lambda path: _tensors(path, 1, 1, extent=2**62), "more elements than can be counted"),
    "everything at its cap": (_everything, ""),
    "the largest real tokenizer": (_real_words, ""),
}

_CHILD = """
import json, sys, time
from pathlib import Path
from quants.errors import QuantsError
from quants.gguf import read_header
from quants.sources.resolve import resolve
from quants.sources.headers import read_headers
from tests.quants.ggufbytes import small_model

def resident(name):
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

kind, *places = sys.argv[1:]
read_header(small_model().data())
hub = None
if kind == "hub":
    from quants.hub.client import HubSettings
    endpoint, cache, *places = places
    hub = HubSettings(endpoint, Path(cache), backoff_s=0.001, timeout_s=60.0)
    read_headers(resolve("hf:acme/Small-GGUF", base_dir=Path.cwd(), hub=hub), hub=hub)
for place in places:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begun_s = resident("VmRSS"), time.process_time()
    refused = False
    try:
        if kind == "file":
            header = read_header(place)
            said = f"{len(header.metadata):,} keys and {len(header.tensors):,} tensors, {header.header_bytes:,} bytes"
        else:
            found = read_headers(resolve(place, base_dir=Path.cwd(), hub=hub), hub=hub)
            errors = [str(one.error) for one in found if one.error]
            refused = bool(errors)
            said = errors[0] if errors else f"{sum(len(one.header.tensors) for one in found):,} tensors"
    except QuantsError as error:
        refused, said = True, str(error)
    cpu_s = time.process_time() - begun_s
    print(json.dumps([said, refused, resident("VmHWM") - before, cpu_s]), flush=True)
    header = found = None
"""


def costs(kind: str, *places: str, timeout_s: float = 300.0) -> list[Cost]:
    """What reading costs, each in turn: a `file`, a `folder`, or on a `hub` (`on_a_hub` gives the first two places)."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, kind, *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise AssertionError(f"reading ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return [Cost(*json.loads(line)) for line in done.stdout.splitlines()]


@contextmanager
def on_a_hub(folder: Path, **repositories: dict[str, Path]) -> Iterator[list[str]]:
    """A local Hub with these repositories of `acme`; what to give to `costs` before their names."""
    with LocalHub(folder / "store") as hub:
        hub.add("acme/Small-GGUF", {"S-Q8_0.gguf": small_model().data()})
        for name, files in repositories.items():
            hub.add(f"acme/{name}", dict(files))
        yield [hub.endpoint, str(folder / "hf-cache")]


def split_set(folder: Path, count: int, tensors_each: int) -> None:
    """Shards that are each as large as is read."""
    for index in range(count):
        keys: list[tuple[str, int, object]] = [
            ("split.no", gb.UINT16, index),
            ("split.count", gb.UINT16, count),
            ("split.tensors.count", gb.INT32, count * tensors_each),
            ("general.architecture", gb.STRING, "llama"),
        ]
        tensors = [Tensor(f"blk.{index}.{number}", (32,), 8, 34) for number in range(tensors_each)]
        (folder / f"M-Q8_0-{index + 1:05d}-of-{count:05d}.gguf").write_bytes(GGUF(keys, tensors).data())


def main() -> None:
    """Print the table."""
    import tempfile

    print(f"{'header':34}{'from':8}{'peak MB':>9}{'CPU s':>7}  what was said")
    for title, (write, _) in HEADERS.items():
        with tempfile.TemporaryDirectory(prefix="quantsweep-headers-") as name:
            path = Path(name) / "M-Q8_0.gguf"
            write(path)
            _print(title, "file", *costs("file", str(path)))
            with on_a_hub(Path(name), Hostile={f"M-Q{bits}_0.gguf": path for bits in (4, 5, 8)}) as hub:
                _print("", "hub x3", *costs("hub", *hub, "hf:acme/Hostile"))
    with tempfile.TemporaryDirectory(prefix="quantsweep-headers-") as name:
        folder = Path(name) / "split"
        folder.mkdir()
        split_set(folder, 20, 40_000)
        _print("20 shards of 40,000 tensors", "folder", *costs("folder", str(folder)))
        with on_a_hub(Path(name), Hostile={path.name: path for path in folder.iterdir()}) as hub:
            _print("", "hub", *costs("hub", *hub, "hf:acme/Hostile"))


def _print(title: str, kind: str, found: Cost) -> None:
    print(f"{title:34}{kind:8}{found.peak_bytes / MB:9.1f}{found.cpu_s:7.2f}  {found.said[-110:]}", flush=True)


if __name__ == "__main__":
    main()
