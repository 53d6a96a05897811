"""A run's attempts: committed once, there for the next process, refused to a second writer, compacted."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from results.reading import read_run
from results.rows import SchemaError
from results.store import Attempt, RunStore, StoreError
from tests.results.looking import names

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow


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
                Attempt("a", 1, True, "server_crash", "infrastructure", "cpu-x", "n1", None, score_max=100.0),
                Attempt("b", 1, True, "passed", "model", "cpu-x", "n1", "GPU0", score=100.0, score_max=100.0),
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
