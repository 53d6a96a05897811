"""The journal: what is read back after a writer that died anywhere."""

from __future__ import annotations

import json
import os
import resource
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import RunFolderError
from orchestrator.journal import Journal, read_journal

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


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event":"a"}\nnonsense\n{"event":"b"}\n')
    with pytest.raises(RunFolderError, match=r"journal\.jsonl:2"):
        list(read_journal(path))


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
