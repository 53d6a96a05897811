"""The todo exam from a reply to a grade, on programs of many kinds, really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runners.exams import get_exam
from runners.exams.base import Grade, Reply
from runners.exams.folder.exam import FolderExam, packaged_exam
from runners.exams.todo.functional import titles_for
from runners.outcomes import Outcome
from runners.sandbox import Sandbox, SandboxUnavailable, open_sandbox
from tests.runners.exams.graded import grade as grade_reply
from tests.runners.exams.graded import reference_of

if TYPE_CHECKING:
    from pathlib import Path

GradeText = Callable[..., Grade]
PROGRAMS = {specimen.name: specimen.text for specimen in get_exam("todo").specimens()}
REFERENCE = reference_of("todo")


def flat(body: str) -> str:
    """A program with all ten features whose commands are `body`; `db` is open, `args` are the arguments."""
    return f"""
import sqlite3, sys, uuid
from datetime import datetime

db = sqlite3.connect("todos.db", isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS t (id TEXT, title TEXT, created TEXT DEFAULT CURRENT_TIMESTAMP, completed INT)")
{body}

if __name__ == "__main__":
    try:
        {{"add": add, "list": show, "complete": complete, "delete": delete}}[sys.argv[1]](*sys.argv[2:])
    except KeyError as error:
        print("-" * 20, error)
        sys.exit(1)
"""


UUIDS = flat("""
def add(title): db.execute("INSERT INTO t (id, title, completed) VALUES (?, ?, 0)", (str(uuid.uuid4())[:8], title))
def show():
    for row in db.execute("SELECT id, title, completed, created FROM t ORDER BY created DESC"): print(*row, sep=" | ")
def complete(id): db.execute("UPDATE t SET completed = 1 WHERE id = ?", (id,))
def delete(id):
    if not db.execute("DELETE FROM t WHERE id = ?", (id,)).rowcount: raise KeyError(id)
""")
SECTIONS = flat("""
def add(title): db.execute("INSERT INTO t SELECT 100 + COUNT(*), ?, CURRENT_TIMESTAMP, 0 FROM t", (title,))
def show():
    for done, heading in ((0, "To do"), (1, "Done")):
        rows = db.execute("SELECT id, title FROM t WHERE completed = ?", (done,)).fetchall()
        print(heading.center(30, "="))
        for id, title in rows: print(f"  #{id} {title}")
def complete(id): db.execute("UPDATE t SET completed = 1 WHERE id = ?", (id,))
def delete(id): db.execute("DELETE FROM t WHERE id = ?", (id,))
""")
HIDES_COMPLETED = flat("""
def add(title): db.execute("INSERT INTO t SELECT COUNT(*) + 1, ?, CURRENT_TIMESTAMP, 0 FROM t", (title,))
def show():
    for id, title in db.execute("SELECT id, title FROM t WHERE completed = 0"): print(f"{id}. {title}")
def complete(id): db.execute("UPDATE t SET completed = 1 WHERE id = ?", (id,))
def delete(id): db.execute("DELETE FROM t WHERE id = ?", (id,))
""")


@pytest.mark.parametrize("program", [UUIDS, SECTIONS], ids=["uuids, newest first", "sections, ids from 100"])
def test_other_ways_to_be_right(grade: GradeText, program: str) -> None:
    result = grade(program)
    assert result.scores == {"published": 100.0, "strict": 100.0}, result.log
    assert result.outcome is Outcome.PASSED


def test_published_and_strict_differ_by_the_state(grade: GradeText) -> None:
    result = grade(HIDES_COMPLETED)
    assert result.scores["published"] == 100.0
    assert result.scores["strict"] < 100.0
    assert result.outcomes == {"published": Outcome.PASSED, "strict": Outcome.WRONG}
    lost = {item.name for item in result.items if not item.passed}
    assert "strict: list 2" in lost


@pytest.mark.parametrize(
    ("reply", "method"),
    [
        (REFERENCE, "whole_reply"),
        (f"Here you are:\n```python\n{REFERENCE}```\nUsage:\n```bash\npython todo.py add x\n```", "language_fence"),
        (
            f"```python\n{REFERENCE}```\nFor example:\n```python\nimport os\nos.system('python todo.py list')\n```",
            "language_fence",
        ),
        (f"<think>\nA table, I think.\n</think>\n{REFERENCE}", "whole_reply"),
        (f"```\n{REFERENCE}\n```", "fence"),
    ],
    ids=["bare", "fence and usage", "two fences", "reasoning", "no label"],
)
def test_program_is_found(grade: GradeText, reply: str, method: str) -> None:
    result = grade(reply)
    assert result.scores["strict"] == 100.0, result.log
    assert result.extraction_method == method


@pytest.mark.parametrize("reply", ["", "I cannot help with that.", "42", "ok", "pass", "<think></think>"])
def test_replies_without_a_program_score_nothing(grade: GradeText, reply: str) -> None:
    result = grade(reply)
    assert result.scores == {"published": 0.0, "strict": 0.0}
    assert result.outcome is Outcome.NO_CODE
    assert "no program in the reply" in result.log


def test_cut_off_program_keeps_its_points_and_is_the_budget_s(grade: GradeText) -> None:
    result = grade(PROGRAMS["cut_off"], "length")
    assert result.scores == {"published": 28.0, "strict": 28.0}
    assert result.outcome is Outcome.MAX_TOKENS


def test_reasoning_cut_off_is_the_budget_s(grade: GradeText) -> None:
    result = grade("<think>\nLet me think about", "length")
    assert result.scores["published"] == 0.0
    assert result.outcome is Outcome.MAX_TOKENS
    assert grade("", "length").outcome is Outcome.MAX_TOKENS


def test_full_marks_at_the_token_limit_are_full_marks(grade: GradeText) -> None:
    assert grade(f"```python\n{REFERENCE}```\nNotes: and so on and", "length").outcome is Outcome.PASSED


def test_syntax_error_is_named_with_its_line(grade: GradeText) -> None:
    result = grade("import sqlite3\ndef add(:\n    pass\n")
    assert result.outcome is Outcome.COMPILE_ERROR
    syntax = result.items[0]
    assert (syntax.name, syntax.points, syntax.note) == ("syntax", 0.0, "SyntaxError: invalid syntax")
    assert "line 2" in result.log


@pytest.mark.parametrize(
    "program",
    [
        "import os\nx = '\0'\n",
        "import os\n" + "(" * 5000 + ")" * 5000,
        "import os\nx = 1\n\x0c\n\ud800\n",
        "import os\n" + "-" * 100_000 + "1",
    ],
    ids=["null byte", "deep", "surrogate", "long"],
)
def test_text_that_upsets_the_parser_upsets_nobody_else(grade: GradeText, program: str) -> None:
    result = grade(program)
    assert result.scores["published"] == 0.0
    assert result.outcome is Outcome.COMPILE_ERROR


def test_log_tells_what_happened(grade: GradeText, sandbox: Sandbox) -> None:
    result = grade(PROGRAMS["menu"])
    assert result.isolation == sandbox.isolation
    assert f"isolated by {sandbox.isolation}" in result.log
    assert "CPython" in result.log
    assert "EOFError: EOF when reading a line" in result.log
    assert "$ python todo.py list\n(exit 1," in result.log


def test_items_add_up(grade: GradeText) -> None:
    result = grade(PROGRAMS["keeps-nothing"])
    for scoring in ("published", "strict"):
        items = [item for item in result.items if item.scoring in ("", scoring)]
        assert sum(item.points for item in items) == pytest.approx(result.scores[scoring])
        assert sum(item.points_max for item in items) == pytest.approx(result.score_max)


MISBEHAVIOUR = {
    "time": ("import time\ntime.sleep(600)", Outcome.TIME_LIMIT),
    "cpu": ("while True: pass", Outcome.TIME_LIMIT),
    "memory": (
        "held = [bytearray(b'x') * (1 << 20) for _ in range(900)]\nimport time\ntime.sleep(600)",
        Outcome.MEMORY_LIMIT,
    ),
    "address space": ("held = bytearray(4 << 30)", Outcome.MEMORY_LIMIT),
    "output": ("while True: print('x' * 10_000)", Outcome.OUTPUT_LIMIT),
    "disk": ("for i in range(99): open(f'f{i}', 'wb').write(b'1' * (1 << 20))", Outcome.OUTPUT_LIMIT),
    "crash": ("import os\nos.kill(os.getpid(), 11)", Outcome.RUNTIME_ERROR),
    "no such module": ("import numpy", Outcome.RUNTIME_ERROR),
}


def limited(**limits: Any) -> FolderExam:
    """The exam, whose calls have less time, or more."""
    exam = packaged_exam("runners.exams.todo")
    return replace(exam, settings=replace(exam.settings, limits=replace(exam.settings.limits, **limits)))


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_misbehaviour_is_named(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    program, outcome = MISBEHAVIOUR[name]
    exam = limited(wall_s=2.0 if name == "time" else 60.0, cpu_s=1.0 if name == "cpu" else 30.0)
    result = grade_reply(exam, Reply(f"import sqlite3\n{program}\n", finish_reason="stop"), sandbox, tmp_path)
    assert result.outcome is outcome, result.log
    assert result.scores["strict"] == 20.0


def test_a_program_that_hangs_is_not_run_seven_times(sandbox: Sandbox, tmp_path: Path) -> None:
    exam = limited(wall_s=1.0)
    result = grade_reply(exam, Reply("import time\ntime.sleep(600)\n"), sandbox, tmp_path)
    assert result.log.count("(time_limit") == 2
    assert result.log.count("(not run)") == 5


def test_grading_leaves_the_same_grade(grade: GradeText) -> None:
    """Regrading a saved reply gives what grading gave, though the titles are not to be foreseen."""
    first, second = grade(REFERENCE), grade(REFERENCE)
    assert (first.scores, first.items) == (second.scores, second.items)
    assert titles_for(b"one") != titles_for(b"other")
    assert len(set(titles_for(b"one"))) == 2


@pytest.mark.parametrize("kind", ["bubblewrap", "namespaces"])
def test_published_kinds_score_the_same_in_each_sandbox(kind: str, tmp_path: Path) -> None:
    try:
        sandbox = open_sandbox(kind)
    except SandboxUnavailable as error:
        pytest.skip(f"no {kind} here: {error.message}")
    scores = {}
    for name in ("works", "menu", "cut_off"):
        folder = tmp_path / name
        folder.mkdir()
        scores[name] = grade_reply(
            get_exam("todo"), Reply(PROGRAMS[name], finish_reason="stop"), sandbox, folder
        ).scores
    assert scores == {
        "works": {"published": 100.0, "strict": 100.0},
        "menu": {"published": 60.0, "strict": 60.0},
        "cut_off": {"published": 28.0, "strict": 28.0},
    }
