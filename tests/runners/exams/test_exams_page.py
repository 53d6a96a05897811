"""docs/exams.md as it stands: every exam.toml in it is valid, and its examples grade what they say they grade."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners.exams.base import Reply
from runners.exams.folder.exam import open_exam
from runners.exams.folder.languages import LANGUAGES
from runners.exams.folder.settings import read_settings
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from runners.sandbox import Sandbox

PAGE = Path(__file__).parents[3] / "docs" / "exams.md"
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SETTINGS = {
    found[1]: text for kind, text in BLOCKS if kind == "toml" and (found := re.match(r'name = "([^"]+)"', text))
}
ADDS = """```python
import sys

try:
    print(sum(map(int, sys.argv[1:])))
except ValueError:
    print("error")
    sys.exit(2)
```
"""


def example(words: str) -> str:
    """The Python of the page that holds `words`."""
    return next(text for kind, text in BLOCKS if kind == "python" and words in text)


def score(folder: Path, sandbox: Sandbox, reply: str) -> float:
    place = folder.parent / f"box-{len(reply)}"
    place.mkdir()
    return grade_reply(open_exam(folder), Reply(reply, finish_reason="stop"), sandbox, place).scores["points"]


def test_every_exam_toml_is_valid() -> None:
    found = {name: read_settings(text, f"{name}.toml") for name, text in SETTINGS.items()}
    assert set(found) == {"sums", "sums-tried", "sums-graded", "limited", "two-tasks", "inserted"}
    assert found["limited"].limits == found["sums"].limits  # what the page calls the defaults
    assert found["limited"].build_s == found["sums"].build_s


def test_every_language_is_in_the_table() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for language in LANGUAGES.values():
        (line,) = (each for each in lines if each.startswith(f"| `{language.name}` |"))
        assert f"| `{language.filename}` |" in line
        assert all(f"`{need}`" in line for need in language.needs)


@pytest.mark.parametrize("name", ["sums", "sums-tried", "sums-graded"])
def test_the_examples_grade_a_right_answer_and_a_wrong_one(tmp_path: Path, sandbox: Sandbox, name: str) -> None:
    folder = tmp_path / "exam"
    (folder / "files").mkdir(parents=True)
    (folder / "prompt.md").write_text("Add up the arguments.")
    (folder / "exam.toml").write_text(SETTINGS[name].replace('"c"', '"python"'))
    (folder / "files" / "try.py").write_text(example("subprocess"))
    (folder / "grader.py").write_text(example("find_program"))
    assert score(folder, sandbox, ADDS) == open_exam(folder).score_max
    assert score(folder, sandbox, "```python\nprint(5)\n```") == 1.0
    assert score(folder, sandbox, "I would rather not.") == 0.0
