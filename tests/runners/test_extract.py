"""The program in a reply: found by rule, kept as it is, never repaired."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.extract import Extraction, extract_code

PROGRAM = 'import sqlite3\n\nprint("x")\n'


def found(reply: str, marker: str | None = None, filename: str | None = None) -> Extraction:
    return extract_code(reply, language="python", marker=marker, filename=filename)


def test_bare_program_is_the_whole_reply() -> None:
    assert found(f"\n{PROGRAM}\n") == Extraction(PROGRAM.strip(), "whole_reply")


@pytest.mark.parametrize("label", ["python", "py", "Python", "python3", "{.python}", "python linenums=1"])
def test_fence_of_the_language(label: str) -> None:
    assert found(f"Here you are:\n\n```{label}\n{PROGRAM}```\nHave fun!") == Extraction(PROGRAM, "language_fence")


@pytest.mark.parametrize("label", ["python todo.py", "python:todo.py", "todo.py", 'python title="app/todo.py"'])
def test_fence_with_a_path(label: str) -> None:
    result = found(f"```python\nimport os\n```\n```{label}\n{PROGRAM}```\n```python\nimport sys\n```")
    assert (result.code, result.method) == (PROGRAM, "named_fence")
    assert result.filename is not None
    assert result.filename.endswith("todo.py")


def test_path_of_another_language_is_no_candidate() -> None:
    reply = f"```python\n{PROGRAM}```\n```requirements.txt\nrich\n```\n```text notes.md\nNotes\n```"
    assert found(reply).method == "language_fence"
    assert found(reply).code == PROGRAM


def test_named_file_is_chosen_among_several() -> None:
    reply = f"```python a.py\nimport os\n```\n```python todo.py\n{PROGRAM}```\n```python b.py\nimport re\n```"
    assert found(reply, filename="src/todo.py").code == PROGRAM


def test_start_marker_comes_before_fences() -> None:
    reply = f"```python\nimport os\n```\n#START todo.py#\n{PROGRAM}#END#\nBye"
    assert found(reply) == Extraction(PROGRAM, "start_marker", filename="todo.py")


def test_start_marker_inside_a_fence_ends_with_it() -> None:
    assert found(f"```python\n# START todo.py #\n{PROGRAM}```\n").code == PROGRAM


def test_fence_between_markers_is_taken_off() -> None:
    assert found(f"#START todo.py#\n```python\n{PROGRAM}```\n#END todo.py#").code == PROGRAM


def test_start_marker_without_an_end_is_cut_off() -> None:
    result = found(f"#START todo.py#\n{PROGRAM}")
    assert (result.code, result.truncated) == (PROGRAM, True)


def test_several_marked_files() -> None:
    reply = f"#START go.mod#\nmodule x\n#START todo.py#\n{PROGRAM}#START README.md#\nText\n#END#"
    assert found(reply).code == PROGRAM


def test_last_candidate_with_the_marker() -> None:
    reply = f"```python\nimport sqlite3\n```\n```python\n{PROGRAM}```\nRun it:\n```python\nimport os\n```"
    assert found(reply, marker="sqlite3").code == PROGRAM
    assert found(reply).code == "import os\n"


def test_fence_without_a_label_comes_before_one_of_another_kind() -> None:
    assert found(f"```\n{PROGRAM}```\n```bash\npython todo.py\n```") == Extraction(PROGRAM, "fence")
    assert found("```bash\npython todo.py\n```").code == "python todo.py\n"


def test_open_fence_is_cut_off() -> None:
    assert found(f"Sure.\n```python\n{PROGRAM}print(f'{{") == Extraction(
        PROGRAM + "print(f'{", "open_fence", truncated=True
    )


def test_closed_fence_comes_before_an_open_one() -> None:
    assert found(f"```python\n{PROGRAM}```\nOr:\n```python\nimport sqlite3, os").code == PROGRAM


def test_longer_fence_may_hold_a_shorter_one() -> None:
    inner = 'TEXT = """\n```\ncode\n```\n"""\n'
    assert found(f"````python\n{inner}````").code == inner
    assert found(f"~~~python\n{inner}~~~").code == inner


def test_indented_fence_loses_its_indentation_only() -> None:
    assert found("1. Do:\n   ```python\n   def f():\n       pass\n   ```\n").code == "def f():\n    pass\n"


def test_windows_line_ends_are_kept() -> None:
    assert found("```python\r\nimport os\r\n```\r\n").code == "import os\r\n"


def test_inline_backticks_open_nothing() -> None:
    assert found(f"```inline``` is no fence\n```python\n{PROGRAM}```").code == PROGRAM


@pytest.mark.parametrize(("opening", "closing"), [("<think>", "</think>"), ("[THINK]", "[/THINK]")])
def test_reasoning_is_set_aside(opening: str, closing: str) -> None:
    thought = f"{opening}\n```python\nimport wrong\n```\n{closing}"
    assert found(f"{thought}\n\n```python\n{PROGRAM}```") == Extraction(
        PROGRAM, "language_fence", reasoning_chars=len(thought)
    )


def test_reasoning_without_an_end_is_no_answer() -> None:
    result = found(f"<think>\nLet me see.\n```python\n{PROGRAM}```\n")
    assert (result.code, result.method, result.truncated) == (None, "unclosed_think", True)


def test_reasoning_that_the_template_had_opened() -> None:
    reply = f"I need a table.\n```python\nimport wrong\n</think>\n\n{PROGRAM}"
    assert found(reply).code == PROGRAM.strip()
    assert found(f"So be it.</think>\n{PROGRAM}").code == PROGRAM.strip()
    assert found(f"So be it.\n</think>{PROGRAM}").code == PROGRAM.strip()


def test_tags_that_a_program_mentions_stay() -> None:
    program = 'import re\ntext = re.sub("<think>.*</think>", "", text)\nprint("<think>")\n'
    assert found(program).code == program.strip()
    assert found(f"```python\n{program}```").code == program
    assert found(f"```python\nTAGS = '''\n<think>\n'''\n{program}```").code == f"TAGS = '''\n<think>\n'''\n{program}"


def test_nothing_is_found_in_nothing() -> None:
    assert found("") == Extraction(None, "empty")
    assert found(" \n\n") == Extraction(None, "empty")
    assert found("<think>done</think>\n").method == "empty"
    assert found("```python\n\n```").method == "whole_reply"
    assert found("No program here.", marker="sqlite3") == Extraction(None, "no_candidate")


def test_other_languages_have_their_own_labels() -> None:
    go = "package main\n\nfunc main() {}\n"
    reply = f"```python\nimport os\n```\n```golang\n{go}```"
    assert extract_code(reply, language="go", marker="package main") == Extraction(go, "language_fence")
    assert extract_code("```zig\nconst x = 1;\n```", language="zig").method == "language_fence"


LINE = st.text(st.characters(exclude_characters="`~\r\n<[#", exclude_categories=["Cs"]), max_size=30)
CODE = st.lists(LINE, min_size=1, max_size=12).map(lambda lines: "\n".join(lines) + "\n").filter(str.strip)
ANYTHING = st.lists(
    st.sampled_from(
        ["```", "```python", "~~~", "````", "<think>", "</think>", "[THINK]", "#START a.py#", "#END#", " ", "\n", "\r"]
    )
    | LINE,
    max_size=25,
).map("".join)


@given(code=CODE, before=LINE, after=LINE)
@settings(max_examples=80, deadline=None)
def test_what_stands_in_a_fence_comes_back_unchanged(code: str, before: str, after: str) -> None:
    assert found(f"{before}\n```python\n{code}```\n{after}").code == code


@given(code=CODE, thought=CODE)
@settings(max_examples=60, deadline=None)
def test_reasoning_never_changes_the_answer(code: str, thought: str) -> None:
    plain = found(code)
    assert found(f"<think>\n{thought}</think>\n{code}").code == plain.code


@given(reply=ANYTHING | st.text(max_size=200), marker=st.none() | st.sampled_from(["a", "import"]))
@settings(max_examples=200, deadline=None)
def test_any_reply_gives_a_part_of_itself_or_nothing(reply: str, marker: str | None) -> None:
    result = found(reply, marker=marker)
    assert 0 <= result.reasoning_chars <= len(reply)
    if result.code is None:
        assert result.method in {"empty", "unclosed_think", "no_candidate"}
        return
    assert marker is None or marker in result.code
    assert result.method in {"start_marker", "named_fence", "language_fence", "fence", "open_fence", "whole_reply"}
    # Line by line, because reasoning may have stood between two lines, and an indented fence loses its indentation.
    assert all(line.strip() in reply for line in result.code.split("\n"))
