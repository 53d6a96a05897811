"""`quantsweep compare`: what a person and a program read of two sides, and what is refused."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import cli
from orchestrator.commands.compare import compare
from orchestrator.errors import RunFolderError, SweepError
from orchestrator.terminal import Printer
from results.store import RunStore
from tests.results.conftest import make_row

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, cells: dict[tuple[str, str], list[float]], **changes: Any) -> str:
    rows = [
        make_row(job_id=f"v2-{number}-{seed}", model=model, quant=quant, seed=seed, score=score, **changes)
        for number, ((model, quant), scores) in enumerate(cells.items())
        for seed, score in enumerate(scores, 1)
    ]
    RunStore(folder).commit_many(rows)
    return str(folder)


def page(first: str, second: str, *given: str, width: int = 120) -> str:
    return Printer(None).text_of(*compare(first, second, given=given, as_json=False), width=width)


def test_differences_come_first_and_then_a_line_a_cell(tmp_path: Path) -> None:
    ours = run(tmp_path / "a", {("m", "Q8_0"): [90.0] * 40, ("m", "Q2_K"): [10.0] * 40}, engine_build="b1")
    theirs = run(tmp_path / "b", {("M", "Q8_0"): [20.0] * 40}, engine_build="b2", hardware_class="gpu-y")
    text = page(ours, theirs)
    lines = text.splitlines()
    assert lines[:6] == [
        f"A: {ours}",
        f"B: {theirs}",
        "",
        "They differ in",
        "  hardware: cpu-x | gpu-y",
        "  engine build: b1 | b2",
    ]
    assert "m Q8_0 | M Q8_0  90.0  20.0  +70.0" in text
    assert "40 pairs  better" in text
    assert "Rates are of different machines" in text
    assert "Not compared, of A, not with this quant; there are: Q8_0: m Q2_K (todo)." in text


def test_json_has_all_of_it(tmp_path: Path) -> None:
    ours = run(tmp_path / "a", {("Gemma-4-26B", "MXFP4_MOE"): [14.0, 15.0]}, exam="go-v1", score_max=15.0, scores=None)
    value = json.loads(Printer(None).text_of(*compare(ours, "published:go-exams", given=(), as_json=True)))
    (cell,) = value["cells"]
    assert (cell["cell"], cell["other"], cell["verdict"]) == (
        "Gemma-4-26B MXFP4_MOE",
        "Gemma 4 26B MXFP4_MOE",
        "undecided",
    )
    assert {"name": "hardware", "cells": 1, "ours": ["cpu-x"]}.items() <= value["differences"][0].items()
    assert len(value["alone"]) == 26
    assert "case, spaces and punctuation" in value["rule"]


def test_what_is_known_to_be_wrong_is_said(tmp_path: Path) -> None:
    scores = {("Qwen", "Q4_K_M"): [100.0, 28.0]}
    text = page(run(tmp_path / "a", scores), "published:todo-cli", "Qwen Q4_K_M=Qwen 3.5B", width=1_000)
    assert "1,510!" in text
    assert "decode_tps: 1,510 tok/s would read 2,977 GB a second" in text
    assert "prompt version: 1 | the report's own" in text
    assert "`--map` said: Qwen Q4_K_M=Qwen 3.5B." in text


def test_nothing_in_common_is_said(tmp_path: Path) -> None:
    text = page(run(tmp_path / "a", {("m", "Q8_0"): [1.0]}), "published:turtle-cat")
    assert "No cell of A has one of B that answers it." in text
    assert "of A, the other has nothing on todo: m Q8_0 (todo)" in text


def test_names_of_somebody_elses_run_steer_no_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\rm\nresults: FORGED\n" + "x" * 3_000
    ours, theirs = run(tmp_path / "a", {(evil, evil): [1.0]}), run(tmp_path / "b", {(evil, evil): [2.0]})
    for width in range(40, 200, 7):
        text = page(ours, theirs, width=width)
        assert "\x1b" not in text
        assert "\r" not in text
        assert "results: FORGED" not in [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("published:nowhere", "published:go-exams"), "there are: published:go-exams"),
        (("published:go-exams", "published:go-exams", "nonsense"), "--map 'nonsense': give a name"),
        (("published:go-exams", "published:go-exams", "a=b"), "has no model or cell 'a'"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(SweepError, match=expected):
        page(*words)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="this is no run folder"):
        page(str(tmp_path), "published:go-exams")


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["quantsweep", "compare", "published:todo-cli", "published:todo-cli"])
    assert cli._run() == 0
    assert "Nothing that is on record differs" in capsys.readouterr().out
