"""A run folder that is deleted, moved or made anew while a sweep runs: nobody says that what was in it is kept."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from results.reading import read_run
from results.store import RunStore, StoreError

if TYPE_CHECKING:
    from .conftest import MakeRow

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from results.store import RunStore
with RunStore(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path, row: MakeRow) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match=rf"its results are being written by process {holder.pid} on "):
        RunStore(tmp_path)
    assert read_run(tmp_path).table.num_rows == 0
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    with RunStore(tmp_path) as store:
        assert store.commit(row())


@pytest.mark.parametrize("what", ["run", "run/attempts"])
@pytest.mark.parametrize("anew", [False, True])
def test_a_folder_that_was_deleted_is_said_to_be_lost(tmp_path: Path, row: MakeRow, what: str, anew: bool) -> None:
    folder = tmp_path / "run"
    with RunStore(folder) as store:
        store.commit_many([row(job_id="a"), row(job_id="b")])
        shutil.rmtree(tmp_path / what)
        if anew:
            (folder / "attempts").mkdir(parents=True)
        for act in (lambda: store.commit(row(job_id="c")), store.check):
            with pytest.raises(StoreError) as caught:
                act()
            assert "this folder was deleted while the sweep ran, and 2 attempts committed before are lost" in str(
                caught.value
            )
            assert "kept" not in str(caught.value)
            assert "safe" not in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_folder_that_was_moved_is_said_to_be_elsewhere(tmp_path: Path, row: MakeRow) -> None:
    folder = tmp_path / "run"
    with RunStore(folder) as store:
        store.commit(row())
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match=rf"was moved to {tmp_path}/elsewhere/attempts .* 1 attempt .* is there"):
            store.commit(row(job_id="b"))
        (tmp_path / "elsewhere").rename(folder)
        assert store.commit(row(job_id="b"))
    assert len(RunStore(folder).committed()) == 2


def test_files_that_were_deleted_are_forgotten_when_somebody_looks(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit_many([row(job_id=f"j{number}") for number in range(48 * 6)])
        for path in store.attempts_folder.iterdir():
            path.unlink()
        lost = store.check()
        # Those in memory are written anew.
        assert len(lost) * 48 + len(store.finals()) == 48 * 6
        assert lost
        assert read_run(tmp_path).table.num_rows == len(store.finals())
