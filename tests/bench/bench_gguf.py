"""Benchmarks of header reading: against `gguf.GGUFReader`, and over a folder and a repository of 60 quants.

    python -m tests.bench.bench_gguf

Prints ratios within one run, which is what may be compared: absolute times depend on the machine.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENS = 150_000
QUANTS = 60
TENSOR_COUNT = 400


def note(index: int) -> tuple[str, int, str]:
    """What makes the headers of one model's quants differ; whole alignments apart, so that data stays where it is."""
    from tests.quants import ggufbytes as gb

    return ("quantize.imatrix.file", gb.STRING, "x" * (64 + 32 * index))


@cache
def first_model() -> bytes:
    """The header of a Qwen3-sized file: 150,000 tokens with types, 150,000 merges, 400 tensors, and a little data."""
    from tests.quants import ggufbytes as gb
    from tests.quants.ggufbytes import Array, Tensor, small_model

    extra = [
        ("tokenizer.ggml.token_type", gb.ARRAY, Array(gb.INT32, [1] * TOKENS)),
        ("tokenizer.ggml.merges", gb.ARRAY, Array(gb.STRING, [f"a{number} b" for number in range(TOKENS)])),
        note(0),
    ]
    tensors = [Tensor(f"blk.{number}.ffn_up.weight", (256, 64), 12, 64 * 144) for number in range(TENSOR_COUNT)]
    return small_model(tokens=TOKENS, extra=extra, tensors=tensors, file_type=10).data()


def model(index: int) -> bytes:
    """The same with a note of its own."""
    from tests.quants.ggufbytes import GGUF

    return first_model().replace(GGUF().string(note(0)[2]), GGUF().string(note(index)[2]))


def median_s(action: Callable[[], object], times: int) -> float:
    """The median wall time of `action` in seconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def against_gguf_reader(folder: Path) -> None:
    """One header, read by both."""
    import gguf

    from quants.gguf import read_header

    path = folder / "one.gguf"
    path.write_bytes(model(0))
    ours_s = median_s(lambda: read_header(path), 9)
    theirs_s = median_s(lambda: gguf.GGUFReader(path), 1)
    print(
        f"header with {TOKENS:,} tokens ({read_header(path).header_bytes / 1e6:.1f} MB): "
        f"ours {ours_s * 1e3:.1f} ms, gguf.GGUFReader {theirs_s * 1e3:.0f} ms, ratio {theirs_s / ours_s:.0f}x"
    )


def folder_of_quants(folder: Path) -> None:
    """Sixty quants of one model in a folder: listing, then all headers."""
    from quants.sources.headers import read_headers
    from quants.sources.resolve import resolve

    for index in range(QUANTS):
        (folder / f"M{index:02d}-Q4_K_M.gguf").write_bytes(model(index))
    start = time.perf_counter()
    listing = resolve(".", base_dir=folder)
    listed_s = time.perf_counter() - start
    found = read_headers(listing)
    total_s = time.perf_counter() - start
    assert all(result.header for result in found)
    print(f"folder of {QUANTS} quants: listed and checked in {listed_s:.2f} s, with all headers {total_s:.2f} s")


def repository_of_quants(folder: Path) -> None:
    """Sixty quants of one model on the local test Hub: bytes fetched against bytes of header, and our own time."""
    from quants.hub.client import HubSettings
    from quants.sources.headers import read_headers
    from quants.sources.resolve import resolve
    from tests.hubserver.server import LocalHub

    with LocalHub(folder / "store") as hub:
        hub.add("acme/M-GGUF", {f"M{index:02d}-Q4_K_M.gguf": model(index) for index in range(QUANTS)})
        settings = HubSettings(hub.endpoint, folder / "hf-cache")
        start, start_cpu = time.perf_counter(), time.process_time()
        listing = resolve("hf:acme/M-GGUF", base_dir=folder, hub=settings)
        found = read_headers(listing, hub=settings)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
        header_bytes = sum(result.header.header_bytes for result in found if result.header)
        fetched_bytes = sum(result.fetched_bytes for result in found)
        assert fetched_bytes == hub.file_bytes_sent()
        print(
            f"repository of {QUANTS} quants: {wall_s:.2f} s ({cpu_s:.2f} s of CPU, the server's included), "
            f"{fetched_bytes / 1e6:.1f} MB fetched for {header_bytes / 1e6:.1f} MB of headers, "
            f"ratio {fetched_bytes / header_bytes:.3f}"
        )


def main() -> None:
    """Run all three."""
    with tempfile.TemporaryDirectory(prefix="quantsweep-bench-") as name:
        os.environ["XDG_CACHE_HOME"] = str(Path(name) / "cache")
        for index, bench in enumerate((against_gguf_reader, folder_of_quants, repository_of_quants)):
            folder = Path(name) / str(index)
            folder.mkdir()
            bench(folder)


if __name__ == "__main__":
    main()
