"""Writers that are really killed: no attempt is ever torn, there twice, or gone once it was acknowledged."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from results.durable import clean_leftovers
from results.reading import read_run
from results.store import RunStore

if TYPE_CHECKING:
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


def counts_of(folder: Path) -> tuple[int, int]:
    """Attempts, and different attempts, as a reader that knows nothing of us sees them."""
    import duckdb

    query = f"SELECT count(*), count(DISTINCT (job_id, attempt)) FROM '{folder}/attempts/*.parquet'"
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    return found[0], found[1]


def test_killed_at_random_moments_a_sweep_ends_with_each_job_once(tmp_path: Path, row: MakeRow) -> None:
    jobs, acknowledged, ends = 36, set(), []
    chance = random.Random(20261120)
    nursery = start("nursery", tmp_path, jobs, json.dumps(row()))
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    for delay in [*(chance.uniform(0, 0.012) for _ in range(12)), "never"]:
        nursery.stdin.write(f"{delay}\n")
        nursery.stdin.flush()
        for line in nursery.stdout:
            job_id, _, attempt = line.strip().partition(" ")
            if job_id == "ended":
                ends.append(int(attempt))
                break
            if job_id != "done":
                acknowledged.add((job_id, int(attempt)))
        reading = read_run(tmp_path)
        assert reading.torn == ()
        attempts = Counter(zip(reading.table["job_id"].to_pylist(), reading.table["attempt"].to_pylist(), strict=True))
        assert acknowledged <= set(attempts)
        assert set(attempts.values()) <= {1}
        finals = Counter(found["job_id"] for found in reading.table.to_pylist() if found["final"])
        assert set(finals.values()) <= {1}
        if attempts:
            assert counts_of(tmp_path) == (len(attempts), len(attempts))
    nursery.communicate(timeout=TIMEOUT_S)
    assert set(ends) == {0, -signal.SIGKILL}
    assert ends[-1] == 0
    store = RunStore(tmp_path)
    assert store.finals() == dict.fromkeys((f"j{number}" for number in range(jobs)), "model")
    assert len(store.committed()) == jobs + len(range(0, jobs, 3))
    assert not list(store.attempts_folder.glob(".*"))
    assert not list(tmp_path.glob(".*"))


def test_of_rivals_for_the_same_attempts_exactly_one_wins_each(tmp_path: Path, row: MakeRow) -> None:
    jobs = 40
    names = ["one", "two", "three"]
    writers = {name: start("race", tmp_path, jobs, json.dumps(row()), name) for name in names}
    for writer in writers.values():
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers.values():
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = {name: set(writer.communicate(timeout=TIMEOUT_S)[0].split()) for name, writer in writers.items()}
    assert [writer.returncode for writer in writers.values()] == [0, 0, 0]
    assert sum(map(len, won.values())) == jobs
    replies = {found["job_id"]: found["reply"] for found in RunStore(tmp_path).rows()}
    assert replies == {job_id: name for name in names for job_id in won[name]}


def test_a_reader_beside_a_writer_always_reads_whole_attempts(tmp_path: Path, row: MakeRow) -> None:
    RunStore(tmp_path).commit(row(job_id="before"))
    writer = start("sweep", tmp_path, 40, json.dumps(row()))
    reads, seen = 0, 0
    while writer.poll() is None:
        reading = read_run(tmp_path)
        assert reading.torn == ()
        assert reading.table.num_rows >= seen
        seen = reading.table.num_rows
        attempts, different = counts_of(tmp_path)
        assert attempts == different >= seen
        reads += 1
    assert writer.communicate(timeout=TIMEOUT_S)[0].endswith("done\n")
    assert writer.returncode == 0
    assert reads > 0
