from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import durable
from results.reading import read_run
from results.schema import COLUMNS, SchemaError, arrow_schema
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
        store = RunStore(tmp_path / "run")
        assert store.commit(row(reply="hello"))
        for reader in (store, RunStore(tmp_path / "run")):
            assert reader.committed() == {("j1-0123abcd", 1)}
            assert reader.finals() == {"j1-0123abcd": "model"}
            assert [found["reply"] for found in reader.rows()] == ["hello"]

    def test_the_first_commit_of_an_attempt_stands(self, tmp_path: Path, row: MakeRow) -> None:
        one, other = RunStore(tmp_path), RunStore(tmp_path)
        assert one.commit(row(reply="first"))
        assert not one.commit(row(reply="second"))
        assert not other.commit(row(reply="third"))  # it has not seen the first, and the file system tells it
        assert other.committed() == one.committed()
        assert [found["reply"] for found in other.rows()] == ["first"]

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
        assert names(store.attempts_folder) == ["j1-0123abcd-1.parquet"]

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot use the run folder"):
            RunStore(tmp_path / "file" / "run")


class TestFinal:
    def test_a_retry_takes_the_mark_from_an_infrastructure_failure(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        store = RunStore(tmp_path)
        store.commit(infrastructure_row(final=True))
        assert store.finals() == {"j1-0123abcd": "infrastructure"}
        store = RunStore(tmp_path)
        assert store.commit(row(attempt=2))
        assert finals(store) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}
        assert store.finals() == RunStore(tmp_path).finals() == {"j1-0123abcd": "model"}

    def test_a_second_failure_takes_it_as_well(self, tmp_path: Path, infrastructure_row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(infrastructure_row())
        store.commit(infrastructure_row(attempt=2))
        assert finals(store) == {("j1-0123abcd", 1): False, ("j1-0123abcd", 2): True}

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
        store = RunStore(tmp_path)
        store.commit(infrastructure_row())
        (store.attempts_folder / "j1-0123abcd-1.parquet").write_bytes(b"PAR1")
        assert store.commit(row(attempt=2))
        assert finals(store) == {("j1-0123abcd", 2): True}
        assert len(store.quarantined) == 1

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
            store = RunStore(folder) if restart else store
            store.commit((row if scored else infrastructure_row)(attempt=attempt))
            marked = [found for found in store.rows() if found["final"]]
            assert len(marked) == 1
            assert store.finals() == {marked[0]["job_id"]: marked[0]["outcome_class"]}
            assert scored_final is None or marked[0]["attempt"] == scored_final
            scored_final = marked[0]["attempt"] if marked[0]["score"] is not None else None


class TestDamage:
    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_cut_or_changed_file_is_set_aside_and_its_job_runs_again(
        self, tmp_path_factory: pytest.TempPathFactory, row: MakeRow, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("run")
        store = RunStore(folder)
        store.commit(row(job_id="sound"))
        store.commit(row(job_id="hurt", reply="a reply worth having " * 20))
        path = store.attempts_folder / "hurt-1.parquet"
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
        assert "sound" in reading.table["job_id"].to_pylist()
        again = RunStore(folder)
        assert again.committed() <= {("sound", 1), ("hurt", 1)}
        if ("hurt", 1) in again.committed():  # the change fell on a byte that carries nothing, such as the first magic
            assert again.table().to_pylist() == store.table().to_pylist()
            return
        assert [torn.path for torn in reading.torn] == [path]
        assert [torn.path.parent.name for torn in again.quarantined] == ["quarantine"]
        assert not path.exists()
        assert again.commit(row(job_id="hurt"))
        assert RunStore(folder).committed() == {("sound", 1), ("hurt", 1)}

    def test_reading_changes_nothing(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
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
        store = RunStore(tmp_path)
        store.commit(row())
        path = store.attempts_folder / "j1-0123abcd-1.parquet"
        (store.attempts_folder / "copy-7.parquet").write_bytes(path.read_bytes())
        assert RunStore(tmp_path).committed() == {("j1-0123abcd", 1)}

    def test_other_peoples_files_are_left_alone(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(row())
        notes = store.attempts_folder / "notes.txt"
        notes.write_text("mine")
        assert RunStore(tmp_path).quarantined == ()
        assert notes.read_text() == "mine"

    def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(self, tmp_path: Path) -> None:
        import fcntl

        store = RunStore(tmp_path)
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


class TestVersions:
    def test_a_file_from_before_a_column_existed_reads_with_nulls(self, tmp_path: Path, row: MakeRow) -> None:
        old = {name: [value] for name, value in row(job_id="old").items() if name not in {"started_at", "cold"}}
        write_shard(tmp_path / "attempts", "old-1.parquet", old | {"schema_version": [0]})
        store = RunStore(tmp_path)
        store.commit(row(job_id="new"))
        table = store.table()
        assert table.schema == arrow_schema()
        cold = dict(zip(table["job_id"].to_pylist(), table["cold"].to_pylist(), strict=True))
        assert cold == {"old": None, "new": False}

    def test_columns_of_a_later_version_are_left_out(self, tmp_path: Path, row: MakeRow) -> None:
        later = {name: [value] for name, value in row(job_id="x").items() if name != "started_at"}
        write_shard(tmp_path / "attempts", "x-1.parquet", later | {"taste": ["good"], "schema_version": [2]})
        assert RunStore(tmp_path).table().column_names == [column.name for column in COLUMNS]

    def test_narrower_numbers_are_widened(self, tmp_path: Path, row: MakeRow) -> None:
        import pyarrow as pa

        narrow: dict[str, Any] = {name: [value] for name, value in row(job_id="x").items() if name != "started_at"}
        narrow |= {"attempt": pa.array([1], pa.int8()), "schema_version": [0], "score": pa.array([60], pa.int32())}
        write_shard(tmp_path / "attempts", "x-1.parquet", narrow)
        assert RunStore(tmp_path).rows()[0]["score"] == 60.0

    def test_a_later_version_that_means_something_else_is_refused_and_kept(self, tmp_path: Path, row: MakeRow) -> None:
        later = {name: [value] for name, value in row(job_id="x").items() if name != "started_at"}
        path = write_shard(tmp_path / "attempts", "x-1.parquet", later | {"score": ["high"], "schema_version": [2]})
        with pytest.raises(StoreError, match="written by a newer quantsweep"):
            RunStore(tmp_path)
        assert path.exists()


class TestCompact:
    def test_one_file_beside_the_folder_holds_every_attempt(self, tmp_path: Path, row: MakeRow) -> None:
        import pyarrow.parquet as pq

        store = RunStore(tmp_path)
        for seed in range(20):
            store.commit(row(job_id=f"j{seed}", seed=seed, started_at=f"2026-11-20T10:00:{59 - seed}Z"))
        path = store.compact()
        assert path == tmp_path / "attempts.parquet"
        assert pq.read_table(path).to_pylist() == store.rows()
        assert [found["seed"] for found in store.rows()] == list(reversed(range(20)))
        assert len(names(store.attempts_folder)) == 20

    def test_it_is_never_there_and_out_of_date(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
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
        one, other = RunStore(tmp_path), RunStore(tmp_path)
        assert one.commit(row(reply="first"))
        assert not other.commit(row(reply="second"))
        assert [found["reply"] for found in one.rows()] == ["first"]
        assert not any(name.endswith(".tmp") for name in names(one.attempts_folder))

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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False, timeout=30
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=30)


class TestFullDisk:
    def test_it_is_said_loses_nothing_and_goes_on_when_there_is_room(self, small_disk: Path, row: MakeRow) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"\0" * 100_000)
        store = RunStore(small_disk / "run")
        with pytest.raises(StoreError) as caught:  # noqa: PT012 - which commit meets the full disk is the disk's affair
            for number in range(100):
                store.commit(row(job_id=f"j{number}"))
        done = len(store.committed())
        assert 0 < done < 100
        assert "No space left" in str(caught.value)
        assert f"What was committed before ({done} attempts) is safe" in str(caught.value)
        assert "start the same sweep again" in str(caught.value)
        with pytest.raises(StoreError, match=r"cannot write .*attempts\.parquet"):
            store.compact()
        assert len(RunStore(small_disk / "run").committed()) == done
        assert not any(name.startswith(".") for name in names(store.attempts_folder))
        ballast.unlink()
        assert store.commit(row(job_id=f"j{done}"))
        assert len(RunStore(small_disk / "run").committed()) == done + 1

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
