"""The run folder: who may use it, and what it refuses."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import RunFolderError
from orchestrator.rundir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from orchestrator.rundir import RunDir
with RunDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_told_who_has_the_folder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match=f"process {holder.pid} on "), RunDir(tmp_path).locked():
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with RunDir(tmp_path).locked():
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"not empty \(thesis\.tex\)"):
        RunDir(tmp_path).create()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be used as a run folder"):
        RunDir(tmp_path / "file" / "run").create()


def test_what_was_begun_is_read_back(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create()
    assert not folder.exists()
    run_id = folder.begin(spec_text="name='x'", spec_digest="d", plan_json='{"jobs": [{}, {}]}', version="1")
    assert folder.exists()
    identity = {"run_id": run_id, "spec_digest": "d", "quantsweep_version": "1", "jobs": 2}
    identity["plan_sha256"] = hashlib.sha256(b'{"jobs": [{}, {}]}').hexdigest()
    assert folder.read_identity() == identity
    folder.plan.unlink()
    assert folder.jobs_planned() == 2
    folder.create()


def test_a_damaged_identity_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunFolderError, match=r"run\.json"):
        RunDir(tmp_path).read_identity()
    with pytest.raises(RunFolderError, match="no run folder"):
        RunDir(tmp_path / "nothing").read_identity()


def test_the_jobs_of_a_run_of_an_earlier_version_are_counted_in_its_plan(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    assert folder.jobs_planned() is None
    folder.identity.write_text('{"run_id": "r", "spec_digest": "d"}')
    folder.plan.write_text('{"jobs": [{}, {}, {}]}')
    assert folder.jobs_planned() == 3


def test_a_plan_or_an_identity_that_is_nested_without_end_is_damage(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    folder.plan.write_text("[" * 200_000)
    folder.identity.write_text("[" * 200_000)
    assert folder.jobs_planned() is None
    with pytest.raises(RunFolderError, match="cannot be read"):
        folder.read_identity()


@pytest.mark.parametrize("there", [("spec.toml",), ("spec.toml", "plan.json"), ("spec.toml", "plan.json", "logs")])
def test_what_a_killed_beginning_left_is_begun_again(tmp_path: Path, there: tuple[str, ...]) -> None:
    for name in there:
        (tmp_path / name).mkdir() if name == "logs" else (tmp_path / name).write_text("half")
    folder = RunDir(tmp_path)
    folder.create()
    with folder.locked():
        run_id = folder.begin(spec_text="s", spec_digest="d", plan_json='{"jobs": []}', version="1")
    assert folder.read_identity()["run_id"] == run_id
    assert folder.spec.read_text() == "s"


def test_a_lock_that_cannot_name_its_holder_holds_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", no_room)
    with RunDir(tmp_path).locked(), pytest.raises(RunFolderError, match="is alive"), RunDir(tmp_path).locked():
        pass


def test_a_run_that_was_not_begun_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "runs" / "demo")
    made = folder.create()
    assert made == [tmp_path / "runs", folder.root]
    with folder.locked():
        folder.discard(made)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_users_own_and_what_is_begun_stay(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    made = folder.create()
    assert made == []
    with folder.locked():
        folder.discard(made)
    assert list(tmp_path.iterdir()) == []
    with folder.locked():
        folder.begin(spec_text="s", spec_digest="d", plan_json='{"jobs": []}', version="1")
        folder.discard(made)
        assert folder.exists()
        assert folder.lock_file.exists()


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another start opens the lock, and before it locks it the first one removes it: it must not hold what is gone."""
    folder, real = RunDir(tmp_path), fcntl.flock
    removed: list[bool] = []

    def removes_first(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(True)
            folder.lock_file.unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removes_first)
    with folder.locked(), pytest.raises(RunFolderError, match="is alive"), folder.locked():
        pass
    assert removed
