"""Our own exams are folders as a user's are: read by the same reader, and a copy of one is an exam of its own."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.commands.exams import check
from runners.exams import exam_names, get_exam
from runners.exams.base import Reply
from runners.exams.folder.content import ExamFolderError
from runners.exams.folder.exam import FolderExam, open_exam, packaged_exam
from runners.exams.folder.new import new_exam
from tests.runners.exams.graded import grade as grade_reply
from tests.runners.exams.graded import reference_of

if TYPE_CHECKING:
    from runners.sandbox import Sandbox

PACKAGES = {name: f"runners.exams.{name.replace('-', '_')}" for name in exam_names()}


def copied(name: str, folder: Path) -> Path:
    """A copy of one of our folders, under a name of its own."""
    shutil.copytree(
        Path(str(files(PACKAGES[name]))), folder, ignore=lambda _, names: [n for n in names if "pycache" in n]
    )
    settings = folder / "exam.toml"
    settings.write_text(settings.read_text().replace(f'name = "{name}"', 'name = "mine"'))
    return folder


@pytest.mark.parametrize("name", exam_names())
def test_ours_are_read_from_their_folder_and_agree_with_their_grader(
    tmp_path: Path, sandbox: Sandbox, name: str
) -> None:
    exam = get_exam(name)
    assert isinstance(exam, FolderExam)
    assert exam is packaged_exam(PACKAGES[name])
    assert (exam.name, exam.settings.python) == (name, "grader.py")
    assert exam.settings.description
    assert exam.prompt_version.isdecimal()
    assert exam.grader_version.isdecimal()
    # Full marks and scorings of another exam.toml would be refused here.
    nothing = grade_reply(exam, Reply("I would rather not.", finish_reason="stop"), sandbox, tmp_path)
    assert nothing.scores == dict.fromkeys(exam.scorings, 0.0)
    assert nothing.score_max == exam.score_max


@pytest.mark.parametrize("name", exam_names())
def test_a_copy_asks_the_same_and_has_the_same_proof(tmp_path: Path, sandbox: Sandbox, name: str) -> None:
    exam, copy = get_exam(name), open_exam(copied(name, tmp_path / "mine"))
    assert copy.tasks() == exam.tasks()
    assert copy.specimens() == exam.specimens()
    assert (copy.score_max, copy.scorings, copy.needs) == (exam.score_max, exam.scorings, exam.needs)
    assert copy.prompt_version.startswith("folder-")
    assert copy.grader_version.startswith("folder-")
    box = tmp_path / "box"
    box.mkdir()
    reply = Reply("I would rather not.", finish_reason="stop")
    assert grade_reply(copy, reply, sandbox, box).scores == dict.fromkeys(exam.scorings, 0.0)


def test_a_copy_of_todo_is_graded_by_its_own_modules(tmp_path: Path, sandbox: Sandbox) -> None:
    """Also by those that read texts in a process of their own, where no installation knows them."""
    folder = copied("todo", tmp_path / "mine")
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    reply = Reply(f"```python\n{reference_of('todo')}\n```\n", finish_reason="stop")
    before = open_exam(folder)
    grade = grade_reply(before, reply, sandbox, tmp_path / "1")
    assert grade.scores == {"strict": 100.0, "published": 100.0}, grade.log
    reading = folder / "reading.py"
    reading.write_text(reading.read_text().replace("shown = features(source)", "shown = {'none': False}"))
    after = open_exam(folder)
    assert after.grader_version != before.grader_version
    assert grade_reply(after, reply, sandbox, tmp_path / "2").scores == {"strict": 60.0, "published": 60.0}


def test_a_prompt_holds_the_text_of_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    new_exam(folder)
    plain = open_exam(folder)
    (folder / "files").mkdir()
    (folder / "files" / "data.csv").write_text("1,2\n@data@\n")
    settings = (folder / "exam.toml").read_text()
    (folder / "exam.toml").write_text(f'{settings}\n[prompt]\ninsert = {{ "@data@" = "files/data.csv" }}\n')
    with pytest.raises(ExamFolderError, match=r"exam.toml: no prompt holds '@data@'"):
        open_exam(folder)
    (folder / "prompt.md").write_text("Add these up:\n@data@\nand say so.")
    (task,) = open_exam(folder).tasks()
    assert task.messages[-1].content == "Add these up:\n1,2\n@data@\nand say so."
    assert open_exam(folder).prompt_version != plain.prompt_version
    (folder / "files" / "data.csv").unlink()
    with pytest.raises(ExamFolderError, match=r"files/data.csv: there is no such file"):
        open_exam(folder)


def test_versions_of_a_user_are_digests_whatever_the_settings_say(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    new_exam(folder)
    before = open_exam(folder)
    settings = folder / "exam.toml"
    settings.write_text(f'prompt_version = "7"\ngrader_version = "7"\n{settings.read_text()}')
    after = open_exam(folder)
    assert (after.prompt_version, after.grader_version) == (before.prompt_version, before.grader_version)


def test_who_proves_an_exam_with_a_name_of_ours_is_told_that_no_sweep_takes_it(tmp_path: Path) -> None:
    new_exam(tmp_path / "todo")
    lines, right = check(str(tmp_path / "todo"), as_json=False)
    assert right
    assert "note: 'todo' is an exam of quantsweep; a sweep takes this one under another name only" in lines
