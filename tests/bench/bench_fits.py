"""Benchmark of `quantsweep fits` over sixty quants: a folder, and a repository on a local Hub.

    python -m tests.bench.bench_fits

Headers are as large as real ones (150,000 tokens and merges, 693 tensors). The promise: under two seconds of our own
time (this process's; the local Hub runs in another), and at most twice the headers' bytes fetched.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from quants.fit.rows import FitsSettings
    from quants.hub.client import HubSettings

sys.path.insert(0, str(Path(__file__).parents[2]))

SHAPE = "qwen3.5-35b-a3b"
QUANTS = 60
TOKENS = 150_000


def make(folder: Path) -> int:
    """Write sixty header-only quants of one model; the bytes of all headers."""
    from tests.quants import fitmodels

    labels = list(fitmodels.MATRIX_TYPES)
    total = 0
    for number in range(QUANTS):
        label = labels[number % len(labels)]
        name = f"Qwen3.5-35B-A3B-{number // len(labels)}-{label}.gguf"
        keep_every = 1 + number // len(labels)
        file = fitmodels.model(SHAPE, label, vocabulary=TOKENS, note="x" * (64 + 32 * number), keep_every=keep_every)
        total += fitmodels.write_sparse(folder / name, file)
    return total


def serve(folder: Path, store: Path, pipe: Connection) -> None:
    """A local Hub with the folder as a repository, in a process of its own, until the pipe closes."""
    from tests.hubserver.server import LocalHub
    from tests.quants import fitmodels

    with LocalHub(store) as hub:
        fitmodels.publish(hub, "acme/M-GGUF", {path.name: path for path in folder.iterdir()})
        pipe.send(hub.endpoint)
        with contextlib.suppress(EOFError):
            pipe.recv()


def ask(source: str, settings: FitsSettings, hub: HubSettings | None = None) -> tuple[str, int]:
    """How long one answer took, in words, and the bytes fetched for it."""
    from quants.fit.table import fits
    from quants.fit.targets import by_size

    began, worked = time.perf_counter(), time.process_time()
    table = fits([source], [by_size("16"), by_size("32")], settings, hub=hub)
    took = f"{time.process_time() - worked:.2f} s of our own time, {time.perf_counter() - began:.2f} s in all"
    if len(table.rows) != QUANTS:
        raise SystemExit(f"{len(table.rows)} rows instead of {QUANTS}: {table.skipped[:2]}")
    return took, table.fetched_bytes


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        os.environ["XDG_CACHE_HOME"] = f"{work}/cache"  # nothing remembered from before, nothing left behind
        from quants.fit.rows import FitsSettings
        from quants.hub.client import HubSettings

        folder = Path(work, "models")
        folder.mkdir()
        header_bytes = make(folder)
        for title, settings in (("", FitsSettings()), (", --offload", FitsSettings(offload=True))):
            took, _ = ask(str(folder), settings)
            print(f"folder of {QUANTS} quants{title}: {took} ({header_bytes / 1e6:.0f} MB of headers)")
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(folder, Path(work, "store"), theirs))
        server.start()
        theirs.close()
        try:
            took, fetched = ask("hf:acme/M-GGUF", FitsSettings(), HubSettings(ours.recv(), Path(work, "hf-cache")))
        finally:
            ours.close()
            server.join()
    print(
        f"repository of {QUANTS} quants: {took}, {fetched / 1e6:.1f} MB fetched: "
        f"{fetched / header_bytes:.3f} of the headers' {header_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
