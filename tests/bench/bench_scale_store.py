"""What a run costs as it grows: a commit, opening it again, `quantsweep show`, and the README's three lines.

For each size a run of that many attempts, in cells of 100, with replies and reasoning of 4 to 40 kB a row and the same
prompt and chat template of 15 kB, is laid down part by part. Then rows are committed one by one with that many before
them, and each reader reads it in a process of its own. The aim at 100,000: a commit under 15 ms, flat; everything else
under 10 s and 1 GiB. Usage:

    python -m tests.bench.bench_scale_store [--sizes 1000 10000 30000 100000] [--commits 500] [--folder DIR]

100,000 attempts take about 1.2 GB of disk and a few minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.journal import Journal
from results.columnar import as_table
from results.describe import READERS
from results.parts import MOST_ROWS, Part
from results.reading import ATTEMPTS_FOLDER, part_name
from results.rows import complete_row
from results.store import RunStore
from tests.results.conftest import make_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
PER_CELL = 100
QUANTS = 10
DIFFERENT = 480
"""So many different rows: making a text takes longer than committing it."""

OPEN = """
import sys
from pathlib import Path
from orchestrator.journal import read_journal
from results.store import RunStore
folder = Path(sys.argv[1])
with RunStore(folder) as store:
    print(sum(1 for _ in store.attempts()), len(store.finals()), sum(1 for _ in read_journal(folder / "journal.jsonl")))
"""


MEASURED = """
import atexit, runpy, sys
from pathlib import Path
status = Path("/proc/self/status")
atexit.register(lambda: print(status.read_text().split("VmHWM:")[1].split()[0], file=sys.stderr))
code, *sys.argv = sys.argv[1:]
exec(compile(code, "code", "exec"))
"""
"""Says on standard error the peak of resident memory of some code, in KiB.

Of `wait4`'s figures that is the one that does not help: it is never below that of the process that started it.
"""


@dataclass(frozen=True)
class Cost:
    """What a process took: wall and processor seconds, peak resident MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float

    def cells(self) -> tuple[str, str]:
        """As they stand in the table."""
        return f"{self.wall_s:.1f} ({self.cpu_s:.1f})", f"{self.peak_mib:.0f}"


@dataclass
class Size:
    """What was measured at one size; commits in ms, by the clock and by the processor's."""

    attempts: int
    commits_ms: list[tuple[float, float]] = field(default_factory=list)
    files: int = 0
    disk_mb: float = 0
    readers: dict[str, Cost] = field(default_factory=dict)


def text(chance: random.Random, words: Sequence[str], size: int) -> str:
    """About `size` characters of words, some of them much more frequent than others, as in a language."""
    found = []
    while size > 0:
        word = words[int(len(words) * chance.random() ** 3)]
        found.append(word)
        size -= len(word) + 1
    return " ".join(found)


def rows_like_those_of_a_sweep(count: int) -> list[dict[str, Any]]:
    """Complete rows: every column that a sweep fills is filled, with texts of 4 to 40 kB."""
    chance = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(4000)]
    asked = {"prompt": text(chance, words, 5_000), "chat_template": text(chance, words, 10_000)}
    found = []
    for _ in range(count):
        size = chance.randint(4_000, 40_000)
        row = make_row(
            reply=text(chance, words, size // 4),
            reasoning=text(chance, words, size * 3 // 4),
            grader_log=text(chance, words, 400),
            sampling='{"temperature":0.7,"max_tokens":8192}',
            repo="somebody/some-model-GGUF",
            revision="0123456789abcdef" * 2 + "01234567",
            file_paths=["some-model-Q4_K_M.gguf"],
            file_sha256="0123456789abcdef" * 4,
            engine_build="b7000",
            engine_settings='{"kind":"embedded","context":32768,"flash_attention":"auto"}',
            context=32768,
            load_mode="mmap",
            prompt_tokens=400,
            reasoning_tokens=size * 3 // 16,
            answer_tokens=size // 16,
            token_count_source="server",
            prefill_tps=chance.uniform(500, 900),
            decode_tps=chance.uniform(20, 60),
            itl_p50_s=chance.uniform(0.01, 0.05),
            e2e_s=chance.uniform(10, 300),
            finish_reason="stop",
            events='{"chunks": 900}',
            **asked,
            **{f"{name}_sha256": "0123456789abcdef" * 4 for name in asked},
            grade_items='[{"item":"adds","points":10},{"item":"removes","points":20}]',
            device="GPU0",
            peak_vram_bytes=chance.randrange(10**10),
            score=float(chance.randint(0, 100)),
            ended_at="2026-11-20T10:05:00Z",
            quantsweep_version="0.1.0",
            null_reasons='{"energy_j":"no counter"}',
        )
        found.append(complete_row(row))
    return found


def named(row: dict[str, Any], number: int) -> dict[str, Any]:
    """`row` as the `number`th of a sweep of many cells."""
    cell = number // PER_CELL
    return row | {
        "job_id": f"j1-{number:032x}",
        "model": f"model-{cell // QUANTS:03d}",
        "quant": f"Q{cell % QUANTS}_K",
        "file_bytes": (1 + cell % QUANTS) * 10**9,
        "seed": number % PER_CELL + 1,
    }


def lay_down(folder: Path, attempts: int, rows: list[dict[str, Any]]) -> None:
    """A run of so many attempts, and its journal, as a sweep would have left them."""
    (folder / ATTEMPTS_FOLDER).mkdir(parents=True)
    for part, first in enumerate(range(0, attempts, MOST_ROWS), start=1):
        numbers = range(first, min(first + MOST_ROWS, attempts))
        table = as_table([named(rows[number % len(rows)], number) for number in numbers])
        path = folder / ATTEMPTS_FOLDER / part_name(part, f"{part:08x}")
        Part(path).rewrite(table, closed=True)
    with Journal(folder / "journal.jsonl") as journal:
        for number in range(attempts):
            job: dict[str, Any] = {"job_id": f"j1-{number:032x}", "attempt": 1, "lease_id": f"L{number // PER_CELL}"}
            journal.append("assigned", **job)
            journal.append("committed", **job, final=True, outcome="passed", outcome_class="model", new=True)


def commit(folder: Path, first: int, rows: list[dict[str, Any]], count: int) -> list[tuple[float, float]]:
    """Milliseconds of each of `count` commits of one row, by the clock and by the processor's."""
    found = []
    with RunStore(folder) as store:
        for number in range(first, first + count):
            row = named(rows[number % len(rows)], number)
            began = time.perf_counter(), time.process_time()
            if not store.commit(row):
                raise SystemExit("it was there already")
            found.append(((time.perf_counter() - began[0]) * 1000, (time.process_time() - began[1]) * 1000))
    return found


def cost(code: str, folder: Path, *arguments: str) -> Cost:
    """What it takes to run Python code in a process of its own, from `folder`."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURED, code, "quantsweep", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if process.stderr is None:
        raise LookupError
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"{code}: {said}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, int(said.split()[-1]) / 1024)


def measure(folder: Path, attempts: int, commits: int, rows: list[dict[str, Any]]) -> Size:
    """Everything about one size; `folder` is emptied."""
    run = folder / "runs" / "quickstart"
    shutil.rmtree(folder, ignore_errors=True)
    run.mkdir(parents=True)
    lay_down(run, attempts, rows)
    size = Size(attempts, commit(run, attempts, rows, commits))
    files = list((run / ATTEMPTS_FOLDER).iterdir())
    size.files, size.disk_mb = len(files), sum(path.stat().st_blocks * 512 for path in files) / 1e6
    size.readers["open"] = cost(OPEN, folder, str(run))
    size.readers["show"] = cost("runpy.run_module('orchestrator', run_name='__main__')", folder, "show", str(run))
    for name, line in READERS.items():
        size.readers[name] = cost(line, folder)
    return size


def table(sizes: Sequence[Size]) -> Iterator[str]:
    """The lines of the table."""
    readers = list(sizes[0].readers)
    yield (
        "| attempts | commit ms (CPU): median | p99 | first 100 | last 100 | files | MB | "
        + " | ".join(f"{name} s (CPU) | MiB" for name in readers)
        + " |"
    )
    yield "|---" * (7 + 2 * len(readers)) + "|"
    for size in sizes:
        spent = size.commits_ms
        figures = [
            f"{size.attempts:,}",
            *(
                _at(share, part)
                for share, part in ((0.5, spent), (0.99, spent), (0.5, spent[:100]), (0.5, spent[-100:]))
            ),
            f"{size.files:,}",
            f"{size.disk_mb:,.0f}",
            *(cell for name in readers for cell in size.readers[name].cells()),
        ]
        yield "| " + " | ".join(figures) + " |"


def _at(share: float, spent: Sequence[tuple[float, float]]) -> str:
    wall, cpu = (sorted(values)[int(len(spent) * share)] for values in zip(*spent, strict=True))
    return f"{wall:.1f} ({cpu:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 30_000, 100_000])
    parser.add_argument("--commits", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        rows = rows_like_those_of_a_sweep(DIFFERENT)
        sizes = [measure(Path(scratch) / "work", attempts, options.commits, rows) for attempts in options.sizes]
    print(*table(sizes), sep="\n")
    print(f"{os.cpu_count()} processors, load {load:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
