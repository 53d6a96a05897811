"""Run folders in which something else stands by the name of a file of ours, or that were changed by hand since."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.errors import RunFolderError, SweepError
from orchestrator.journal import DAMAGED, Journal, read_journal
from orchestrator.regrade import regrade
from orchestrator.rundir import RunDir
from orchestrator.terminal import Printer
from results import durable
from results.plainfile import NotPlainError, open_plain, read_plain
from results.store import RunStore, StoreError
from tests.orchestrator.test_growth import MORE_SEEDS, SPEC, Sweeps, sweeps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["sweeps"]

HANG_S = 120


@pytest.fixture(autouse=True)
def hang_guard() -> Iterator[None]:
    """A pipe that is read would keep its reader for ever."""

    def hung(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("of somebody else\n")
    return path


def make_pipe(path: Path, _precious: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def make_endless(path: Path, _precious: Path) -> None:
    path.symlink_to("/dev/zero")


def make_folder(path: Path, _precious: Path) -> None:
    path.mkdir()


def make_socket(path: Path, _precious: Path) -> None:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(path))


def make_vast(path: Path, _precious: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


ODD = [
    (make_pipe, "it is a pipe"),
    (make_link, "it is a link"),
    (make_endless, "it is a link"),
    (make_folder, "it is a folder"),
    (make_socket, "it is a socket"),
    (make_vast, "1,099,511,627,776 bytes"),
]


def put(path: Path, make: Callable[[Path, Path], None], precious: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path, precious)


@pytest.mark.parametrize(("make", "reason"), ODD)
def test_only_plain_files_are_opened(
    tmp_path: Path, precious: Path, make: Callable[[Path, Path], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(path := tmp_path / "found", precious)
    with pytest.raises(NotPlainError, match=reason):
        read_plain(path, most_bytes=1 << 30)
    with pytest.raises(NotPlainError, match=reason):
        open_plain(path, os.O_RDWR | os.O_CREAT, most_bytes=1 << 30)
    assert precious.read_text() == "of somebody else\n"


@pytest.mark.parametrize(
    ("name", "text", "kinds"),
    [
        ("run.json", SPEC, ODD),
        ("plan.json", MORE_SEEDS, ODD),
        ("spec.toml", MORE_SEEDS, ODD),
        ("journal.jsonl", SPEC, ODD),
        ("lock", SPEC, ODD[:-1]),  # what is in a lock is never read as a whole
        ("attempts.lock", SPEC, ODD[:-1]),
        ("versions", MORE_SEEDS, [ODD[0], ODD[1], ODD[4]]),
    ],
)
def test_what_stands_in_the_place_of_a_file_is_named(
    sweeps: Sweeps, precious: Path, name: str, text: str, kinds: list[Any]
) -> None:
    sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    kept = sweeps.folder / "kept"
    shutil.copytree(folder, kept)
    for make, reason in kinds:
        put(folder / name, make, precious)
        with pytest.raises((SweepError, StoreError)) as refused:
            sweeps.run(text)
        assert f"{folder / name}: " in str(refused.value)
        assert reason in str(refused.value)
        assert precious.read_text() == "of somebody else\n"
        assert RunDir(folder).jobs_planned() in {2, None}
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
    assert sweeps.run(SPEC).complete
    assert sweeps.given == []


def test_a_regrade_names_them_too(sweeps: Sweeps, precious: Path) -> None:
    sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    for name in ("lock", "attempts.lock", "journal.jsonl"):
        before = (folder / name).read_bytes()
        put(folder / name, make_pipe, precious)
        with pytest.raises((RunFolderError, StoreError), match=f"{name}: it is a pipe"):
            regrade(folder, exam=None, out=Printer(None))
        (folder / name).unlink()
        (folder / name).write_bytes(before)


def test_a_plan_that_is_a_pipe_is_made_anew_from_the_same_spec(sweeps: Sweeps, precious: Path) -> None:
    sweeps.run(SPEC)
    plan = sweeps.folder / "run" / "plan.json"
    before = plan.read_bytes()
    put(plan, make_pipe, precious)
    assert sweeps.run(SPEC).complete
    assert "plan.json: the plan of this run cannot be read: it is a pipe" in sweeps.said
    assert plan.read_bytes() == before


def test_a_quarantine_that_is_a_file_is_named(sweeps: Sweeps) -> None:
    sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    (folder / "quarantine").write_text("x")
    (folder / "attempts" / "part-000009-12345678.parquet").write_text("torn")
    with pytest.raises(StoreError, match=r"quarantine: it is a file, and has to be a folder"):
        RunStore(folder)
    (folder / "quarantine").unlink()
    with RunStore(folder) as store:
        assert len(store.quarantined) == 1


def test_attempts_that_are_a_file_or_a_loop_are_named(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("x")
    with pytest.raises(StoreError, match=r"attempts: it is a file, and has to be a folder"):
        RunStore(tmp_path)
    (tmp_path / "attempts").unlink()
    (tmp_path / "attempts").symlink_to("attempts")
    with pytest.raises(StoreError, match=r"attempts: it is a link, and has to be a folder"):
        RunStore(tmp_path)


def test_leftovers_that_are_no_files_are_left_alone(tmp_path: Path, precious: Path) -> None:
    for number, (make, _) in enumerate(ODD[:4]):
        make(tmp_path / f".{number}.tmp", precious)
    (tmp_path / ".real.tmp").touch()
    assert durable.clean_leftovers(tmp_path) == 1
    assert precious.exists()


def test_a_log_is_not_written_through_a_link_or_into_a_pipe(tmp_path: Path, precious: Path) -> None:
    folder = RunDir(tmp_path)
    folder.write_log("L1.log", "loaded\n")
    assert (folder.logs / "L1.log").read_text() == "loaded\n"
    for make, reason in ODD[:2]:
        put(folder.logs / "L1.log", make, precious)
        with pytest.raises(NotPlainError, match=reason):
            folder.write_log("L1.log", "loaded\n")
    assert precious.read_text() == "of somebody else\n"


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("values", [{"jobs": []}, {"cells": []}, {"cells": [], "jobs": []}, {"scoring": {}}])
def test_a_plan_that_was_changed_takes_no_row_out(sweeps: Sweeps, values: dict[str, Any]) -> None:
    sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    before = (folder / "plan.json").read_bytes()
    # As it was written by an earlier version, which kept no checksum of it, and as it is today.
    for reason in ("", "it is not as it was written"):
        if not reason:
            identity = json.loads((folder / "run.json").read_text())
            del identity["plan_sha256"]
            (folder / "run.json").write_text(json.dumps(identity))
        changed(folder / "plan.json", **values)
        with pytest.raises(RunFolderError, match=f"plan of this run cannot be read: {reason}"):
            sweeps.run(MORE_SEEDS)
        assert sweeps.run(SPEC).complete
        assert sweeps.given == []
        assert len(sweeps.counted()) == 2
        assert (folder / "plan.json").read_bytes() == before
    assert "plan_sha256" in json.loads((folder / "run.json").read_text())


def test_a_plan_that_lost_one_job_is_not_followed(sweeps: Sweeps) -> None:
    sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    changed(folder / "plan.json", jobs=json.loads((folder / "plan.json").read_text())["jobs"][:1])
    assert sweeps.run(SPEC).complete
    assert "made anew" in sweeps.said
    assert len(sweeps.counted()) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"jobs": float("inf")},
        {"jobs": -(10**400)},
        {"jobs": True},
        {"run_id": None},
        {"spec_digest": 5},
        {"version": 10**9},
        {"version": "1"},
        {"plan_sha256": None},
    ],
)
def test_an_identity_with_odd_values_is_named(sweeps: Sweeps, values: dict[str, Any]) -> None:
    sweeps.run(SPEC)
    folder = RunDir(sweeps.folder / "run")
    changed(folder.identity, **values)
    assert folder.jobs_planned() == 2  # the plan says so too
    with pytest.raises(RunFolderError, match=r"run\.json: cannot be read as a run's identity"):
        sweeps.run(SPEC)


def test_a_spec_of_a_run_that_is_no_text_is_named(sweeps: Sweeps) -> None:
    sweeps.run(SPEC)
    spec = sweeps.folder / "run" / "spec.toml"
    spec.write_bytes(b"\xff\xfe")
    with pytest.raises(RunFolderError, match=r"spec\.toml: the spec of this run cannot be read: byte 0 is not UTF-8"):
        sweeps.run(MORE_SEEDS)
    assert sweeps.run(SPEC).complete


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "yesterday"},
        {"at": "2026-11-21T19:00:00"},  # of no time zone
        {"at": 5},
        {"attempt": 10**18},
        {"attempt": -5},
        {"attempt": True},
        {"jobs": 5},
        {"lease_id": ["L1"]},
        {"job_id": {}},
    ],
)
def test_a_line_with_odd_values_is_passed_over_and_said(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps({"event": "assigned", **fields}) + "\n")
    assert [line["event"] for line in read_journal(path)] == [DAMAGED]


def test_a_line_cannot_say_that_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event":"damaged","events":1000000}\n')
    assert list(read_journal(path)) == [{"event": DAMAGED, "line": 1, "events": 1}]


def test_a_line_that_is_longer_than_any_of_ours_costs_no_more_than_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("first")
    with path.open("ab") as file:
        file.write(b"x" * (9 << 20) + b"\n")
    with Journal(path) as journal:
        journal.append("last")
    assert [(line["event"], line.get("line")) for line in read_journal(path)] == [
        ("first", None),
        (DAMAGED, 2),
        ("last", None),
    ]


def test_lines_of_the_journal_that_nothing_can_be_made_of_stop_neither_a_run_nor_a_regrade(sweeps: Sweeps) -> None:
    sweeps.run(SPEC)
    folder = sweeps.folder / "run"
    with (folder / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"event": "x", "lease_id": "L" + "9" * 5000}) + "\n")
        file.write(json.dumps({"event": "x", "lease_id": "L\u0663"}) + "\n")
        file.write(json.dumps({"event": "regrade_started", "exam": None, "versions": {"todo": "2"}}) + "\n")
        file.write(json.dumps({"event": "regraded"}) + "\n")
    assert sweeps.run(SPEC).complete
    assert sweeps.run(MORE_SEEDS).complete
    found = regrade(folder, exam="todo", out=Printer(None))
    assert len(found.regraded) + len(found.left) == 4
