"""`quantsweep show RUN --failures` and `--job ID`, as a person and a program read them; what is shown is hostile."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import cli
from orchestrator.commands.failures import failures_of_run
from orchestrator.commands.job import job_of_run
from orchestrator.terminal import Json, Printer
from results.store import RunStore
from tests.results.conftest import INFRASTRUCTURE, make_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.terminal import Part

LOST = [
    {"name": "add", "points": 10, "points_max": 10, "passed": True, "note": "", "scoring": ""},
    {"name": "delete", "points": 0, "points_max": 10, "passed": False, "note": "exit code 1", "scoring": ""},
]


def text_of(parts: list[Part], **how: Any) -> str:
    return Printer(None).text_of(*parts, **how)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store = RunStore(tmp_path)
    wrong = {"outcome": "wrong", "score": 50.0, "grade_items": json.dumps(LOST)}
    store.commit(make_row(job_id="v2-aaaaaa11", **INFRASTRUCTURE | {"final": False}))
    store.commit(
        make_row(job_id="v2-aaaaaa11", attempt=2, reply="import sqlite3\nmain()", grader_log="1 of 2", **wrong)
    )
    store.commit(make_row(job_id="v2-bbbbbb22", seed=2, quant="Q2_K", **wrong))
    store.commit(make_row(job_id="v2-cccccc33", seed=3))
    return tmp_path


def test_failures_name_the_item_the_cells_and_the_jobs(run: Path) -> None:
    text = text_of(failures_of_run(run, as_json=False, again="quantsweep show r --job"))
    first, second, *_ = text.split("\n\n")
    assert first.splitlines() == [
        "todo: delete, wrong (model): 2 of 3 jobs",
        "  said: exit code 1",
        "  standin Q2_K: bbbbbb (seed 2, 50 of 100)",
        "  standin Q4_K_M: aaaaaa (seed 1, 50 of 100)",
    ]
    assert second.startswith("todo: server_crash (infrastructure): 1 earlier attempt without a score, tried again")
    assert text.endswith("To look at one: quantsweep show r --job bbbbbb")
    (found,) = failures_of_run(run, as_json=True, again="")
    assert isinstance(found, Json)
    assert [(each["item"], each["count"]) for each in found.value["failures"]] == [("delete", 2), (None, 1)]


def test_a_job_shows_reply_grade_and_earlier_attempts(run: Path) -> None:
    text = text_of(job_of_run(run, "aaaaaa", as_json=False))
    for expected in (
        "standin Q4_K_M on todo, seed 1",
        "job v2-aaaaaa11, attempt 2\n",
        "wrong (model): 50 of 100, published scoring",
        "Items\n  ok    10 of 10  add\n  lost   0 of 10  delete: exit code 1\n",
        "decode_tps         2,000 tok/s",
        "hardware_class  cpu-x",
        "attempt 1  server_crash (infrastructure), no score, grader 1, on n1: it crashed",
        "Reply (2 lines, 21 characters)\n  | import sqlite3\n  | main()",
        "Grader's log (1 line, 6 characters)\n  | 1 of 2",
    ):
        assert expected in text
    (found,) = job_of_run(run, "aaaaaa", as_json=True)
    attempts = json.loads(text_of([found]))["attempts"]
    assert [(each["attempt"], each["outcome"]) for each in attempts] == [(1, "server_crash"), (2, "wrong")]
    assert attempts[1]["grade_items"] == LOST
    assert attempts[1]["reply"] == "import sqlite3\nmain()"


def test_what_a_model_wrote_steers_no_terminal_and_is_bounded(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J" + "a\rjob v2-ffff, attempt 9\n"
    names = [{"name": evil, "points": 0, "points_max": 1, "passed": False, "note": evil * 50, "scoring": evil}]
    turns = [{"role": evil, "content": evil}, {"role": "tool", "content": ["x" * 9]}, 7]
    store = RunStore(tmp_path)
    hostile: dict[str, Any] = {"grader_log": evil * 5_000, "reasoning": "x" * 3_000_000, "error": evil}
    hostile |= {"grade_items": json.dumps(names), "outcome": "wrong", "score": 0.0}
    store.commit(make_row(job_id="v2-aaaaaa11", reply=evil, transcript=json.dumps(turns), **hostile))
    store.commit(make_row(job_id="v2-bbbbbb22", reply="\n" * 100_000 + evil, transcript='{"turns": 1}', **hostile))
    store.commit(make_row(job_id="v2-cccccc33", reply="\n" * 2_000_000 + evil, **hostile))
    for page in (
        *(text_of(job_of_run(tmp_path, job, as_json=False)) for job in ("aaaa", "bbbb", "cccc")),
        text_of(failures_of_run(tmp_path, as_json=False, again="show")),
    ):
        assert "\x1b" not in page
        assert "\r" not in page
        assert len(page) < 400_000
        assert len([line for line in page.splitlines() if line.startswith("job v2-")]) <= 1, "one of ours"
    many = text_of(job_of_run(tmp_path, "cccc", as_json=False))
    assert "Reply (2,000,002 lines" in many
    assert "lines left out; --json has all" in many
    assert "\x1b" not in text_of(job_of_run(tmp_path, "aaaa", as_json=True))


def test_files_of_a_grading_are_named_with_their_place(tmp_path: Path) -> None:
    data = b"a picture"
    sha256 = hashlib.sha256(data).hexdigest()
    file = {"name": "cat.png", "media_type": "image/png", "sha256": sha256, "bytes": len(data)}
    store = RunStore(tmp_path)
    store.commit(make_row(job_id="v2-aaaaaa11", files=json.dumps([file])), {sha256: data}.get)
    page = text_of(job_of_run(tmp_path, "a", as_json=False), width=300)
    assert f"cat.png  {tmp_path / 'files' / sha256} (image/png, 9 B)\n" in page
    (tmp_path / "files" / sha256).write_bytes(b"another")
    assert "gone, or changed" in text_of(job_of_run(tmp_path, "a", as_json=False))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--failures", "--job", "aaaa"), "give one of --failures, --job and --predicted"),
        (("--job", "eeee"), "no job of"),
        (("--job", ""), "no job of"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["quantsweep", "show", str(run), *options])
    assert cli._run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err


def test_a_run_without_failures_says_so(tmp_path: Path) -> None:
    RunStore(tmp_path).commit(make_row())
    assert text_of(failures_of_run(tmp_path, as_json=False, again="")) == (
        f"No attempt in {tmp_path} lost a point or failed."
    )


def test_the_command_line_takes_both(run: Path, in_process: Callable[..., str]) -> None:
    assert "todo: delete" in in_process("show", run, "--failures")
    assert json.loads(in_process("show", run, "--job", "bbbb", "--json"))["job_id"] == "v2-bbbbbb22"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run_it(*words: Any) -> str:
        monkeypatch.setattr(sys, "argv", ["quantsweep", *map(str, words)])
        assert cli._run() == 0
        return capsys.readouterr().out

    return run_it
