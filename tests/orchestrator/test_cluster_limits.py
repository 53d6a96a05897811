"""What is in Ray's way is said before Ray is started, and nothing is left behind."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.cluster import session
from orchestrator.cluster.connection import OBJECT_STORE_BYTES
from orchestrator.cluster.limits import LEAST_OPEN_FILES, check_limits
from orchestrator.errors import ClusterError

ROOT = Path(__file__).parents[2]

START = """
import os, resource, sys
from orchestrator.cluster import connect
from orchestrator.errors import ClusterError
{limit}
try:
    with connect(None):
        print("started")
except ClusterError as error:
    print(error)
    print("ray" in sys.modules)
"""


def started_with(limit: str) -> list[str]:
    """What a process under a limit is told that starts a cluster of its own."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(limit=limit)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("limit", "reason", "cure"),
    [
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))", "may have 24 open files", "ulimit -n"),
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (102400, 102400))", "102,400 bytes here at most", "ulimit -f"),
        ("os.umask(0o777)", "the umask 777 takes this user's own rights", "umask 022"),
    ],
)
def test_a_limit_that_is_in_the_way_is_told_before_ray_is_loaded(limit: str, reason: str, cure: str) -> None:
    message, hint, ray = started_with(limit)
    assert reason in message
    assert cure in hint
    assert ray == "False"


def test_shared_memory_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"none is not there, and Ray keeps its objects in it"):
        check_limits(OBJECT_STORE_BYTES, shared_memory=tmp_path / "none")
    if os.getuid():  # root may write to any folder; what is mounted read-only is refused to it as well
        tmp_path.chmod(0o500)
        with pytest.raises(ClusterError, match="cannot be written to"):
            check_limits(OBJECT_STORE_BYTES, shared_memory=tmp_path)
    monkeypatch.setattr("orchestrator.cluster.limits.os.access", lambda *_: False)
    with pytest.raises(ClusterError, match="cannot be written to, and Ray keeps its objects in it"):
        check_limits(OBJECT_STORE_BYTES, shared_memory=tmp_path)


@pytest.mark.parametrize("files", [LEAST_OPEN_FILES, 1024, resource.RLIM_INFINITY])
def test_what_a_machine_usually_allows_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: int) -> None:
    """A soft limit that is too low is no obstacle: Ray raises it."""
    unlimited = resource.RLIM_INFINITY
    limits = {resource.RLIMIT_NOFILE: (24, files), resource.RLIMIT_FSIZE: (unlimited, unlimited)}
    monkeypatch.setattr("orchestrator.cluster.limits.resource.getrlimit", limits.__getitem__)
    check_limits(OBJECT_STORE_BYTES, shared_memory=tmp_path)


def test_a_folder_that_cannot_be_ours_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(tempfile.mkdtemp(prefix="qst-", dir="/tmp"))
    before = os.umask(0o777)
    try:
        monkeypatch.setattr(session, "_bases", lambda: [base])
        with pytest.raises(ClusterError, match="no folder for Ray's session"), session.session_folder():
            pass
    finally:
        os.umask(before)
    assert list(base.iterdir()) == []
    shutil.rmtree(base)
