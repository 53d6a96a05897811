from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import durable, parts, shelf
from results.columnar import as_table
from results.reading import attempt_files, read_file, read_run
from results.rows import SchemaError, complete_row
from results.schema import COLUMNS, SCHEMA_VERSION, arrow_schema
from results.store import Attempt, RunStore, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import MakeRow


def finals(store: RunStore) -> dict[tuple[str, int], bool]:
    return {(row["job_id"], row["attempt"]): row["final"] for row in store.rows()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_shard(folder: Path, name: str, columns: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


class TestCommit:
    def test_what_was_committed_is_there_for_this_process_and_the_next(self, tmp_path: Path, row: MakeRow) -> None:
        for begun in (False, True):
            with RunStore(tmp_path / "run") as store:
                assert store.commit(row(reply="hello")) != begun
                assert store.committed() == {("j1-0123abcd", 1)}
                assert store.finals() == {"j1-0123abcd": "model"}
                assert [found["reply"] for found in store.rows()] == ["hello"]

    def test_the_first_commit_of_an_attempt_stands(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            assert store.commit(row(reply="first"))
            assert not store.commit(row(reply="second"))
            assert store.commit_many([row(attempt=2, reply="a"), row(attempt=2, reply="b")]) == [True, False]
        with RunStore(tmp_path) as store:
            assert not store.commit(row(reply="third"))
            assert [found["reply"] for found in store.rows()] == ["first", "a"]

    def test_a_second_store_of_a_run_is_refused_and_told_who_has_it(self, tmp_path: Path, row: MakeRow) -> None:
        with (
            RunStore(tmp_path) as store,
            pytest.raises(StoreError, match=rf"being written by process {os.getpid()} on "),
        ):
            RunStore(tmp_path)
        with pytest.raises(StoreError, match="the store is closed"):
            store.commit(row())
        with RunStore(tmp_path) as store:
            assert store.commit(row())

    def test_a_store_that_is_left_behind_keeps_nobody_out(self, tmp_path: Path, row: MakeRow) -> None:
        assert RunStore(tmp_path).commit(row())
        assert not RunStore(tmp_path).commit(row())

    @pytest.mark.parametrize("rows", [47, 48, 49])
    def test_any_number_of_rows_at_once_or_one_by_one_is_the_same(
        self, tmp_path: Path, row: MakeRow, rows: int
    ) -> None:
        many = [row(job_id=f"j{number}", seed=number) for number in range(rows)]
        with RunStore(tmp_path / "one") as one, RunStore(tmp_path / "many") as at_once:
            for single in many:
                assert one.commit(single)
            assert at_once.commit_many(many) == [True] * rows
            assert at_once.commit_many(many) == [False] * rows
            assert at_once.table().equals(one.table())
            assert len(names(one.attempts_folder)) == len(names(at_once.attempts_folder)) == -(-rows // 48)

    def test_what_a_sweep_goes_on_from_is_remembered(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            assert store.commit_many(
                [infrastructure_row(job_id="a"), row(job_id="b", device="GPU0"), row(job_id="b")]
            ) == [
                True,
                True,
                False,
            ]
            expected = {
                Attempt("a", 1, True, "server_crash", "infrastructure", "cpu-x", "n1", None),
                Attempt("b", 1, True, "passed", "model", "cpu-x", "n1", "GPU0"),
            }
            assert set(store.attempts()) == expected
        assert set(RunStore(tmp_path).attempts()) == expected

    def test_a_bad_row_writes_nothing(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        with pytest.raises(SchemaError):
            store.commit(row(decode_tsp=1.0))
        assert names(store.attempts_folder) == []

    def test_only_whole_attempts_match_the_readers_glob(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(row())
        (name,) = names(store.attempts_folder)
        assert re.fullmatch(r"part-000001-[0-9a-f]{8}\.parquet", name)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot use the run folder"):
            RunStore(tmp_path / "file" / "run")


class TestFinal:
    def test_a_retry_takes_the_mark_from_an_infrastructure_failure(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit(infrastructure_row(final=True))
            assert store.finals() == {"j1-0123abcd": "infrastructure"}
        with RunStore(tmp_path) as store:
            assert store.commit(row(attempt=2))
            assert finals(store) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}
            assert store.finals() == {"j1-0123abcd": "model"}
        assert RunStore(tmp_path).finals() == {"j1-0123abcd": "model"}

    def test_a_retry_long_after_comes_into_the_part_of_what_it_retries(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        """So that one rename changes both, and no reader sees two finals of a job, or none."""
        with RunStore(tmp_path) as store:
            store.commit_many([infrastructure_row(job_id=f"j{number}") for number in range(60)])
            store.commit_many([row(job_id="j7", attempt=2), row(job_id="j55", attempt=2), row(job_id="new")])
            assert store.finals()["j7"] == store.finals()["j55"] == "model"
        for path, jobs in zip(attempt_files(tmp_path / "attempts"), ({"j7"}, {"j55"}), strict=True):
            found = read_file(path, ["final"]).to_pylist()
            assert {one["job_id"] for one in found if not one["final"]} == jobs
            assert {(one["job_id"], one["attempt"]) for one in found if one["final"]} >= {(job, 2) for job in jobs}
        assert RunStore(tmp_path).finals() == store.finals()

    def test_a_part_that_was_changed_too_often_gives_the_mark_up_first(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit_many([infrastructure_row(job_id=f"j{number}") for number in range(60)])
            monkeypatch.setattr(parts, "MOST_PAST_BYTES", 1)
            store.commit(row(job_id="j7", attempt=2))
            assert store.finals()["j7"] == "model"
        first, *_, last = (read_file(path, ["final"]).to_pylist() for path in attempt_files(tmp_path / "attempts"))
        assert [one["job_id"] for one in first if not one["final"]] == ["j7"]
        assert [(one["job_id"], one["attempt"]) for one in last if one["final"]] == [("j7", 2)]
        assert RunStore(tmp_path).finals() == store.finals()

    def test_of_several_attempts_at_once_the_right_one_is_final(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit(infrastructure_row(attempt=1))
            store.commit_many([infrastructure_row(attempt=2), row(attempt=4), row(attempt=3), row(attempt=5)])
            assert finals(store) == {("j1-0123abcd", number): number == 4 for number in (1, 2, 3, 4, 5)}
            assert store.finals() == {"j1-0123abcd": "model"}
        assert RunStore(tmp_path).finals() == {"j1-0123abcd": "model"}

    def test_a_second_failure_takes_it_as_well(self, tmp_path: Path, infrastructure_row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(infrastructure_row())
        store.commit(infrastructure_row(attempt=2))
        assert finals(store) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}

    def test_a_scored_row_that_comes_late_takes_the_mark_from_a_failure_with_a_higher_number(
        self, tmp_path: Path, row: MakeRow
    ) -> None:
        failed = {"outcome": "node_lost", "outcome_class": "infrastructure", "score": None}
        with RunStore(tmp_path) as store:
            store.commit(row(attempt=4, **failed))
            store.commit(row(attempt=3))
            store.commit(row(attempt=5, **failed))
            assert [finals(store)["j1-0123abcd", number] for number in (3, 4, 5)] == [True, False, False]

    @pytest.mark.parametrize("late", [1, 3])
    def test_a_scored_attempt_never_gives_the_mark_up(self, tmp_path: Path, row: MakeRow, late: int) -> None:
        store = RunStore(tmp_path)
        store.commit(row(attempt=2, score=60.0, outcome="wrong"))
        assert store.commit(row(attempt=late))
        assert finals(store) == {("j1-0123abcd", 2): True, ("j1-0123abcd", late): False}

    def test_a_late_failure_does_not_take_it_from_a_later_one(
        self, tmp_path: Path, infrastructure_row: MakeRow
    ) -> None:
        store = RunStore(tmp_path)
        store.commit(infrastructure_row(attempt=2))
        store.commit(infrastructure_row(attempt=1))
        assert finals(store) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}

    def test_the_mark_of_a_file_damaged_meanwhile_is_free(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit_many([infrastructure_row(job_id=f"j{number}") for number in range(48)])
            path = attempt_files(store.attempts_folder)[0]
            store.commit_many([row(job_id=f"k{number}") for number in range(240)])  # it is not in memory any more
            path.write_bytes(b"PAR1")
            assert store.commit(row(job_id="j0", attempt=2))
            assert {job_id for job_id in store.finals() if job_id[0] == "j"} == {"j0"}
            assert [torn.reason for torn in store.quarantined] == ["it is cut off, or no Parquet file (48 attempts)"]
        assert RunStore(tmp_path).finals() == store.finals()

    @settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=8))
    def test_no_order_of_commits_and_restarts_gives_a_job_two_finals_or_takes_a_score_away(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        row: MakeRow,
        infrastructure_row: MakeRow,
        steps: list[tuple[int, bool, bool]],
    ) -> None:
        folder = tmp_path_factory.mktemp("run")
        store = RunStore(folder)
        scored_final = None
        for attempt, scored, restart in steps:
            if restart:
                store.close()
                store = RunStore(folder)
            store.commit((row if scored else infrastructure_row)(attempt=attempt))
            marked = [found for found in store.rows() if found["final"]]
            assert len(marked) == 1
            assert store.finals() == {marked[0]["job_id"]: marked[0]["outcome_class"]}
            assert scored_final is None or marked[0]["attempt"] == scored_final
            scored_final = marked[0]["attempt"] if marked[0]["score"] is not None else None
        store.close()


class TestRegrade:
    """A new grade of a saved answer is a row of its own, which takes the mark and leaves the earlier one on record."""

    def test_a_regrade_takes_the_mark_and_a_later_one_takes_it_again(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            store.commit_many([row(job_id=f"j{number}") for number in range(60)])
            store.commit_many([row(job_id=f"j{n}", attempt=2, regrade_of=1, score=50.0) for n in range(60)])
            assert store.commit(row(job_id="j7", attempt=3, regrade_of=1, score=10.0))
            found = finals(store)
            assert [found["j7", number] for number in (1, 2, 3)] == [False, False, True]
            assert sum(found.values()) == 60
        with RunStore(tmp_path) as store:
            assert finals(store) == found
            assert sorted(row["score"] for rows in store.finals_by_file() for row in rows) == [10.0] + [50.0] * 59
        assert len(attempt_files(tmp_path / "attempts")) == 2

    @pytest.mark.parametrize(
        "regrade", [{"attempt": 3, "regrade_of": 1}, {"attempt": 1, "regrade_of": 2}, {"attempt": 3}]
    )
    def test_only_a_later_grade_of_the_answer_that_counts_takes_the_mark(
        self, tmp_path: Path, row: MakeRow, regrade: dict[str, int]
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit(row(attempt=2))
            store.commit(row(**regrade))
            assert finals(store) == {("j1-0123abcd", 2): True, ("j1-0123abcd", regrade["attempt"]): False}

    def test_more_regrades_than_a_part_has_rows_change_it_with_one_rename(
        self, tmp_path: Path, row: MakeRow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A mark that is taken in one rename and given in the next would be gone where a kill falls in between."""
        with RunStore(tmp_path) as store:
            store.commit_many([row(job_id=f"j{number}") for number in range(47)])
            store.commit_many([row(job_id=f"k{number}") for number in range(48)])
            (path,) = attempt_files(store.attempts_folder)
            renames: list[Path] = []
            publish = parts.Part._publish

            def noted(part: parts.Part, *arguments: Any) -> None:
                renames.append(part.path)
                publish(part, *arguments)

            monkeypatch.setattr(parts.Part, "_publish", noted)
            old = [found["job_id"] for found in store.rows()]
            store.commit_many([row(job_id=job_id, attempt=2, regrade_of=1) for job_id in old])
            assert renames == [path]
            assert store.finals() == dict.fromkeys(old, "model")

    def test_of_two_finals_that_two_writers_made_the_regrade_stands(self, tmp_path: Path, row: MakeRow) -> None:
        for name in ("one", "two"):
            with RunStore(tmp_path / name) as store:
                again = {"attempt": 2, "regrade_of": 1} if name == "two" else {}
                store.commit(row(**again))
        (other,) = attempt_files(tmp_path / "two" / "attempts")
        other.rename(tmp_path / "one" / "attempts" / "part-000000-00000000.parquet")
        with RunStore(tmp_path / "one") as store:
            assert finals(store) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}


class TestCountOnly:
    """A sweep that lost a job keeps its attempts and counts them no more; one that has it again counts them again."""

    def test_what_is_taken_out_is_on_record_and_in_no_query_and_comes_back(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit_many([row(job_id=f"j{number}") for number in range(60)])
            store.commit_many([infrastructure_row(job_id="k", final=False), row(job_id="k", attempt=2)])
            store.commit(row(job_id="k", attempt=3, regrade_of=2, score=7.0))
            before = finals(store)
            stays = [f"j{number}" for number in range(0, 60, 2)]
            assert store.count_only(stays) == (31, 0)
            assert store.count_only(stays) == (0, 0)
            assert store.finals() == dict.fromkeys(stays, "model")
            assert {row["job_id"] for row in store.rows() if row["taken_out"]} == {
                "k",
                *(f"j{n}" for n in range(1, 60, 2)),
            }
            assert len(store.rows()) == len(before)
        with RunStore(tmp_path) as store:
            assert store.finals() == dict.fromkeys(stays, "model")
            assert store.count_only({job_id for job_id, _ in before}) == (0, 31)
            assert finals(store) == before
            assert not any(row["taken_out"] for row in store.rows())

    def test_a_job_that_failed_comes_back_without_a_final_and_runs_again(
        self, tmp_path: Path, infrastructure_row: MakeRow
    ) -> None:
        with RunStore(tmp_path) as store:
            store.commit(infrastructure_row())
            store.count_only([])
            assert store.count_only(["j1-0123abcd"]) == (0, 1)
            assert store.finals() == {}

    def test_files_of_earlier_columns_and_of_one_attempt_are_taken_out_too(self, tmp_path: Path, row: MakeRow) -> None:
        old = {name: [value] for name, value in complete_row(row(job_id="old")).items() if name != "taken_out"}
        write_shard(tmp_path / "attempts", "old-1.parquet", {**old, "schema_version": [2]})
        with RunStore(tmp_path) as store:
            store.commit(row())
            assert store.count_only([]) == (2, 0)
        with RunStore(tmp_path) as store:
            assert store.quarantined == ()
            assert (store.finals(), len(store.rows())) == ({}, 2)


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


class TestCompact:
    def test_one_file_beside_the_folder_holds_every_attempt(self, tmp_path: Path, row: MakeRow) -> None:
        import pyarrow.parquet as pq

        with RunStore(tmp_path) as store:
            for seed in range(60):
                store.commit(row(job_id=f"j{seed}", seed=seed, started_at=f"2026-11-20T10:00:{59 - seed:02d}Z"))
            path = store.compact()
            assert path == tmp_path / "attempts.parquet"
            assert pq.read_table(path).sort_by("started_at").equals(store.table())
            assert [found["seed"] for found in store.rows()] == list(reversed(range(60)))
            assert len(names(store.attempts_folder)) == 2

    def test_it_is_never_there_and_out_of_date(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            store.commit(row())
            store.compact()
            store.commit(row(job_id="j2"))
            assert not store.compact_file.exists()

    def test_an_empty_run_compacts_to_an_empty_table(self, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        assert pq.read_table(RunStore(tmp_path).compact()).num_rows == 0


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


def test_the_error_survives_the_way_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(StoreError("what", "hint")))
    assert (error.message, error.hint, str(error)) == ("what", "hint", "what\n  hint")


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no run at"):
        read_run(tmp_path / "nothing")


def test_a_pipe_or_a_folder_that_is_named_like_a_part_is_left_alone(tmp_path: Path, row: MakeRow) -> None:
    with RunStore(tmp_path) as store:
        store.commit(row())
    os.mkfifo(tmp_path / "attempts" / "part-000003-9b889ec9.parquet")
    (tmp_path / "attempts" / "part-000004-9b889ec9.parquet").mkdir()
    assert read_run(tmp_path).table.num_rows == 1
    with RunStore(tmp_path) as again:
        assert again.committed() == {("j1-0123abcd", 1)}
