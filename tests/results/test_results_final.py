"""Which attempt of a job is final: retries, late rows, regrades, and jobs that are taken out and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import parts
from results.reading import attempt_files, read_file
from results.rows import complete_row
from results.store import RunStore
from tests.results.looking import finals, write_shard

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow


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
