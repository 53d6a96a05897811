"""Files that a grader returns: bounded and inert, on the spool with their row, and told with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners import files
from runners.errors import RunnersError
from runners.files import FileRefusedError, GradedFile, contents_of, files_json, named_in, split
from runners.rowcheck import problems_of, sound
from runners.spool import Spool
from tests.runners.test_grading import FULL, Desk
from tests.runners.test_rowcheck import GRADED, IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runners.exams.base import Grade

PICTURE = GradedFile("picture.png", "image/png", b"\x89PNG\n\n\x00")
LOG = GradedFile("log.txt", "text/plain", b"one\ntwo\n")
COPY = GradedFile("copy.txt", "text/plain", LOG.data)
EMPTY = GradedFile("empty.txt", "text/plain", b"")
ALL = (PICTURE, LOG, COPY, EMPTY)


def row_with(*found: GradedFile, **changes: Any) -> dict[str, Any]:
    return {**GRADED, "files": files_json(found), **changes}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "spool")
    yield made
    assert made.grader.close(10)


# --- what may be kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\\b", "C:x", "a\0b", "a\nb", "a\x1b[2Jb", "end "),
        *("\u202egnp.exe", "\ud800", "\u2028", "x" * 101, "\N{CAT FACE}" * 26, 7, None),
    ],
)
def test_a_name_that_could_be_more_than_a_label_is_refused(name: Any) -> None:
    with pytest.raises(FileRefusedError, match="its name"):
        GradedFile(name, "image/png", b"")


@pytest.mark.parametrize("media_type", ["", "png", "image/", "Image/png", "image/png; charset=x", "a/b\n", "a" * 99, 1])
def test_a_media_type_that_is_none_is_refused(media_type: Any) -> None:
    with pytest.raises(FileRefusedError, match="media type"):
        GradedFile("a", media_type, b"")


def test_content_is_bytes_of_a_bounded_size() -> None:
    assert GradedFile("a", "image/png", bytes(files.FILE_BYTES)).sha256
    with pytest.raises(FileRefusedError, match=r"'a' with 2,097,153 bytes; a file may have 2,097,152"):
        GradedFile("a", "image/png", bytes(files.FILE_BYTES + 1))
    with pytest.raises(FileRefusedError, match="no bytes"):
        GradedFile("a", "image/png", "text")  # type: ignore[arg-type]  # what a careless grader does


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([GradedFile(f"{number}", "a/b", b"") for number in range(33)], "there are 33 of them; 32 are allowed"),
        ([GradedFile(f"{number}", "a/b", bytes(files.FILE_BYTES)) for number in range(3)], "6,291,456 bytes together"),
        ([LOG, GradedFile("LOG.TXT", "text/plain", b"")], "more than one is called 'log.txt'"),
    ],
)
def test_a_grade_with_more_than_a_row_may_bring_cannot_be_made(found: list[GradedFile], why: str) -> None:
    with pytest.raises(FileRefusedError, match=why):
        replace(FULL, files=tuple(found))


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.text(max_size=5),
                "media_type": st.just("a/b"),
                "sha256": st.text(max_size=3),
                "bytes": st.integers(),
            }
        )
        | st.dictionaries(st.text(max_size=3), st.none(), max_size=2)
        | st.integers()
    )
    | st.integers()
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)
@settings(max_examples=60, deadline=None)
def test_a_column_that_names_no_files_leaves_the_node_as_null_with_its_reason(found: Any) -> None:
    """No such text has a sha256 in it: whatever it is, it is not kept, and the grade is."""
    row = {**GRADED, "files": json.dumps(found)}
    made = sound(row, IDENTITY)
    assert (made["files"], made["score"]) == (None, 50.0)
    assert "files" in json.loads(made["null_reasons"])
    assert problems_of(row) == []  # it decides nothing
    with pytest.raises(ValueError, match=r"^(was no list|had )"):
        named_in(row)


def test_a_row_names_its_files_and_says_nothing_where_there_are_none() -> None:
    row = row_with(*ALL)
    assert sound(row, IDENTITY) == {**row, "null_reasons": None}
    assert [(file.name, file.sha256, file.bytes) for file in named_in(row)] == [
        (file.name, file.sha256, len(file.data)) for file in ALL
    ]
    assert files_json(()) is None
    assert named_in(GRADED) == ()


# --- on the way ---------------------------------------------------------------------------------------------------


def test_a_grades_files_are_spooled_and_told_with_its_row(desk: Desk) -> None:
    desk.submit(lambda _: replace(FULL, files=ALL))
    desk.grader.drain()
    row = desk.only_row()
    assert [file.name for file in named_in(row)] == [file.name for file in ALL]
    assert desk.told[0].files == contents_of(ALL)
    desk.spool.drop(row["job_id"], row["attempt"])
    assert not desk.spool.folder.exists()


def test_a_grade_with_too_many_files_is_the_graders_failure(desk: Desk) -> None:
    def grade(_: Path) -> Grade:
        return replace(FULL, files=tuple(GradedFile(f"{number}.png", "image/png", b"") for number in range(40)))

    desk.submit(grade)
    desk.grader.drain()
    row = desk.only_row()
    assert (row["outcome"], row["score"], row.get("files")) == ("grader_crash", None, None)
    assert row["error"] == "a grader returned files that cannot be kept: there are 40 of them; 32 are allowed"


def test_a_row_that_is_not_fit_to_be_kept_has_the_files_that_it_names(desk: Desk) -> None:
    desk.submit(lambda _: replace(FULL, scores={"strict": float("nan")}, files=ALL))
    desk.grader.drain()
    assert desk.only_row()["outcome"] == "grader_crash"
    assert desk.told[0].files == contents_of(ALL)


def test_the_spool_brings_files_again_byte_for_byte(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    row = row_with(*ALL)
    spool.put(row, 2.0, contents_of(ALL))
    for _ in range(2):
        (kept,) = Spool(tmp_path).rows()
        assert (kept.row, kept.duration_s, kept.files) == (row, 2.0, contents_of(ALL))
    (path,) = tmp_path.iterdir()
    assert path.read_bytes().endswith(b"\n" + PICTURE.data + LOG.data)  # equal content once


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:-1] + b"x"])
def test_a_row_whose_files_were_changed_on_the_spool_is_set_aside(tmp_path: Path, change: Any) -> None:
    Spool(tmp_path).put(row_with(*ALL), 2.0, contents_of(ALL))
    (path,) = tmp_path.iterdir()
    path.write_bytes(change(path.read_bytes()))
    assert Spool(tmp_path).rows() == []
    assert path.with_suffix(".damaged").exists()


def test_a_row_is_not_spooled_without_its_files(tmp_path: Path) -> None:
    with pytest.raises(RunnersError, match="cannot be kept on this node"):
        Spool(tmp_path).put(row_with(*ALL), 2.0, {})
    assert not list(tmp_path.iterdir())


@given(st.lists(st.binary(max_size=6), max_size=6), st.binary(max_size=8))
def test_what_was_joined_comes_apart_as_it_was_and_nothing_else_does(contents: list[bytes], other: bytes) -> None:
    found = [GradedFile(f"{number}", "a/b", data) for number, data in enumerate(contents)]
    row, held = row_with(*found), contents_of(found)
    data = files.joined(row, held)
    assert split(row, data) == held
    if other != data:
        with pytest.raises(ValueError, match="the row names"):
            split(row, other)


KILLED = """
import os, signal, sys
from pathlib import Path
from runners.files import contents_of
from runners.spool import Spool
from tests.runners.test_files import ALL, row_with

real, number, done = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}, int(sys.argv[2]), 0

def dies(name):
    def call(*arguments, **options):
        global done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](*arguments, **options)
    return call

for name in real:
    setattr(os, name, dies(name))
Spool(Path(sys.argv[1])).put(row_with(*ALL), 2.0, contents_of(ALL))
print("survived")
"""


def test_a_writer_killed_at_any_step_leaves_a_row_with_its_files_or_none(tmp_path: Path) -> None:
    for number in range(1, 10):
        folder = tmp_path / str(number)
        command = [sys.executable, "-c", KILLED, str(folder), str(number)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        rows = Spool(folder).rows()
        assert [path.suffix for path in folder.iterdir()] == [".json"] * len(rows)  # nothing half written stays
        assert all(kept.files == contents_of(ALL) for kept in rows)
        if done.returncode == 0:
            assert len(rows) == 1
            assert number > 1, "no step was hit"
            return
        assert done.returncode == -9, done.stderr
    raise AssertionError("it never came to its end")


def test_a_disk_without_room_for_files_is_told_as_for_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunnersError, match="No space left on device"):
        Spool(tmp_path).put(row_with(*ALL), 2.0, contents_of(ALL))
    assert not list(tmp_path.iterdir())
