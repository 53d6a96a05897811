"""File systems that refuse: without hard links, full, without room for more files, or failing at any step."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from results import durable
from results.store import RunStore, StoreError
from tests.results.looking import names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import MakeRow


class TestNoHardLinks:
    @pytest.fixture(autouse=True)
    def without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

    def test_the_first_commit_still_wins_and_leaves_no_temporary_file(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            assert store.commit(row(reply="first"))
            assert not store.commit(row(reply="second"))
            assert [found["reply"] for found in store.rows()] == ["first"]
            assert not any(name.endswith(".tmp") for name in names(store.attempts_folder))

    def test_a_file_that_appears_in_between_is_not_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "x.parquet"
        publish = durable._publish

        def late(temporary: Path, where: Path) -> bool:
            where.write_bytes(b"theirs")
            return publish(temporary, where)

        monkeypatch.setattr(durable, "_publish", late)
        assert not durable.create_exclusive(target, b"ours")
        assert target.read_bytes() == b"theirs"


def test_a_temporary_file_cleaned_away_under_us_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, calls = durable._publish, []

    def cleaned_once(temporary: Path, target: Path) -> bool:
        calls.append(temporary)
        if len(calls) == 1:
            temporary.unlink()
        return publish(temporary, target)

    monkeypatch.setattr(durable, "_publish", cleaned_once)
    assert durable.create_exclusive(tmp_path / "x", b"data")
    assert (tmp_path / "x").read_bytes() == b"data"
    assert len(calls) == 2


@contextlib.contextmanager
def mounted(folder: Path, limit: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False, timeout=30).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 768 KiB, where we may mount one."""
    with mounted(tmp_path / "disk", "size=768k") as folder:
        yield folder


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    """A file system of at most 12 files and folders, where we may mount one."""
    with mounted(tmp_path / "disk", "nr_inodes=12") as folder:
        yield folder


class TestFullDisk:
    def test_it_is_said_loses_nothing_and_goes_on_when_there_is_room(self, small_disk: Path, row: MakeRow) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"\0" * 300_000)
        with RunStore(small_disk / "run") as store:
            with pytest.raises(StoreError) as caught:  # noqa: PT012 - which commit meets it is the disk's affair
                for number in range(200):
                    store.commit(row(job_id=f"j{number}"))
            done = len(store.committed())
            assert 0 < done < 200
            assert "No space left" in str(caught.value)
            assert f"What was committed before ({done} attempts) is safe" in str(caught.value)
            assert "start the same sweep again" in str(caught.value)
            with (small_disk / "rest").open("wb") as rest, contextlib.suppress(OSError):
                rest.write(b"\0" * 1_000_000)
            with pytest.raises(StoreError, match=r"cannot write .*attempts\.parquet"):
                store.compact()
        with RunStore(small_disk / "run") as store:
            assert len(store.committed()) == done
            assert not any(name.startswith(".") for name in names(store.attempts_folder))
            with pytest.raises(StoreError, match="No space left"):
                store.commit(row(job_id=f"j{done}"))
            ballast.unlink()
            assert store.commit(row(job_id=f"j{done}"))
        assert len(RunStore(small_disk / "run").committed()) == done + 1

    def test_a_disk_that_has_no_more_files_is_told_alike(self, few_files: Path, row: MakeRow) -> None:
        with RunStore(few_files / "run") as store:
            store.commit(row(job_id="before"))
            taken = []
            with contextlib.suppress(OSError):
                for number in range(100):
                    (few_files / f"x{number}").touch()
                    taken.append(few_files / f"x{number}")
            with pytest.raises(StoreError, match=r"No space left .* and no more files") as caught:
                store.commit(row(job_id="after"))
            assert "What was committed before (1 attempt) is safe" in str(caught.value)
            taken[0].unlink()
            assert store.commit(row(job_id="after"))
        assert len(RunStore(few_files / "run").committed()) == 2

    @pytest.mark.parametrize(
        ("step", "number"),
        [
            ("open", errno.ENOSPC),
            ("open", errno.EROFS),
            ("write", errno.EDQUOT),
            ("write", errno.EIO),
            ("fsync", errno.EIO),
        ],
    )
    def test_whatever_step_fails_nothing_is_lost_and_the_next_commit_goes_on(
        self, tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch, step: str, number: int
    ) -> None:
        def fail(*_: object, **__: object) -> int:
            raise OSError(number, os.strerror(number))

        with RunStore(tmp_path) as store:
            store.commit(row(job_id="before"))
            # One block: the step fails for this commit alone, and works again before anything else is asked of it.
            with monkeypatch.context() as context, pytest.raises(StoreError, match=os.strerror(number)):  # noqa: PT012
                context.setattr(os, step, fail)
                store.commit(row(job_id="after"))
            assert store.commit(row(job_id="after"))
            assert {found["job_id"] for found in store.rows()} == {"before", "after"}

    def test_a_limit_on_the_size_of_files_is_told_alike(self, tmp_path: Path, row: MakeRow) -> None:
        RunStore(tmp_path).commit(row(job_id="before"))
        code = f"""
            import resource
            from results.store import Attempt, RunStore, StoreError
            store = RunStore(__import__("pathlib").Path({str(tmp_path)!r}))
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))
            try:
                store.commit({row()!r})
            except StoreError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
        )
        assert "File too large" in done.stdout
        assert "What was committed before (1 attempt) is safe" in done.stdout
        assert RunStore(tmp_path).committed() == {("before", 1)}
