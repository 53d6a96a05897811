"""Replies and outputs made to hurt the grader: each is scored, quickly, and none is the infrastructure's failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runners.exams.base import Grade
from runners.exams.todo import functional
from runners.exams.todo import grader as todo_grader
from runners.outcomes import Outcome, OutcomeClass, outcome_class
from tests.runners import textwork_functions as work
from tests.runners.exams.graded import reference_of

GradeText = Callable[..., Grade]
REFERENCE = reference_of("todo")


KEEPS = """
import sqlite3, sys
with open("kept", "a") as file:
    file.write(sys.argv[2] + chr(10) if sys.argv[1] == "add" else "")
one, other = [*open("kept").read().splitlines(), "", ""][:2]
"""


def test_a_reply_that_cannot_be_read_holds_no_program(grade: GradeText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(todo_grader, "read_reply", work.raises)
    result = grade(REFERENCE)
    assert result.outcome is Outcome.NO_CODE
    assert result.scores == {"published": 0.0, "strict": 0.0}
    assert result.extraction_method == "unreadable"
    assert "the rules cannot take it" in result.log
    assert grade(REFERENCE, "length").outcome is Outcome.MAX_TOKENS


def test_lists_that_cannot_be_read_lose_strict_only(grade: GradeText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "ids_shown", work.raises)
    monkeypatch.setattr(functional, "judge_lists", work.raises)
    result = grade(REFERENCE)
    assert result.scores == {"published": 100.0, "strict": 60.0}
    assert outcome_class(result.outcome) is OutcomeClass.MODEL
    assert "the lists cannot be read: the rules cannot take it" in result.log


def test_of_a_reply_without_end_the_beginning_is_read(grade: GradeText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(todo_grader, "REPLY_CHARS", 20_000)
    result = grade(f"```python\n{REFERENCE}```\n{'and so on ' * 3_000}")
    assert result.outcome is Outcome.PASSED
    assert "only the first 20,000 of " in result.log
    result = grade(f"{'so ' * 7_000}\n```python\n{REFERENCE}```\n")
    assert result.outcome is Outcome.NO_CODE
    assert "only the first 20,000 of " in result.log


@pytest.mark.parametrize(
    "body",
    [
        "print('1' * 200_000, 'and', '2' * 200_000)",
        "print('1' * 140_000, one); print('2', other)",
        "print('Jan' * 80_000)",
        "sys.stdout.buffer.write(bytes(range(256)) * 1000)",
        "sys.stderr.write('Error' * 40_000 + chr(10)); sys.exit(1)",
    ],
    ids=["long numbers", "long ids", "months", "bytes", "a long error"],
)
def test_whatever_a_program_prints_is_scored(grade: GradeText, body: str) -> None:
    result = grade(f"{KEEPS}\n{body}\n")
    assert outcome_class(result.outcome) is OutcomeClass.MODEL, result.log
    assert set(result.scores) == {"published", "strict"}
    assert len(result.log) < 100_000
    assert all(len(item.note) <= 400 for item in result.items)
