"""What an exam's folder may hold: read once, packed and unpacked the same, and whatever is odd is named and refused."""

from __future__ import annotations

import os
import socket
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from runners.exams.folder import content as contents
from runners.exams.folder.content import Content, ExamFolderError, read_content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_folder_is_its_plain_files_and_survives_packing(tmp_path: Path) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "sub" / "b").write_bytes(b"\x00\xff")
    (tmp_path / "a.md").write_text("text")
    for left_out in (".git", "__pycache__"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "x").write_text("not read")
    (tmp_path / ".hidden").symlink_to("/etc/passwd")
    found = read_content(tmp_path)
    assert dict(found.files) == {"a.md": b"text", "files/sub/b": b"\x00\xff"}
    packed = found.pack()
    assert Content.unpack(packed) == found
    assert Content.unpack(packed).sha256 == found.sha256
    assert read_content(tmp_path).pack() == packed
    again = tmp_path / "again"
    found.write_to(again)
    assert read_content(again) == found


def test_a_name_and_a_byte_change_the_digest(tmp_path: Path) -> None:
    digests = {Content({name: data}).sha256 for name in ("a", "b") for data in (b"", b"1")}
    assert len(digests) == 4


def link(folder: Path) -> None:
    (folder / "files").symlink_to("/etc")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "prompt.md")


def listening(folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/door")
    os.close(here)


def newline(folder: Path) -> None:
    (folder / "a\nb").write_text("x")


def no_text(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).write_text("x")


def deep(folder: Path) -> None:
    (folder / "/".join(["d"] * 30)).mkdir(parents=True)
    (folder / "/".join(["d"] * 30) / "x").write_text("x")


def large(folder: Path) -> None:
    with (folder / "data.bin").open("wb") as file:
        file.truncate(contents.MOST_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (link, "files is a link"),
        (pipe, r"prompt\.md is a pipe"),
        (listening, "door is a socket"),
        (newline, r"the name 'a\\nb' is no plain one"),
        (no_text, "is no plain one"),
        (deep, "lies deeper than"),
        (large, r"more than 16 MiB, which every node would be sent \(with data\.bin"),
    ],
)
def test_what_is_odd_is_named_and_refused(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path)
    with pytest.raises(ExamFolderError, match=said) as caught:
        read_content(tmp_path)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).write_text("")
    with pytest.raises(ExamFolderError, match="holds more than 3 files"):
        read_content(tmp_path)


def test_what_is_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExamFolderError, match="there is no folder") as caught:
        read_content(tmp_path / "none")
    assert "exams new" in caught.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(ExamFolderError, match="is no folder"):
        read_content(tmp_path / "file")


@pytest.mark.parametrize("path", ["../outside", "/etc/cron.d/x", "a/../../b", "a\nb", "d/" * 20 + "x"])
def test_an_archive_writes_nowhere_else(path: str) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(path, "x")
    with pytest.raises(ExamFolderError, match="none may hold"):
        Content.unpack(packed.getvalue())


def test_a_damaged_or_swollen_archive_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Content({"a": bytes(100_000)}).pack()
    with pytest.raises(ExamFolderError, match="damaged"):
        Content.unpack(packed[:-40])
    monkeypatch.setattr(contents, "MOST_BYTES", 1000)
    with pytest.raises(ExamFolderError, match="larger than an exam may be"):
        Content.unpack(packed)
