"""Writers that are really killed: no attempt is ever torn, there twice, or gone once it was acknowledged."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from results.durable import clean_leftovers
from results.reading import read_run
from results.store import RunStore

from .crashing_writer import FILES, MARKING, ROWS_BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import MakeRow

pytestmark = pytest.mark.fault

WRITER = Path(__file__).parent / "crashing_writer.py"
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WRITER), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )


def kill_everywhere(how: str, target: Path, when: str) -> int:
    """Runs the writer and kills it at its first durable step, its second, and so on until it survives; the steps."""
    for number in range(1, 60):
        target.write_bytes(b"old") if how == "replace" else target.unlink(missing_ok=True)
        writer = start("one_file", how, target, number, when)
        output, _ = writer.communicate(timeout=TIMEOUT_S)
        found = target.read_bytes() if target.exists() else None
        assert found in ({b"old", b"new" * 1000} if how == "replace" else {None, b"new" * 1000})
        assert all(path == target or path.name.endswith(".tmp") for path in target.parent.iterdir())
        clean_leftovers(target.parent)
        assert set(target.parent.iterdir()) <= {target}
        if "survived" in output:
            assert found == b"new" * 1000
            return number
    pytest.fail("it never survived")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["create", "replace"])
def test_killed_at_every_single_step_a_file_is_whole_or_not_there(tmp_path: Path, how: str, when: str) -> None:
    assert kill_everywhere(how, tmp_path / "x.parquet", when) > 5


def read_by_duckdb(folder: Path) -> list[tuple[str, int, bool]]:
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(f"SELECT job_id, attempt, final FROM '{folder}/attempts/*.parquet'").fetchall()


def read_by_duckdb_by_name(folder: Path) -> list[tuple[str, int, bool]]:
    import duckdb

    files = f"read_parquet(['{folder}/attempts/*.parquet'], union_by_name = true)"
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT job_id, attempt, final FROM {files}").fetchall()


def read_by_polars(folder: Path) -> list[tuple[str, int, bool]]:
    import polars as pl

    return pl.scan_parquet(f"{folder}/attempts/*.parquet").select("job_id", "attempt", "final").collect().rows()


def read_by_arrow(folder: Path) -> list[tuple[str, int, bool]]:
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder / "attempts").to_table(["job_id", "attempt", "final"])
    return [(row["job_id"], row["attempt"], row["final"]) for row in table.to_pylist()]


def read_by_us(folder: Path) -> list[tuple[str, int, bool]]:
    reading = read_run(folder, ["job_id", "attempt", "final"])
    assert reading.torn == ()
    return [(row["job_id"], row["attempt"], row["final"]) for row in reading.table.to_pylist()]


READERS = (read_by_duckdb, read_by_polars, read_by_arrow, read_by_us, read_by_duckdb_by_name)
"""All but one know nothing of us: they glob, at whatever moment."""


class Watch:
    """Reads a run all the while, by one reader after the other, and holds what they see against what is durable.

    Whatever was said to be committed before a reader began, it sees; no attempt twice, no job with two finals, and none
    without a final that had one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.durable: set[tuple[str, int]] = set()
        self.reads = 0
        self.failures: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stopped.wait(0.02):
            for reader in READERS:
                durable = set(self.durable)
                if durable:
                    try:
                        self.look(reader, durable)
                    except Exception as error:  # a thread's exception would be lost
                        self.failures.append(f"{reader.__name__}: {type(error).__name__}: {error}")

    def look(self, reader: Callable[[Path], list[tuple[str, int, bool]]], durable: set[tuple[str, int]]) -> None:
        rows = reader(self.folder)
        self.reads += 1
        keys = [row[:2] for row in rows]
        assert len(keys) == len(set(keys)), "an attempt is there twice"
        assert durable <= set(keys), f"not there: {durable - set(keys)}"
        finals = Counter(job_id for job_id, _, final in rows if final)
        assert set(finals.values()) == {1}, "a job has two finals"
        assert {job_id for job_id, _ in durable} <= set(finals), "a job has lost its final"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(TIMEOUT_S)


@pytest.mark.long
@pytest.mark.parametrize(
    ("rounds", "jobs"), [(8, 21), pytest.param(100, 240, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_killed_at_random_moments_a_sweep_ends_with_each_job_once(
    tmp_path: Path, row: MakeRow, rounds: int, jobs: int
) -> None:
    ends = []
    chance = random.Random(20261120)
    nursery = start("nursery", tmp_path, jobs, json.dumps(row()))
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    with Watch(tmp_path) as watch:
        for commits in [*(chance.randrange(2 * jobs // rounds) for _ in range(rounds)), 10 * jobs]:
            nursery.stdin.write(f"{commits} {chance.uniform(0, 0.015)}\n")
            nursery.stdin.flush()
            for line in nursery.stdout:
                job_id, _, attempt = line.strip().partition(" ")
                if job_id == "ended":
                    ends.append(int(attempt))
                    break
                if job_id != "done":
                    watch.durable.add((job_id, int(attempt)))
    nursery.communicate(timeout=TIMEOUT_S)
    assert watch.failures == []
    assert watch.reads >= len(READERS)
    assert set(ends) == {0, -signal.SIGKILL}
    assert ends[-1] == 0
    with RunStore(tmp_path) as store:
        assert store.quarantined == ()
        assert store.finals() == dict.fromkeys((f"j{number}" for number in range(jobs)), "model")
        assert len(store.committed()) == jobs + len(range(0, jobs, 3))
        assert not list(store.attempts_folder.glob(".*"))
        assert not list(tmp_path.glob(".*"))


@pytest.mark.long
def test_killed_at_every_single_step_of_a_commit_it_is_there_or_not(tmp_path: Path, row: MakeRow) -> None:
    """Whatever the commit does: begin a part, add to it, close it, or change one that is closed."""
    writer = start("commits", tmp_path, json.dumps(row()))
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    run, seen = tmp_path / "run", Counter[tuple[str, bool]]()
    for kind, before in ROWS_BEFORE.items():
        for step in range(1, 40):
            writer.stdin.write(f"{kind} {step}\n")
            writer.stdin.flush()
            survived = int(writer.stdout.readline()) == 0
            rows = read_by_us(run)
            committed = len(rows) > before
            seen[kind, committed] += 1
            assert len(rows) == len(set(rows)) == before + committed
            finals = Counter(job_id for job_id, _, final in rows if final)
            assert set(finals.values()) <= {1}
            assert len(finals) == (before if kind in MARKING else before + committed)
            with RunStore(run) as store:
                assert store.quarantined == ()
                assert len(store.committed()) == len(rows)
                assert not list(store.attempts_folder.glob(".*"))
                assert store.check() == ()  # no row names a file that is not there
            kept = {path.read_bytes() for path in (run / "files").glob("*")}
            assert kept <= set(FILES)  # whole, and nothing half written
            assert kept == set(FILES) or not (kind == "files" and committed)
            if survived:
                assert committed
                break
        else:
            pytest.fail("it never survived")
    writer.communicate(timeout=TIMEOUT_S)
    assert all(seen[kind, committed] for kind in ROWS_BEFORE for committed in (True, False))


def test_writers_that_die_hand_over_to_the_next_and_no_attempt_is_lost_or_doubled(tmp_path: Path, row: MakeRow) -> None:
    jobs = 40
    names = ["one", "two", "three"]
    writers = {name: start("relay", tmp_path, jobs, json.dumps(row()), name) for name in names}
    wrote = {name: set(writer.communicate(timeout=TIMEOUT_S)[0].split()) for name, writer in writers.items()}
    assert [writer.returncode for writer in writers.values()] == [-signal.SIGKILL] * 3
    assert sum(map(len, wrote.values())) == jobs
    replies = {found["job_id"]: found["reply"] for found in RunStore(tmp_path).rows()}
    assert replies == {job_id: name for name in names for job_id in wrote[name]}
