"""A new agent clears away what killed ones left, whatever stands in its way."""

from __future__ import annotations

import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from runners import leftovers
from runners.leftovers import clear_leftovers
from runners.sandbox.scratch import PREFIX
from runners.spool import state_dir

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The log and the scratch folder of an agent that is gone."""
    monkeypatch.setenv("QUANTSWEEP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    gone = subprocess.Popen(["/bin/sh", "-c", ":"])
    gone.wait()
    log = state_dir() / "logs" / "run" / f"c1-L1.{gone.pid}.log"
    log.parent.mkdir(parents=True)
    log.write_text("text")
    scratch = tmp_path / f"{PREFIX}left"
    scratch.mkdir()
    return [log, scratch]


def test_all_is_cleared(left: list[Path]) -> None:
    clear_leftovers()
    assert not [path for path in left if path.exists()]


def test_what_cannot_be_done_keeps_nothing_else_from_being_done(
    left: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("it went away meanwhile")

    monkeypatch.setattr(leftovers, "reap_orphans", broken)
    monkeypatch.setattr(leftovers, "clear_logs", broken)
    clear_leftovers()
    assert [path.exists() for path in left] == [True, False]


def test_nothing_to_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSWEEP_STATE", str(tmp_path / "nothing"))
    clear_leftovers()
    assert not (tmp_path / "nothing").exists()
