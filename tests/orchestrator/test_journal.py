"""The journal: what is read back after a writer that died anywhere."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RunFolderError
from orchestrator.journal import DAMAGED, Journal, read_journal

if TYPE_CHECKING:
    from pathlib import Path


def test_events_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("one", job_id="a")
        journal.append("two", durable=True, text="ä\nb")
    with Journal(path) as journal:
        journal.append("three")
    assert [(e["event"], e.get("text")) for e in read_journal(path)] == [
        ("one", None),
        ("two", "ä\nb"),
        ("three", None),
    ]


def test_no_journal_is_no_history(tmp_path: Path) -> None:
    assert list(read_journal(tmp_path / "none")) == []


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_torn_end_costs_one_event_at_most(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal(path) as journal:
        for number in range(5):
            journal.append("event", number=number)
    os.truncate(path, max(0, path.stat().st_size - cut))
    kept = [event["number"] for event in read_journal(path)]
    assert kept == list(range(len(kept)))
    with Journal(path) as journal:
        journal.append("event", number=99)
    assert [event["number"] for event in read_journal(path)] == [*kept, 99]


def test_damage_in_the_middle_costs_the_lines_it_hit_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for number in range(5):
            journal.append("event", number=number)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"nonsense\n", lines[1].rstrip(), lines[2], lines[3], b"\xff\0\n", lines[4]]))
    assert [(e["event"], e.get("number"), e.get("events")) for e in read_journal(path)] == [
        ("event", 0, None),
        (DAMAGED, None, 1),
        (DAMAGED, None, 2),
        ("event", 3, None),
        (DAMAGED, None, 1),
        ("event", 4, None),
    ]


def test_lines_of_earlier_versions_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event":"a","crc":1}\n{"event":"b"}\n')
    with Journal(path) as journal:
        journal.append("c")
    assert [event["event"] for event in read_journal(path)] == ["a", "b", "c"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_makes_another_event_of_a_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        for number in range(3):
            journal.append("assigned", job_id=f"j{number}", attempt=number)
    before = [dict(event) for event in read_journal(path)]
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    after = [dict(event) for event in read_journal(path)]
    kept = [event for event in after if event["event"] != DAMAGED]
    lost = sum(event["events"] for event in after if event["event"] == DAMAGED)
    assert all(any(event.items() >= one.items() for one in before) for event in kept)
    # The last line, if it does not end any more, is one that was being written.
    assert len(kept) + lost >= len(before) - (not content.endswith(b"\n"))


@pytest.mark.parametrize("room", [1, 30])
def test_a_line_that_does_not_fit_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path, room: int) -> None:
    """The disk takes a part of the line; then there is room again, and the same driver goes on."""
    path = tmp_path / "journal.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as journal:
        journal.append("one")
        whole = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, before[1]))
        try:
            for _ in range(2):
                with pytest.raises(RunFolderError, match="File too large"):
                    journal.append("two")
                assert path.read_bytes() == whole
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        journal.append("three")
    assert [event["event"] for event in read_journal(path)] == ["one", "three"]


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        journal.append("one", text="x" * 50)
        journal.append("two")
    assert [event["event"] for event in read_journal(path)] == ["one", "two"]


def test_a_deleted_journal_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "run" / "journal.jsonl"
    path.parent.mkdir()
    with Journal(path) as journal:
        journal.append("one")
        path.unlink()
        with pytest.raises(RunFolderError, match="the journal was deleted while the sweep ran"):
            journal.append("two")
        path.parent.rmdir()
        with pytest.raises(RunFolderError, match="and what was committed is lost"):
            journal.append("two")


def test_a_journal_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for number in range(5_000):
            journal.append("assigned", job_id=f"j{number}", attempt=1, text="x" * 200)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_journal(path)) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 300_000 < path.stat().st_size / 3
    finally:
        tracemalloc.stop()


def test_every_line_is_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("event", value=[1, {"a": None}])
    assert json.loads(path.read_text())["value"] == [1, {"a": None}]


def test_a_disk_that_takes_no_more_says_how_to_go_on(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "journal.jsonl") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with pytest.raises(RunFolderError, match="goes on where it stopped"):
                journal.append("event")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
