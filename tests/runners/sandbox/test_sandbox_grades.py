"""A hostile answer to an exam has a score of its own making: whatever it does, the machine is not to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runners.exams import get_exam
from runners.exams.base import Reply
from runners.outcomes import OutcomeClass, outcome_class
from runners.sandbox.cleanup import remove_tree
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from pathlib import Path

    from runners.sandbox import Sandbox

# A todo list that works, in a file, with the hostile part before it and after it.
PROGRAM = """
import json, os, sys
{before}
try:
    todos = json.load(open("todos.json"))
except Exception:
    todos = []
command, *rest = sys.argv[1:]
if command == "add":
    todos.append([max([t[0] for t in todos], default=0) + 1, rest[0], False])
elif command == "complete":
    todos = [[n, title, done or n == int(rest[0])] for n, title, done in todos]
elif command == "delete":
    todos = [t for t in todos if t[0] != int(rest[0])]
else:
    for n, title, done in todos:
        print(n, "[x]" if done else "[ ]", title)
json.dump(todos, open("todos.json", "w"))
{after}
"""
HOSTILE = {
    "locks its folder": ("", "os.chmod('.', 0)"),
    "locks its data": ("", "os.chmod('todos.json', 0); os.chmod('home', 0)"),
    "prints an id that no process can be asked for": ("sys.argv[1] == 'list' and print('1' * 200_000, end='')", ""),
    "ends with the sandbox's own codes": ("", "os._exit(1)"),
    "kills what it can": ("", "os.kill(-1, 9)"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_answer_is_scored(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    before, after = HOSTILE[name]
    exam = get_exam("todo")
    reply = Reply("```python" + PROGRAM.format(before=before, after=after) + "```\n", finish_reason="stop")
    folder = tmp_path / "work"
    folder.mkdir()
    grade = grade_reply(exam, reply, sandbox, folder)
    assert {outcome_class(outcome) for outcome in grade.outcomes.values()} == {OutcomeClass.MODEL}
    assert all(score >= 0 for score in grade.scores.values())
    assert remove_tree(folder)


def test_the_same_program_without_hostility_does_all_that_is_asked(sandbox: Sandbox, tmp_path: Path) -> None:
    reply = Reply("```python" + PROGRAM.format(before="", after="") + "```\n", finish_reason="stop")
    grade = grade_reply(get_exam("todo"), reply, sandbox, tmp_path)
    failed = [line for line in grade.log.splitlines() if line.startswith("--") and "feature:" not in line]
    assert failed == []
    assert grade.scores["strict"] > 0
