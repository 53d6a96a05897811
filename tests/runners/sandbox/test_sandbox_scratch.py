"""Scratch folders are gone after their work, and after the death of whoever worked in them."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runners.sandbox.scratch import PREFIX, Scratch, collect

ROOT = Path(__file__).parents[3]
WORKER = """
import os, sys
from runners.sandbox.scratch import Scratch
folder = Scratch()
(folder.path / "half").mkdir()
(folder.path / "half" / "done").write_text("text")
os.chmod(folder.path / "half", 0)
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_gone_afterwards(tmp_path: Path) -> None:
    with Scratch() as folder:
        (folder.path / "file").write_text("text")
        assert folder.path.parent == tmp_path
        assert folder.path.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())
    folder.remove()


def test_collects_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with worker:
        assert worker.stdout is not None
        left = Path(worker.stdout.readline().strip())
        others = [tmp_path / f"{PREFIX}file", tmp_path / "quantsweep-other"]
        others[0].write_text("not a folder")
        others[1].mkdir()
        with Scratch() as mine:
            assert collect() == []
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            assert left.exists()
            assert collect() == [left]
            assert mine.path.exists()
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_collects_nothing_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "file").write_text("text")
    (tmp_path / f"{PREFIX}link").symlink_to(target)
    assert collect() == []
    assert (target / "file").exists()
