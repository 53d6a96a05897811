"""Files of a run: there before any row that names them, once each, and missed when they are gone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from textwrap import indent
from typing import TYPE_CHECKING, Any

import pytest

from results import durable
from results.files import RunFiles, named_files, summary_of
from results.rows import SchemaError
from results.store import RunStore, StoreError, read_run
from results.tables import report

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow

PICTURE, LOG = b"\x89PNG", b"drawn\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CONTENT = {sha(data): data for data in (PICTURE, LOG)}
GONE = "c" * 64


def naming(*contents: bytes) -> str:
    return json.dumps(
        [
            {"name": f"{number}.bin", "media_type": "a/b", "sha256": sha(data), "bytes": len(data)}
            for number, data in enumerate(contents)
        ]
    )


def kept_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "files").glob("*")}


def test_files_are_kept_by_their_sha256_and_equal_ones_once(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        assert store.commit(row(job_id="a", files=naming(PICTURE, LOG)), CONTENT.get)
        assert store.commit(row(job_id="b", files=naming(PICTURE, PICTURE)), CONTENT.get)
        assert store.commit(row(job_id="c"))
        assert store.check() == ()
    assert kept_in(tmp_path) == CONTENT
    assert not any(os.access(path, os.X_OK) for path in (tmp_path / "files").iterdir())
    (text,) = {found["files"] for found in read_run(tmp_path).table.to_pylist() if found["job_id"] == "a"}
    assert [file.sha256 for file in named_files(text)] == [sha(PICTURE), sha(LOG)]


def test_a_run_without_files_has_no_folder_for_them(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row())
    assert not (tmp_path / "files").exists()
    assert report(tmp_path).files is None
    assert report(tmp_path).to_json()["files"] is None


@pytest.mark.parametrize(
    "files",
    [
        json.dumps([{"name": "x", "media_type": "a/b", "sha256": "../../x", "bytes": 1}]),
        json.dumps([{"name": "x", "media_type": "a/b", "sha256": GONE, "bytes": 1}]),
        json.dumps([{"name": "x", "sha256": sha(LOG), "bytes": 1}]),
        '{"name": 1}',
        '["x"]',
        "[" * 100_000,
    ],
)
def test_a_row_that_names_what_is_not_there_is_refused_and_nothing_is_committed(
    tmp_path: Path, row: MakeRow, files: str
) -> None:
    with RunStore(tmp_path) as store:
        with pytest.raises(SchemaError, match="files"):
            store.commit(row(files=files), CONTENT.get)
        with pytest.raises(SchemaError, match="files"):
            store.commit(row(files=naming(PICTURE)), lambda _: b"something else")
        assert not store.committed()
    assert kept_in(tmp_path) == {}


def test_a_row_may_name_what_an_earlier_one_brought(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(job_id="a", files=naming(PICTURE)), CONTENT.get)
        assert store.commit(row(job_id="b", files=naming(PICTURE)))


def test_a_file_that_was_damaged_meanwhile_is_written_anew(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(job_id="a", files=naming(PICTURE)), CONTENT.get)
        (tmp_path / "files" / sha(PICTURE)).write_bytes(b"\x89PNX")
        store.commit(row(job_id="b", files=naming(PICTURE)), CONTENT.get)
    assert kept_in(tmp_path) == {sha(PICTURE): PICTURE}


def test_files_that_go_are_missed_at_the_end_and_after_a_restart(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(job_id="a", files=naming(PICTURE, LOG)), CONTENT.get)
        (tmp_path / "files" / sha(PICTURE)).unlink()
        (said,) = map(str, store.check())
        assert said.endswith(
            "files: 1 of 2 files that attempts name are gone, or changed; what those attempts scored is kept"
        )
    with RunStore(tmp_path) as store:
        assert store.finals() == {"a": "model"}
        (tmp_path / "files" / sha(LOG)).write_bytes(b"longer than it was")
        assert "2 of 2 files" in str(store.check()[0])


def test_a_disk_without_room_for_a_file_is_said_as_for_rows(
    tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: Path, *_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    with RunStore(tmp_path) as store:
        store.commit(row(job_id="a"))
        with monkeypatch.context() as patch:
            patch.setattr(durable, "write", full)
            with pytest.raises(StoreError, match="No space left on device") as caught:
                store.commit(row(job_id="b", files=naming(PICTURE)), CONTENT.get)
        assert "Make room and start the same sweep again" in str(caught.value)
        assert {job_id for job_id, _ in store.committed()} == {"a"}
        assert store.commit(row(job_id="b", files=naming(PICTURE)), CONTENT.get)
        assert store.check() == ()


def test_what_a_killed_writer_had_begun_is_removed(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(files=naming(PICTURE)), CONTENT.get)
    (tmp_path / "files" / ".abc.0123.tmp").write_bytes(b"half")
    with RunStore(tmp_path):
        assert kept_in(tmp_path) == {sha(PICTURE): PICTURE}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_no_file_of_ours(tmp_path: Path, make: Any) -> None:
    (tmp_path / "files").mkdir()
    make(tmp_path / "files" / GONE)
    assert RunFiles(tmp_path).read(GONE) is None
    with (tmp_path / "files" / sha(b"")).open("wb") as file:
        file.truncate(1 << 40)  # nobody's memory holds it
    assert RunFiles(tmp_path).read(sha(b"")) is None


def test_show_says_that_there_are_files_and_where(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row(job_id="a", files=naming(PICTURE, LOG)), CONTENT.get)
        store.commit(row(job_id="b", files=naming(PICTURE)), CONTENT.get)
        store.commit(row(job_id="c"))
    found = report(tmp_path)
    said = f"Files of 2 answers: 2 (10 B) in {tmp_path / 'files'}; the column `files` names them."
    assert str(found.files) == said
    assert said in map(str, found.parts())
    assert found.to_json()["files"] == {
        "folder": str(tmp_path / "files"),
        "answers": 2,
        "files": 2,
        "bytes": 10,
        "missing": 0,
    }
    (tmp_path / "files" / sha(LOG)).unlink()
    assert str(report(tmp_path).files) == f"{said} 1 of them are gone, or changed."


def test_somebody_elses_column_costs_show_nothing(tmp_path: Path) -> None:
    hostile = [naming(LOG), "[[]]", "{}", "no JSON", "[" * 100_000, None]
    found = summary_of(hostile, tmp_path)
    assert found is not None
    assert (found.answers, found.files, found.missing) == (1, 1, 1)


def test_the_page_says_how_duckdb_finds_them(tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    from results.describe import FILES_QUERY, columns_markdown

    assert indent(FILES_QUERY, "  ") in columns_markdown()
    run = tmp_path / "runs" / "quickstart"
    with RunStore(run) as store:
        store.commit(row(job_id="a", quant="Q8_0", files=naming(PICTURE, LOG)), CONTENT.get)
        store.commit(row(job_id="b"))
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        found = connection.execute(FILES_QUERY).fetchall()
    assert [(quant, seed, name, (tmp_path / path).read_bytes()) for quant, seed, name, _, path in found] == [
        ("Q8_0", 1, "0.bin", PICTURE),
        ("Q8_0", 1, "1.bin", LOG),
    ]
