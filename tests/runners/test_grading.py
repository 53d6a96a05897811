"""The way of a row from the grader to the driver when the machine, the grader or the spool fails."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from results.rows import validate_row
from runners.chat import ChatError, ChatResult
from runners.errors import RunnersError
from runners.exams.base import Grade, Item, Reply, Specimen, Task, Transcript
from runners.grading import Answer, Grader
from runners.orders import JobOrder, RowReady
from runners.outcomes import Outcome
from runners.sandbox import Completed
from runners.spool import FORGOTTEN_S, Spool, clear_forgotten, sealed
from runners.told import told
from tests.runners.test_rowcheck import GRADED, IDENTITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runners.exams.base import Exam
    from runners.exams.box import Box

JOB = JobOrder(job_id="v1-a", attempt=1, exam="todo", prompt_version="1", seed=7, number=1, total=1)
TASK = Task("main", ())
FULL = Grade({"strict": 100.0}, 100.0, Outcome.PASSED, (Item("a", 100.0, 100.0, passed=True),), "log", "fence", "box")


class FakeExam:
    """An exam whose grader does what a test says."""

    name, grader_version, score_max, scorings, language = "todo", "1", 100.0, ("strict",), "python"
    needs: frozenset[str] = frozenset()

    def __init__(self, grade: Callable[[Path], Any]) -> None:
        self._grade = grade

    def grade(self, task: object, transcript: object, box: Box) -> Any:
        return self._grade(box.folder)

    def tasks(self) -> tuple[Task, ...]:
        return (TASK,)

    def specimens(self) -> list[Specimen]:
        return []


class FakeSandbox:
    """Ends one run after the other as a test says."""

    isolation = "box"

    def __init__(self) -> None:
        self.ends: list[Completed] = []

    def run(self, *_: object, **__: object) -> Completed:
        return self.ends.pop(0)


class ProgramExam(FakeExam):
    """Full marks for a program that ends well, none for any other."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def grade(self, task: object, transcript: object, box: Box) -> Any:
        self.folders.append(box.folder)
        done = box.run(["program"])
        return FULL if done.status == "ok" else replace(FULL, scores={"strict": 0.0}, outcome=Outcome.RUNTIME_ERROR)


class Desk:
    """A grader with everything around it."""

    def __init__(self, folder: Path, *, grading_s: float = 60.0, spool_s: float = 60.0) -> None:
        self.spool = Spool(folder)
        self.told: list[RowReady] = []
        self.notes = 0
        self.sandbox = FakeSandbox()
        self.grader = Grader(
            self.sandbox,
            lease_id="L1",
            scoring={"todo": "strict"},
            spool=self.spool,
            emit=self.told.append,
            note_traceback=self._note,
            grading_s=grading_s,
            spool_s=spool_s,
        )

    def _note(self) -> None:
        self.notes += 1

    def submit(self, grade: Callable[[Path], Any] | FakeExam, job_id: str = "v1-a", **reply: Any) -> None:
        identity = {**IDENTITY, "job_id": job_id}
        result = ChatResult(
            text="text", reasoning="", finish_reason="stop", events=(), started_s=0.0, ended_s=1.0, warnings=()
        )
        answer = Answer(
            job=JOB,
            exam=cast("Exam", grade if isinstance(grade, FakeExam) else FakeExam(grade)),
            task=TASK,
            transcript=Transcript.of(TASK, Reply("text", finish_reason="stop")),
            identity=identity,
            columns={**identity, "reply": "text", "context": 10},
            reasons={},
            result=replace(result, **reply),
            failure=None,
            started=datetime.now(UTC),
            started_s=time.monotonic(),
        )
        self.grader.submit(answer)

    def submit_failure(self, failure: ChatError) -> None:
        """What a solve left that ended so."""
        answer = Answer(
            job=JOB,
            exam=cast("Exam", FakeExam(lambda _: FULL)),
            task=TASK,
            transcript=None,
            identity=IDENTITY,
            columns={**IDENTITY, "reply": "text", "context": 10},
            reasons={},
            result=failure.partial,
            failure=failure,
            started=datetime.now(UTC),
            started_s=time.monotonic(),
        )
        self.grader.submit(answer)

    def only_row(self) -> dict[str, Any]:
        """The one row that was told, which is the one that was spooled, and fits the table."""
        (ready,) = self.told
        ((spooled, _, files),) = self.spool.rows()
        assert spooled == json.loads(json.dumps(ready.row))
        assert files == ready.files
        validate_row({**spooled, "final": True})
        return spooled


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "spool")
    yield made
    assert made.grader.close(10)


WELL = Completed.of(b"", b"", exit_code=0, signal=None, limit=None, wall_s=0.1)
KILLED = Completed.of(b"", b"", exit_code=None, signal=9, limit=None, wall_s=0.1)
WAITED = Completed.of(b"", b"", exit_code=None, signal=None, limit="time_limit", wall_s=5.0, idle=True)
TURNED = Completed.of(b"", b"", exit_code=None, signal=None, limit="time_limit", wall_s=5.0)
CRASHED = Completed.of(b"", b"", exit_code=None, signal=11, limit=None, wall_s=0.1)


@pytest.mark.parametrize(
    ("ends", "score", "times"),
    [
        ([WELL], 100.0, 1),
        ([KILLED, WELL], 100.0, 2),  # the machine did it, and does it once
        ([KILLED, KILLED], 0.0, 2),  # the program does it each time
        ([WAITED, WELL], 100.0, 2),
        ([WAITED, WAITED], 0.0, 2),
        ([TURNED], 0.0, 1),
        ([CRASHED], 0.0, 1),
    ],
)
def test_a_program_that_was_killed_or_made_to_wait_is_graded_once_more(
    desk: Desk, ends: list[Completed], score: float, times: int
) -> None:
    desk.sandbox.ends = list(ends)
    exam = ProgramExam()
    desk.submit(exam)
    desk.grader.drain()
    assert desk.only_row()["score"] == score
    assert len(set(exam.folders)) == times
    assert not any(folder.exists() for folder in exam.folders)


def test_a_grade_is_spooled_and_told(desk: Desk) -> None:
    desk.submit(lambda _: FULL)
    desk.grader.drain()
    row = desk.only_row()
    assert (row["outcome"], row["score"], row["reply"]) == ("passed", 100.0, "text")


@pytest.mark.parametrize(
    ("how", "outcome", "error"),
    [
        ({"context_full": True}, "context_overflow", "the answer filled the context of 10 tokens"),
        ({"cut_short": "the server claimed it"}, "max_tokens", "the server claimed it"),
        ({}, "max_tokens", None),
    ],
)
def test_a_reply_that_was_cut_off_says_by_what(
    desk: Desk, how: dict[str, Any], outcome: str, error: str | None
) -> None:
    desk.submit(lambda _: replace(FULL, outcome=Outcome.MAX_TOKENS), finish_reason="length", **how)
    desk.grader.drain()
    row = desk.only_row()
    assert (row["outcome"], row["outcome_class"], row["error"]) == (outcome, "budget", error)


def test_a_temporary_folder_that_is_gone_is_the_machines_failure(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left a row without an outcome, on which the driver and every later start of it ended."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    desk.submit(lambda _: FULL)
    desk.grader.drain()
    row = desk.only_row()
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("grader_crash", "infrastructure", None)
    assert "No such file or directory" in row["error"]
    assert str(tmp_path / "gone") in row["error"]
    assert row["reply"] == "text"


def test_a_grading_folder_that_cannot_be_removed_costs_nobody_the_grade(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> bool:
        shutil.rmtree(path)
        raise PermissionError("held by somebody")

    monkeypatch.setattr("runners.sandbox.scratch.remove_tree", broken)
    desk.submit(lambda _: FULL)
    desk.grader.drain()
    assert desk.only_row()["score"] == 100.0
    assert desk.notes == 1


def _raises(error: BaseException) -> Callable[[Path], Any]:
    def grade(_: Path) -> Any:
        raise error

    return grade


def _grade(**changes: Any) -> Callable[[Path], Any]:
    values = {name: getattr(FULL, name) for name in Grade.__dataclass_fields__}
    return lambda _: Grade(**{**values, **changes})


@pytest.mark.parametrize(
    ("grade", "named"),
    [
        (_raises(ZeroDivisionError("a bug")), "the grader failed: ZeroDivisionError: a bug"),
        (_raises(SystemExit(3)), "the grader failed: SystemExit: 3"),
        (_raises(MemoryError()), "the grader failed: MemoryError"),
        (
            _raises(OSError(28, "No space left on device", "/tmp/x")),
            "could not grade: No space left on device (/tmp/x)",
        ),
        (_raises(RunnersError("the sandbox is not there")), "the sandbox is not there"),
        (lambda _: None, "the grader failed: AttributeError"),
        (_grade(scores={}), "the grader failed: KeyError: 'strict'"),
        (_grade(scores={"strict": math.nan}), "score was not finite: nan"),
        (_grade(scores={"strict": math.inf}), "score was not finite: inf"),
        (_grade(scores={"strict": 101.0}), "score 101.0 is above score_max 100.0"),
        (_grade(scores={"strict": object()}), "the grader failed: TypeError"),
        (_grade(outcome="odd"), "the grader failed: AttributeError"),
        (_grade(items=(1,)), "the grader failed: TypeError"),
    ],
)
def test_whatever_a_grader_does_its_row_is_complete(desk: Desk, grade: Callable[[Path], Any], named: str) -> None:
    desk.submit(grade)
    desk.grader.drain()
    row = desk.only_row()
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("grader_crash", "infrastructure", None)
    assert named in row["error"]
    assert row["reply"] == "text"
    desk.submit(lambda _: FULL, "v1-b")
    desk.grader.drain()
    assert desk.told[-1].row["score"] == 100.0


class Mute(Exception):  # noqa: N818 - a grader's own, named as its author likes
    """An error that cannot be formatted."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class MuteForUsersError(RunnersError):
    __str__ = Mute.__str__


class MuteExit(BaseException):
    __str__ = Mute.__str__


@pytest.mark.parametrize("error", [Mute(), MuteForUsersError("x"), MuteExit()])
def test_an_error_that_cannot_be_formatted_ends_neither_grader_nor_sweep(desk: Desk, error: BaseException) -> None:
    desk.submit(_raises(error))
    desk.grader.drain()
    row = desk.only_row()
    assert row["outcome"] == "grader_crash"
    assert row["error"].startswith("the grader failed: ")
    desk.submit(lambda _: FULL, "v1-b")
    desk.grader.drain()
    assert desk.told[-1].row["score"] == 100.0


def test_what_an_error_says_is_bounded() -> None:
    assert told(ValueError("x" * 10_000_000)).startswith("ValueError: xxx")
    assert len(told(ValueError("x" * 10_000_000))) < 3000
    assert told(Mute()) == "Mute (its text cannot be had: its __str__ raises)"
    assert told(KeyError()) == "KeyError"


def test_a_log_of_a_hundred_megabytes_is_cut(desk: Desk) -> None:
    desk.submit(_grade(log="\udcff" + "x" * 100_000_000))
    desk.grader.drain()
    row = desk.only_row()
    assert row["score"] == 100.0
    assert len(row["grader_log"]) < 1 << 20
    assert "[quantsweep left out 98," in row["grader_log"]


def test_a_row_that_cannot_be_spooled_is_told_all_the_same_and_ends_the_lease(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    desk = Desk(tmp_path / "spool")
    desk.submit(lambda _: FULL)
    with pytest.raises(RunnersError, match="cannot be kept on this node"):
        desk.grader.drain()
    assert [ready.row["score"] for ready in desk.told] == [100.0]
    assert desk.grader.close(10)


def test_a_disk_that_hangs_hangs_nobody_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: release.wait(60))
    desk = Desk(tmp_path / "spool", spool_s=0.3)
    desk.submit(lambda _: FULL)
    with pytest.raises(RunnersError, match=r"writing a row to the spool did not come back within 0\.3 s"):
        desk.grader.drain()
    release.set()
    assert [ready.row["score"] for ready in desk.told] == [100.0]
    assert desk.grader.close(10)


def test_a_spool_folder_that_is_deleted_meanwhile_is_made_again(desk: Desk) -> None:
    desk.submit(lambda _: FULL)
    desk.grader.drain()
    shutil.rmtree(desk.spool.folder)
    desk.submit(lambda _: FULL, "v1-b")
    desk.grader.drain()
    assert [kept.row["job_id"] for kept in desk.spool.rows()] == ["v1-b"]


def test_a_grader_that_hangs_is_given_up_and_speaks_no_second_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "spool", grading_s=0.3)
    release = threading.Event()

    def hang(_: Path) -> Grade:
        release.wait(60)
        return FULL

    desk.submit(hang)
    with pytest.raises(RunnersError, match=r"did not end within 0\.3 s"):
        desk.grader.wait()
    row = desk.only_row()
    assert (row["outcome"], row["score"]) == ("grader_crash", None)
    assert not desk.grader.close(0.1)
    release.set()
    assert desk.grader.close(10)
    assert len(desk.told) == 1


# --- the spool itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"row": {"job_id": "v1-a", "attempt": 1}, "duration_s": 1}).encode(),
        json.dumps({"row": {**GRADED, "outcome": None}, "duration_s": 1}).encode(),
        json.dumps({"row": {**GRADED, "score": math.nan}, "duration_s": 1}).encode(),
        json.dumps({"row": {**GRADED, "new_column": 1}, "duration_s": 1}).encode(),
        json.dumps({"row": {**GRADED, "attempt": 2}, "duration_s": 1}).encode(),
        json.dumps({"row": [1], "duration_s": 1}).encode(),
        json.dumps({"row": GRADED, "duration_s": "long"}).encode(),
    ],
)
@pytest.mark.parametrize("seal", [True, False])
def test_a_spooled_row_that_is_none_is_set_aside_at_reading(tmp_path: Path, content: bytes, seal: bool) -> None:
    if seal:
        content = sealed(content.decode(errors="replace")).encode()
    spool = Spool(tmp_path)
    spool.put({**GRADED, "job_id": "v1-good"}, 2.0)
    (tmp_path / "v1-a-1.json").write_bytes(content)
    assert [kept.row["job_id"] for kept in spool.rows()] == ["v1-good"]
    assert (tmp_path / "v1-a-1.damaged").read_bytes() == content


@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_spooled_row_that_was_changed_is_set_aside(tmp_path: Path, at: float) -> None:
    spool = Spool(tmp_path)
    spool.put({**GRADED, "reply": "text " * 2000}, 2.0)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)
    assert spool.rows() == []
    assert path.with_suffix(".damaged").read_bytes() == content


def test_a_spooled_file_beyond_any_row_is_not_even_read(tmp_path: Path) -> None:
    with (tmp_path / "v1-a-1.json").open("wb") as file:
        file.truncate(10 << 30)
    assert Spool(tmp_path).rows() == []
    assert (tmp_path / "v1-a-1.damaged").exists()


def test_what_a_killed_writer_began_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    for pid in (gone, os.getpid()):
        (tmp_path / f"v1-a-1.{pid}.tmp").write_text("half")
    assert Spool(tmp_path).rows() == []
    assert [path.name for path in tmp_path.iterdir()] == [f"v1-a-1.{os.getpid()}.tmp"]


def test_rows_that_nobody_asked_for_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSWEEP_STATE", str(tmp_path))
    clear_forgotten()
    for run in ("old", "mixed"):
        Spool.of_run(run).put({**GRADED, "job_id": "v1-old"}, 1.0)
        (path,) = Spool.of_run(run).folder.iterdir()
        os.utime(path, (0, time.time() - FORGOTTEN_S - 60))
    Spool.of_run("mixed").put({**GRADED, "job_id": "v1-new"}, 1.0)
    clear_forgotten()
    assert [path.name for path in (tmp_path / "spool").rglob("*")] == ["mixed", "v1-new-1.json"]


def test_a_row_that_json_cannot_hold_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for bad in (math.nan, object()):
        with pytest.raises(RunnersError, match="cannot be kept on this node"):
            Spool(tmp_path).put({**GRADED, "score": bad}, 1.0)
    assert not list(tmp_path.glob("*.json"))
