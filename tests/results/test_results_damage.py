"""Damaged files, two writers at once, and files of other versions: what is set aside, and what is read as it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import durable, parts, shelf
from results.columnar import as_table
from results.reading import attempt_files, read_file, read_run
from results.rows import complete_row
from results.schema import COLUMNS, SCHEMA_VERSION, arrow_schema
from results.store import RunStore, StoreError
from results.summary import SUMMARISED
from results.tables import report
from tests.results.looking import finals, names, write_shard

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow


def only_part(folder: Path) -> Path:
    (path,) = attempt_files(folder / "attempts")
    return path


class TestDamage:
    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_cut_or_changed_file_is_set_aside_and_its_jobs_run_again(
        self, tmp_path_factory: pytest.TempPathFactory, row: MakeRow, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("run")
        rows = [row(job_id=f"j{number}", reply=f"a reply worth having {number} " * 20) for number in range(50)]
        with RunStore(folder) as store:
            store.commit_many(rows[:48])
            for one in rows[48:]:
                store.commit(one)
            before = store.table()
        path = attempt_files(store.attempts_folder)[data.draw(st.integers(0, 1), label="part")]
        whole = path.read_bytes()
        if data.draw(st.booleans(), label="cut"):
            path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        else:
            changed = bytearray(whole)
            changed[data.draw(st.integers(0, len(whole) - 1), label="place")] ^= data.draw(
                st.integers(1, 255), label="bits"
            )
            path.write_bytes(changed)
        reading = read_run(folder)
        with RunStore(folder) as again:
            if not reading.torn:  # the change fell on a byte that carries nothing, such as the free space
                assert reading.table.equals(before)
                assert again.table().equals(before)
                assert len(again.committed()) == 50
                return
            assert [torn.path for torn in reading.torn] == [path]
            assert [torn.path.parent.name for torn in again.quarantined] == ["quarantine"]
            assert not path.exists()
            assert len(again.committed()) in {2, 48}
            assert again.commit_many(rows).count(True) in {48, 2}
            assert again.table().equals(before)

    def test_damage_to_a_text_of_a_large_run_is_found_when_it_is_read(
        self, tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit(row(reply="a reply that will not compress: 8a7f3c"))
        path = only_part(tmp_path)
        path.write_bytes(path.read_bytes().replace(b"8a7f3c", b"8a7f3d"))
        monkeypatch.setattr(shelf, "CHECKED_WHOLE_BYTES", 0)
        with RunStore(tmp_path) as store:
            assert len(store.committed()) == 1
            (torn,) = read_run(tmp_path).torn
            assert str(torn).startswith(f"{path}: its rows have changed since they were written; its attempts are left")
        monkeypatch.undo()
        assert RunStore(tmp_path).committed() == frozenset()

    def test_a_part_that_is_damaged_while_it_is_written_is_written_anew(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            for number in range(3):
                store.commit(row(job_id=f"j{number}"))
                only_part(tmp_path).write_bytes(b"damage" if number else b"")
            only_part(tmp_path).unlink()
            assert store.commit(row(job_id="last"))
            assert len(store.rows()) == 4
            assert [torn.path.name[-5:] for torn in store.quarantined] == [".torn", "torn2"]
        assert len(RunStore(tmp_path).committed()) == 4

    def test_what_went_missing_meanwhile_is_noticed_and_forgotten(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            store.commit_many([row(job_id=f"j{number}") for number in range(48 * 8)])
            assert store.check() == ()
            gone, torn, touched, *_, in_memory = attempt_files(store.attempts_folder)
            gone.unlink()
            torn.write_bytes(torn.read_bytes()[:-1])
            touched.touch()
            in_memory.unlink()
            assert [str(lost).split(": ", 1)[1] for lost in store.check()] == [
                "it is gone (48 attempts); its attempts are left out, and their jobs run again",
                "it is cut off, or no Parquet file (48 attempts); its attempts are left out, and their jobs run again",
            ]
            assert store.check() == ()
            assert len(store.finals()) == len(store.committed()) == 48 * 6
            assert store.commit(row(job_id="j0"))
            kept = store.committed()
        assert RunStore(tmp_path).committed() == kept

    def test_reading_changes_nothing(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            store.commit(row())
        torn = store.attempts_folder / "x-1.parquet"
        torn.write_bytes(b"")
        (store.attempts_folder / ".y-1.parquet.0.tmp").write_bytes(b"half")
        before = names(store.attempts_folder)
        assert [found.path for found in read_run(tmp_path).torn] == [torn]
        assert (names(store.attempts_folder)) == before

    def test_the_same_attempt_damaged_twice_is_kept_twice(self, tmp_path: Path) -> None:
        for _ in range(2):
            RunStore(tmp_path)
            (tmp_path / "attempts" / "x-1.parquet").write_bytes(b"junk")
        RunStore(tmp_path)
        assert (names(tmp_path / "quarantine")) == ["x-1.parquet.torn", "x-1.parquet.torn2"]

    def test_an_attempt_under_a_name_that_is_not_its_own_does_not_count_twice(
        self, tmp_path: Path, row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit(row())
        (store.attempts_folder / "copy-7.parquet").write_bytes(only_part(tmp_path).read_bytes())
        assert RunStore(tmp_path).committed() == {("j1-0123abcd", 1)}
        assert (names(tmp_path / "quarantine")) == ["copy-7.parquet.torn"]

    def test_a_part_that_was_copied_counts_once_and_is_set_aside(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            store.commit_many([row(job_id=f"j{number}") for number in range(5)])
        path = only_part(tmp_path)
        (store.attempts_folder / "part-000007-00000000.parquet").write_bytes(path.read_bytes())
        assert read_run(tmp_path).table.num_rows == 5
        with RunStore(tmp_path) as store:
            assert len(store.committed()) == 5
            assert attempt_files(store.attempts_folder) == [path]
            assert "5 attempts in it came first in another file" in str(store.quarantined[0])

    def test_other_peoples_files_are_left_alone(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            store.commit(row())
        notes = store.attempts_folder / "notes.txt"
        notes.write_text("mine")
        assert RunStore(tmp_path).quarantined == ()
        assert notes.read_text() == "mine"

    def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path)
        store.close()
        dead = store.attempts_folder / ".a-1.parquet.00.tmp"
        living = store.attempts_folder / ".b-1.parquet.00.tmp"
        dead.write_bytes(b"half")
        with living.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            RunStore(tmp_path)
            assert living.exists()
            assert not dead.exists()
        RunStore(tmp_path)
        assert not living.exists()

    def test_a_commit_that_failed_after_its_rename_is_seen(
        self, tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The folder could not be made durable: the row may be there or not, and here it is."""

        def fail(_: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with RunStore(tmp_path) as store:
            store.commit(row(job_id="before"))
            monkeypatch.setattr(durable, "sync_folder", fail)
            with pytest.raises(StoreError, match="Input/output error"):
                store.commit(row(job_id="half"))
            monkeypatch.undo()
            assert store.commit_many([row(job_id="half"), row(job_id="after")]) == [False, True]
            assert sorted(found["job_id"] for found in store.rows()) == ["after", "before", "half"]


class TestTwoWriters:
    """On a file system without locks: the run folder's own lock does not hold there either."""

    @pytest.fixture(autouse=True)
    def without_locks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)

    def test_neither_loses_a_row_and_the_first_of_an_attempt_counts(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as one, RunStore(tmp_path) as other:
            for number in range(20):
                assert one.commit(row(job_id=f"j{number}", reply="one"))
                assert other.commit(row(job_id=f"j{number + 10}", reply="other"))
        table = read_run(tmp_path).table
        assert len(set(table["job_id"].to_pylist())) == table.num_rows == 30
        with RunStore(tmp_path) as healed:
            assert healed.table().equals(table)
            assert len(healed.committed()) == 30
            rows = sum(read_file(path, []).num_rows for path in attempt_files(healed.attempts_folder))
            assert rows == 30
            assert healed.quarantined

    def test_of_two_finals_the_scored_one_stays(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as one, RunStore(tmp_path) as other:
            one.commit(infrastructure_row(attempt=1))
            other.commit(row(attempt=2))
        with RunStore(tmp_path) as healed:
            assert finals(healed) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}
            assert healed.finals() == {"j1-0123abcd": "model"}

    def test_a_part_that_another_process_changed_is_not_written_over(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as one:
            one.commit(row(job_id="one"))
            with RunStore(tmp_path) as other:
                other.commit(row(job_id="other"))
            with pytest.raises(StoreError, match="was changed by another process"):
                one.commit(row(job_id="late"))
        assert RunStore(tmp_path).committed() == {("one", 1), ("other", 1)}


class TestVersions:
    def test_a_file_from_before_a_column_existed_reads_with_nulls(self, tmp_path: Path, row: MakeRow) -> None:
        old = {name: [value] for name, value in row(job_id="old").items() if name not in {"started_at", "cold"}}
        write_shard(tmp_path / "attempts", "old-1.parquet", old | {"schema_version": [0]})
        with RunStore(tmp_path) as store:
            store.commit(row(job_id="new"))
            table = store.table()
        assert table.schema == arrow_schema()
        cold = dict(zip(table["job_id"].to_pylist(), table["cold"].to_pylist(), strict=True))
        assert cold == {"old": None, "new": False}

    def test_columns_of_a_later_version_are_left_out(self, tmp_path: Path, row: MakeRow) -> None:
        later = {name: [value] for name, value in row(job_id="x").items() if name != "started_at"}
        write_shard(
            tmp_path / "attempts", "x-1.parquet", later | {"taste": ["good"], "schema_version": [SCHEMA_VERSION + 1]}
        )
        assert RunStore(tmp_path).table().column_names == [column.name for column in COLUMNS]

    def test_narrower_numbers_are_widened(self, tmp_path: Path, row: MakeRow) -> None:
        import pyarrow as pa

        narrow: dict[str, Any] = {name: [value] for name, value in row(job_id="x").items() if name != "started_at"}
        narrow |= {"attempt": pa.array([1], pa.int8()), "schema_version": [0], "score": pa.array([60], pa.int32())}
        write_shard(tmp_path / "attempts", "x-1.parquet", narrow)
        assert RunStore(tmp_path).rows()[0]["score"] == 60.0

    def test_a_later_version_that_means_something_else_is_refused_and_kept(self, tmp_path: Path, row: MakeRow) -> None:
        later = {name: [value] for name, value in row(job_id="x").items() if name != "started_at"}
        path = write_shard(
            tmp_path / "attempts", "x-1.parquet", later | {"score": ["high"], "schema_version": [SCHEMA_VERSION + 1]}
        )
        with pytest.raises(StoreError, match="written by a newer quantsweep"):
            RunStore(tmp_path)
        assert path.exists()

    def test_a_retry_of_an_attempt_in_a_file_of_its_own(self, tmp_path: Path, infrastructure_row: MakeRow) -> None:
        """As earlier versions wrote them; a file of one attempt takes no second one."""
        old = {name: [value] for name, value in infrastructure_row(job_id="x").items() if name != "started_at"}
        write_shard(
            tmp_path / "attempts", "x-1.parquet", old | {"taste": ["good"], "schema_version": [SCHEMA_VERSION + 1]}
        )
        with RunStore(tmp_path) as store:
            assert store.commit(infrastructure_row(job_id="x", attempt=2))
            assert finals(store) == {("x", 1): False, ("x", 2): True}
        assert RunStore(tmp_path).finals() == {"x": "infrastructure"}
        import pyarrow.parquet as pq

        assert pq.read_table(tmp_path / "attempts" / "x-1.parquet")["taste"].to_pylist() == ["good"]

    def test_a_part_of_other_columns_is_read_and_not_written_to(self, tmp_path: Path, row: MakeRow) -> None:
        import pyarrow as pa

        wider = as_table([complete_row(row(job_id="old") | {"schema_version": SCHEMA_VERSION + 1})]).append_column(
            "taste", pa.array([1])
        )
        (tmp_path / "attempts").mkdir()
        part = parts.Part(tmp_path / "attempts" / "part-000001-00000000.parquet")
        part.add(wider)
        with RunStore(tmp_path) as store:
            assert store.commit(row(job_id="new"))
            assert [found["job_id"] for found in store.rows()] == ["new", "old"]
            assert len(attempt_files(store.attempts_folder)) == 2
        assert parts.Part.load(part.path).table().equals(wider)


@pytest.mark.parametrize(
    ("strange", "said"),
    [
        ({"score": float("nan")}, "score"),
        ({"score": float("inf")}, "score"),
        ({"decode_tps": 1e308}, "decode_tps"),
        ({"e2e_s": -1e300}, None),
        ({"seed": None}, "seed"),
        ({"model": None}, "model"),
        ({"exam": None}, "exam"),
        ({"shared_with": "["}, None),
        ({"shared_with": "[" * 100_000}, None),
        ({"shared_with": "9" * 5_000}, None),
        ({"engine_settings": "{"}, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_rows_that_no_writer_of_ours_would_have_made_are_left_out_by_name(
    tmp_path: Path, row: MakeRow, strange: dict[str, Any], said: str | None
) -> None:
    """A run may be somebody else's. What cannot be shown is named; what is only odd does no harm."""
    for name, changes in (("good", {}), ("odd", strange)):
        values = {key: [value] for key, value in (complete_row(row(job_id=name)) | changes).items()}
        write_shard(tmp_path / "attempts", f"{name}-1.parquet", values)
    found = report(tmp_path)
    assert found.attempts == (1 if said else 2)
    assert [torn.path.name for torn in read_run(tmp_path, (*SUMMARISED, "e2e_s")).torn] == (
        ["odd-1.parquet"] if said or "e2e_s" in strange else []
    )
    lines = " ".join(found.remarks)
    assert ("odd-1.parquet" in lines) == bool(said)
    assert found.parts()
    assert json.dumps(found.to_json(), allow_nan=False)
