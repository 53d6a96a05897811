"""The folder of a Ray session: ours alone, short, removed at the end, collected when its driver was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from orchestrator.cluster import environment, session
from orchestrator.cluster.janitor import MARK
from orchestrator.cluster.session import PREFIX, session_folder
from orchestrator.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder for temporary files, which pytest's is not."""
    folder = Path(tempfile.mkdtemp(prefix="qst-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def left(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


def test_nobody_else_gets_in_whatever_ray_allows(base: Path) -> None:
    with session_folder() as folder:
        folder.chmod(0o777)  # as Ray does
        assert folder.parent.parent == base
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        longest = folder / "session_2026-11-21_12-24-30_132940_4194304" / "sockets" / "plasma_store"
        assert len(bytes(longest)) <= 107
        (folder / "session").mkdir()
        (folder / "session_latest").symlink_to("session")
    assert left(base) == []


DRIVER = """
import sys
from orchestrator.cluster.session import session_folder
with session_folder() as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


def driver() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_drivers_folder_goes_and_what_carries_its_mark(base: Path) -> None:
    process, folder = driver()
    helper = subprocess.Popen(["sleep", "60"], env={MARK: str(folder)})
    other = subprocess.Popen(["sleep", "60"], env={MARK: f"{folder}x"})
    # Ray's own helpers write their title over their environment; an open log tells whose they are.
    titled = (
        "import ctypes, time; ctypes.CDLL(None).prctl(15, b'ray::Helper', 0, 0, 0); print(flush=True); time.sleep(60)"
    )
    logs = [(folder / "session" / "helper.log").open("w"), (base / "another.log").open("w")]
    ray, others_ray = (
        subprocess.Popen([sys.executable, "-c", titled], env={}, stdout=subprocess.PIPE, stderr=log) for log in logs
    )
    for each in (ray, others_ray):
        assert each.stdout is not None
        assert each.stdout.readline() == b"\n"
    process.kill()
    process.communicate()
    assert folder.exists()
    assert helper.wait(30) == -signal.SIGKILL
    assert ray.wait(30) == -signal.SIGKILL
    (base / "another.log").unlink()
    until(lambda: not left(base))
    for each in (other, others_ray):
        assert each.poll() is None
        each.kill()
        each.wait()
    for log in logs:
        log.close()
    for each in (ray, others_ray):
        if each.stdout is not None:
            each.stdout.close()


def test_what_a_driver_left_that_was_killed_with_its_janitor_is_collected(base: Path) -> None:
    """And what a live one has is not."""
    (dead, theirs), (alive, others) = driver(), driver()
    (janitor,) = psutil.Process(dead.pid).children()
    janitor.kill()
    dead.kill()
    dead.communicate()
    until(lambda: not janitor.is_running() or janitor.status() == psutil.STATUS_ZOMBIE)
    assert theirs.exists()
    with session_folder() as mine:
        assert left(base) == sorted(folder.parent.name for folder in (others, mine))
    assert others.exists()
    alive.communicate()
    assert left(base) == []


def test_what_is_not_ours_is_left_alone(base: Path, tmp_path: Path) -> None:
    """A link, a folder that others could have filled, one with other things in it, and a file, all of that name."""
    target = tmp_path / "precious"
    target.mkdir(mode=0o700)
    (target / "r").mkdir()
    (base / f"{PREFIX}linked").symlink_to(target)
    (base / f"{PREFIX}shared1").mkdir()
    (base / f"{PREFIX}shared1").chmod(0o755)
    (base / f"{PREFIX}papers1").mkdir(mode=0o700)
    (base / f"{PREFIX}papers1" / "thesis").write_text("unfinished")
    (base / f"{PREFIX}afile01").write_text("")
    before = left(base)
    with session_folder():
        pass
    assert left(base) == before
    assert (target / "r").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_where_others_may_rename_is_not_used(base: Path, mode: int) -> None:
    base.chmod(mode)
    with session_folder() as folder:
        assert base not in folder.parents
    base.chmod(mode | 0o1000)
    with session_folder() as folder:
        assert base in folder.parents, "with the sticky bit they may not"


def test_a_long_path_is_passed_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base / ("d" * 60)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("TMPDIR", str(deep))
    with session_folder() as folder:
        assert deep not in folder.parents
        assert len(bytes(folder)) <= 43


def test_without_any_place_it_is_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_bases", lambda: [base / "gone"])
    with pytest.raises(ClusterError, match="no folder for Ray's session could be made") as caught, session_folder():
        pass
    assert "TMPDIR" in (caught.value.hint or "")


def test_a_janitor_that_cannot_be_started_is_said_and_leaves_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ClusterError, match="/no/such/python: No such file or directory"), session_folder():
        pass
    assert left(base) == []


def test_a_folder_that_was_taken_while_it_was_made_is_not_used(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another driver may take the new folder, not locked yet, for a dead one's and remove it."""
    really = tempfile.mkdtemp
    made: list[str] = []

    def raced(prefix: str, dir: Path) -> str:  # noqa: A002 - as tempfile has it
        made.append(really(prefix=prefix, dir=dir))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", raced)
    with session_folder() as folder:
        assert str(folder.parent) == made[1]


# --- the token -------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(base))
    (base / ".ray").mkdir(mode=0o755)
    return base


def test_a_token_that_others_can_read_is_refused(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    assert environment.token_source() is None
    file.write_text("f" * 64)
    file.chmod(0o644)
    assert environment.token_source() == f"in {file}", "its home is mode 700"
    home.chmod(0o755)
    with pytest.raises(ClusterError, match="other users of this machine can read the token") as caught:
        environment.token_source()
    assert caught.value.hint == f"chmod 600 {file}"
    file.chmod(0o600)
    assert environment.token_source() == f"in {file}"


def test_where_the_token_is_looked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "nowhere"))
    with pytest.raises(ClusterError, match="named by RAY_AUTH_TOKEN_PATH, is not there"):
        environment.token_source()
    (home / "nowhere").write_text("\n")
    (home / "nowhere").chmod(0o600)
    assert environment.token_source() is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f")
    assert environment.token_source() == "in RAY_AUTH_TOKEN"


@pytest.mark.parametrize("theirs", ["disabled", "token"])
def test_a_cluster_of_our_own_has_a_token_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, theirs: str
) -> None:
    """Whatever the environment says: with the cluster's or the user's token, others could have it too."""
    for name in tuple(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", theirs)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "known")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/known")
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with monkeypatch.context() as kept:
        kept.setattr(os, "environ", dict(os.environ))
        environment.prepare_for_own_cluster(tmp_path)
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert "RAY_AUTH_TOKEN_PATH" not in os.environ
        assert "RAY_ADDRESS" not in os.environ
        assert {name: value for name, value in os.environ.items() if "memory_monitor" in name}.popitem()[1] == "0"
