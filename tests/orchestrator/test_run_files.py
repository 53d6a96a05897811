"""Files of grades on their way into a run: with their row or not at all, after a kill again, regraded and reused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import runners.exams
from orchestrator import regrade as regrading
from orchestrator.errors import RunFolderError
from orchestrator.regrade import regrade
from orchestrator.terminal import Printer
from results.files import RunFiles, named_files
from results.store import RunStore, read_run
from results.tables import report
from runners.exams.base import Reply, Transcript
from runners.files import contents_of
from runners.orders import RowReady
from runners.row import grade_columns
from tests.orchestrator.inprocess import Agent, Behaviour, InProcessCluster, graded
from tests.orchestrator.test_growth import SPEC as GROWTH
from tests.orchestrator.test_growth import Sweeps, sweeps
from tests.results.conftest import make_row
from tests.runners.exams.sketch import PICTURE, SketchExam

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.orders import CellOrder, JobOrder

__all__ = ["sweeps"]

ROOT = Path(__file__).parents[2]
SPEC = GROWTH.replace('exams = ["todo"]', 'exams = ["sketch"]')
QUIET = Printer(None)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runners.exams._EXAMS, "sketch", "tests.runners.exams.sketch")


def drawn(reply: str, exam: SketchExam | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The columns of a graded reply, and its files."""
    exam = exam or SketchExam()
    task = exam.tasks()[0]
    grade = exam.grade(task, Transcript.of(task, Reply(reply)), None)  # type: ignore[arg-type]  # it runs nothing
    columns = grade_columns(grade, "only", 0.1) | {"scoring": "only", "reply": reply, "grader_version": "1"}
    return columns, contents_of(grade.files)


class Sketching(Agent):
    """Answers each job with its seed, and brings what the exam's grader left."""

    lost: str | None = None

    def run_job(self, lease_id: str, job: JobOrder) -> None:
        row, files = sketched(self.orders[lease_id], job)
        if self.lost is not None:
            files.pop(self.lost)
            self.lost = None
        self.events.append(RowReady(row=row, lease_id=lease_id, duration_s=1.0, files=files))


def sketched(order: CellOrder, job: JobOrder) -> tuple[dict[str, Any], dict[str, bytes]]:
    columns, files = drawn(f"a pelican of seed {job.seed}")
    return graded(order, job, **columns, hardware_class="hw"), files


def use(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, make: Any = Sketching) -> None:
    """Has the sweeps' cluster start agents of this kind."""
    cluster = InProcessCluster({"a": "box"}, lambda cluster, node: make(cluster, node, Behaviour()))
    monkeypatch.setattr("orchestrator.sweep.connect", lambda _: _Held(cluster))


class _Held:
    def __init__(self, cluster: InProcessCluster) -> None:
        self.cluster = cluster

    def __enter__(self) -> InProcessCluster:
        return self.cluster

    def __exit__(self, *_: object) -> None:
        pass


def content_of(folder: Path, row: Mapping[str, Any]) -> dict[str, bytes | None]:
    """What the files of a row hold, by name."""
    return {file.name: RunFiles(folder).read(file.sha256) for file in named_files(row["files"])}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_run(folder).table.to_pylist()
    return found


def test_files_of_grades_land_in_the_run_folder(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    use(sweeps, monkeypatch)
    assert sweeps.run(SPEC).complete
    folder = sweeps.folder / "run"
    for row in rows_of(folder):
        said = f"grader 1\na pelican of seed {row['seed']}".encode()
        assert content_of(folder, row) == {"reply.txt": said, "picture.svg": PICTURE.data}
    assert len(list((folder / "files").iterdir())) == 3  # the picture is every answer's
    assert "warning" not in sweeps.said
    assert sweeps.run(SPEC.replace('"1-2"', '"1-3"')).complete  # the folder is known to a run that grows
    assert len(list((folder / "files").iterdir())) == 4


def test_a_row_without_its_files_is_set_aside_and_its_job_runs_again(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(*arguments: Any) -> Agent:
        agent = Sketching(*arguments)
        agent.lost = PICTURE.sha256
        return agent

    use(sweeps, monkeypatch, forgetful)
    assert sweeps.run(SPEC).complete
    assert "the row names a file that did not come with it, or not as it was: 'picture.svg'" in sweeps.said
    folder = sweeps.folder / "run"
    rows = rows_of(folder)
    assert sorted((row["outcome"], row["final"]) for row in rows) == [("grader_crash", False), *[("passed", True)] * 2]
    assert all(None not in content_of(folder, row).values() for row in rows)


@pytest.mark.parametrize("step", ["_marked", "_write"])
def test_a_spooled_row_that_is_offered_again_brings_its_files_again(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The driver is killed when the files are there and the row is not."""
    offers: list[RowReady] = []

    class Offering(Sketching):
        def run_job(self, lease_id: str, job: JobOrder) -> None:
            super().run_job(lease_id, job)
            offers.append(self.events[-1])

    class KilledError(BaseException):
        """As good as SIGKILL: nothing of ours catches it."""

    def killed(*_: object) -> None:
        raise KilledError

    use(sweeps, monkeypatch, Offering)
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, step, killed)
        with pytest.raises(KilledError):
            sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    assert rows_of(folder) == []
    assert len(list((folder / "files").iterdir())) == 2
    (offer,) = offers
    spooled = (RowReady(row=offer.row, lease_id=None, duration_s=1.0, files=offer.files),)
    use(sweeps, monkeypatch, lambda cluster, node, _: Sketching(cluster, node, Behaviour(spooled=spooled)))
    assert sweeps.run(SPEC).complete
    rows = rows_of(folder)
    assert offer.row["reply"] in {row["reply"] for row in rows if row["attempt"] == 1}
    assert len(rows) == 2
    assert all(None not in content_of(folder, row).values() for row in rows)


def test_a_run_that_takes_rows_over_has_their_files(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    use(sweeps, monkeypatch)
    sweeps.run(SPEC, "one")
    assert sweeps.run(SPEC, "two", reuse=[sweeps.folder / "one"]).complete
    for row in rows_of(sweeps.folder / "two"):
        assert row["reused_from"]
        assert content_of(sweeps.folder / "two", row)["picture.svg"] == PICTURE.data
    (sweeps.folder / "one" / "files" / PICTURE.sha256).write_bytes(b"another picture")
    assert sweeps.run(SPEC, "three", reuse=[sweeps.folder / "one"]).complete
    assert "2 rows left out, as files that they name are gone from that run" in sweeps.said
    assert {row["reused_from"] for row in rows_of(sweeps.folder / "three")} == {None}


def test_a_run_that_loses_files_while_rows_are_taken_from_it_is_named(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(sweeps, monkeypatch)
    sweeps.run(SPEC, "one")
    read, looks = RunFiles.read, iter([True] * 4)

    def vanishing(files: RunFiles, sha256: str) -> bytes | None:
        there = files.folder.parent.name != "one" or next(looks, False)
        return read(files, sha256) if there else None

    monkeypatch.setattr(RunFiles, "read", vanishing)
    with pytest.raises(RunFolderError, match=r"it was changed while rows were taken from it: .*reply\.txt"):
        sweeps.run(SPEC, "two", reuse=[sweeps.folder / "one"])
    assert rows_of(sweeps.folder / "two") == []


def test_files_that_were_deleted_are_said_at_the_end_of_a_run(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    use(sweeps, monkeypatch)
    sweeps.run(SPEC)
    (sweeps.folder / "run" / "files" / PICTURE.sha256).unlink()
    assert sweeps.run(SPEC).complete
    assert "1 of 3 files that attempts name are gone, or changed" in sweeps.said


def saved(folder: Path, replies: list[str]) -> None:
    """A run of the exam, as another grader left it."""
    with RunStore(folder) as store:
        for seed, reply in enumerate(replies):
            columns, files = drawn(reply)
            named = {"job_id": f"v2-{seed}", "seed": seed, "exam": "sketch", "device": "cpu", "task": "main"}
            assert store.commit(make_row(**columns, **named), files.get)


def test_a_new_grade_leaves_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, ["pelican", "..."])
    exam = SketchExam(grader_version="2")
    monkeypatch.setattr(regrading, "get_exam", lambda _: exam)
    assert len(regrade(tmp_path, exam="sketch", out=QUIET).regraded) == 2
    by_grader = {(row["seed"], row["grader_version"]): row for row in rows_of(tmp_path)}
    for (seed, version), row in by_grader.items():
        said = f"grader {version}\n{['pelican', '...'][seed]}".encode()
        assert content_of(tmp_path, row) == {"reply.txt": said, "picture.svg": PICTURE.data}
        assert row["final"] == (version == "2")
    found = report(tmp_path).files
    assert found is not None
    assert (found.answers, found.files, found.missing) == (2, 3, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator import regrade as module
from orchestrator.terminal import Printer
from results import durable
from tests.runners.exams.sketch import SketchExam
number, calls, write = int(sys.argv[2]), 0, durable.write
def dying(*arguments):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*arguments)
durable.write = dying
module.get_exam = lambda name: SketchExam(grader_version="2")
module.regrade(Path(sys.argv[1]), exam="sketch", out=Printer(None))
"""


@pytest.mark.fault
def test_a_regrade_that_is_killed_names_no_file_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, [f"pelican {number}" for number in range(6)])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "4"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(rows_of(tmp_path)) == 6
    assert len(list((tmp_path / "files").glob("[!.]*"))) == 6 + 1 + 3  # three of the new grades' are there already
    monkeypatch.setattr(regrading, "get_exam", lambda _: SketchExam(grader_version="2"))
    assert len(regrade(tmp_path, exam="sketch", out=QUIET).regraded) == 6
    rows = rows_of(tmp_path)
    assert len(rows) == 12
    assert all(None not in content_of(tmp_path, row).values() for row in rows)
    assert not list((tmp_path / "files").glob(".*"))
