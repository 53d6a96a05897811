"""Exams that are folders, graded for real: the three forms, every language that is here, and programs that cheat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiles.probe.needs import find_needs
from runners.errors import RunnersError
from runners.exams.base import Reply
from runners.exams.check import check_exam
from runners.exams.check_apart import check_apart
from runners.exams.folder.content import ExamFolderError
from runners.exams.folder.exam import open_exam, unpack_exam
from runners.exams.folder.languages import LANGUAGES
from runners.exams.folder.new import new_exam
from runners.exams.folder.results_text import ends_with_word, read_results
from runners.exams.folder.specimens import SpecimenError
from runners.outcomes import Outcome
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from pathlib import Path

    from runners.exams.base import Grade
    from runners.sandbox import Sandbox

ADDS = "import sys\nprint(sum(map(int, sys.argv[1:])))\n"
DRIVER = """
import subprocess, sys

word = sys.stdin.readline().strip()
program = sys.argv[1:]
for number, (name, arguments, expected) in enumerate((("small", ["2", "3"], "5"), ("large", ["20", "30"], "50")), 1):
    done = subprocess.run([*program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    passed = done.stdout.strip() == expected
    FORM
"""
TAP = 'print(("" if passed else "not ") + f"ok {number} - {name} # {word}", flush=True)'
JSONL = 'import json; print(json.dumps({"test": name, "passed": passed, "word": word}), flush=True)'


def command_exam(folder: Path, *, output: str = "tap", word: bool = True) -> Path:
    """An exam with two items that a driver of its own tries."""
    (folder / "files").mkdir(parents=True)
    (folder / "prompt.md").write_text("Add up the arguments.")
    (folder / "files" / "try.py").write_text(DRIVER.replace("FORM", TAP if output == "tap" else JSONL))
    (folder / "exam.toml").write_text(
        f'name = "command"\nlanguage = "python"\n[limits]\nwall_s = 8\n[grader]\n'
        f'command = ["{{python}}", "try.py", "{{program}}"]\noutput = "{output}"\n'
        f"word = {str(word).lower()}\npoints = {{ small = 1, large = 2 }}\n"
    )
    return folder


def graded(folder: Path, program: str, sandbox: Sandbox, place: Path, finish_reason: str = "stop") -> Grade:
    place.mkdir()
    reply = Reply(f"```python\n{program}```\n" if program else "", finish_reason=finish_reason)
    return grade_reply(open_exam(folder), reply, sandbox, place)


LONG = {"c++", "rust", "go"}  # compilers that take seconds for each of the specimens


@pytest.mark.parametrize(
    "language", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in LANGUAGES]
)
def test_a_new_exam_proves_itself(tmp_path: Path, sandbox: Sandbox, language: str) -> None:
    for need in find_needs(LANGUAGES[language].needs):
        if need.found is None:
            pytest.skip(f"{need.what} is missing: {need.problem}")
    written = new_exam(tmp_path / "mine", language=language)
    assert tmp_path / "mine" / "exam.toml" in written
    report = check_exam(str(tmp_path / "mine"), sandbox)
    assert report.ok, "\n".join(report.lines())
    kinds = [finding.kind for finding in report.findings]
    assert (kinds.count("reference"), kinds.count("cheat")) == (1, 1)
    assert kinds.count("mutant") >= 2
    assert report.exam == "mine"
    assert report.untested == ()


@pytest.mark.parametrize("form", ["python", "command"])
def test_a_new_exam_of_each_other_form_proves_itself(tmp_path: Path, sandbox: Sandbox, form: str) -> None:
    new_exam(tmp_path / "mine", form=form)
    report = check_exam(str(tmp_path / "mine"), sandbox)
    assert report.ok, "\n".join(report.lines())
    with pytest.raises(ExamFolderError, match="is not empty"):
        new_exam(tmp_path / "mine")
    with pytest.raises(ExamFolderError, match="no exam is graded by 'taste'"):
        new_exam(tmp_path / "other", form="taste")


@pytest.mark.parametrize("output", ["tap", "jsonl"])
def test_a_command_says_what_passed(tmp_path: Path, sandbox: Sandbox, output: str) -> None:
    folder = command_exam(tmp_path / "exam", output=output)
    whole = graded(folder, ADDS, sandbox, tmp_path / "1")
    assert (whole.scores, whole.outcome, whole.score_max) == ({"points": 3.0}, Outcome.PASSED, 3.0)
    half = graded(folder, "import sys\nprint(5)\n", sandbox, tmp_path / "2")
    assert (half.scores, half.outcome) == ({"points": 1.0}, Outcome.WRONG)
    assert [(item.name, item.passed, item.note) for item in half.items] == [
        ("small", True, ""),
        ("large", False, "not passed"),
    ]


CHEATS = {
    "prints the results": 'print("ok 1 - small\\nok 2 - large # word")\n',
    "ends well and early": "import os\nos._exit(0)\n",
    "forges in the driver's output": """
        import os
        with open(f"/proc/{os.getppid()}/fd/1", "w") as out:
            out.write("ok 1 - small\\nok 2 - large\\n")
    """,
    "forges and ends the driver": """
        import os, signal
        with open(f"/proc/{os.getppid()}/fd/1", "w") as out:
            out.write("ok 1 - small\\nok 2 - large\\n")
        os.kill(os.getppid(), signal.SIGTERM)
    """,
    "rewrites the driver": """
        import os
        for path in ("try.py", "/box/try.py"):
            for way in (lambda: open(path, "w").write("print('ok 1 - small')"), lambda: os.replace(path, "gone")):
                try:
                    way()
                except OSError:
                    pass
    """,
}


@pytest.mark.parametrize("word", [True, False])
@pytest.mark.parametrize("cheat", list(CHEATS))
def test_a_program_that_cheats_gets_nothing(tmp_path: Path, sandbox: Sandbox, cheat: str, word: bool) -> None:
    from textwrap import dedent

    folder = command_exam(tmp_path / "exam", word=word)
    if not word:  # as such a driver would print it
        driver = folder / "files" / "try.py"
        driver.write_text(driver.read_text().replace(" # {word}", ""))
    assert graded(folder, ADDS, sandbox, tmp_path / "honest").scores == {"points": 3.0}
    grade = graded(folder, dedent(CHEATS[cheat]).lstrip(), sandbox, tmp_path / "1")
    assert grade.scores == {"points": 0.0}, grade.log
    assert not any(item.passed for item in grade.items)


def test_exit_code_is_one_item_and_the_word_keeps_an_early_end_out(tmp_path: Path, sandbox: Sandbox) -> None:
    folder = tmp_path / "exam"
    folder.mkdir()
    (folder / "prompt.md").write_text("Define add(a, b).")
    (folder / "files").mkdir()
    # The program is loaded by the tests themselves, so it could end them.
    (folder / "files" / "try.py").write_text(
        "import sys\nword = sys.stdin.readline().strip()\nimport main\nassert main.add(2, 3) == 5\nprint(word)\n"
    )
    head = 'name = "own"\nlanguage = "python"\nscore_max = 4\n[grader]\ncommand = ["{python}", "try.py"]\n'
    right, early = "def add(a, b):\n    return a + b\n", "import os\nos._exit(0)\n"
    for word, expected in (("true", 0.0), ("false", 4.0)):
        (folder / "exam.toml").write_text(f"{head}word = {word}\n")
        assert graded(folder, right, sandbox, tmp_path / f"right-{word}").scores == {"points": 4.0}
        grade = graded(folder, early, sandbox, tmp_path / f"early-{word}")
        assert grade.scores == {"points": expected}, grade.log
    wrong = graded(folder, right.replace("+", "-"), sandbox, tmp_path / "wrong")
    assert (wrong.scores, wrong.outcome, wrong.items[0].note) == (
        {"points": 0.0},
        Outcome.RUNTIME_ERROR,
        "exit code 1",
    )


def test_what_a_program_does_is_told_by_its_outcome(tmp_path: Path, sandbox: Sandbox) -> None:
    folder = tmp_path / "exam"
    new_exam(folder)
    text = (folder / "exam.toml").read_text()
    (folder / "exam.toml").write_text(text + "\n[limits]\nwall_s = 1\nmemory_mib = 64\noutput_kib = 10\n")
    programs = {
        Outcome.NO_CODE: "",
        Outcome.COMPILE_ERROR: "def main(:\n",
        Outcome.RUNTIME_ERROR: "raise ValueError\n",
        Outcome.WRONG: "import sys\nprint('error')\nsys.exit(2 if 'three' in sys.argv else 0)\n",
        Outcome.TIME_LIMIT: "while True: pass\n",
        Outcome.OUTPUT_LIMIT: "while True: print('x' * 1000)\n",
    }
    found = {
        outcome: graded(folder, program, sandbox, tmp_path / outcome.value) for outcome, program in programs.items()
    }
    assert {outcome: grade.outcome for outcome, grade in found.items()} == {each: each for each in programs}
    assert found[Outcome.WRONG].scores == {"points": 1.0}
    hung = found[Outcome.TIME_LIMIT].items
    assert [item.note for item in hung] == ["time limit"] * 3 + ["not run: earlier tests took too long"] * 2
    cut = graded(folder, "print(\n", sandbox, tmp_path / "cut", "length")
    assert cut.outcome is Outcome.MAX_TOKENS


def test_a_program_cannot_change_the_files_nor_see_another_test(tmp_path: Path, sandbox: Sandbox) -> None:
    folder = tmp_path / "exam"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "data.txt").write_text("data")
    (folder / "prompt.md").write_text("?")
    tests = "".join(f"[[test]]\nname = '{n}'\nstdout = 'data []'\n" for n in range(2))
    (folder / "exam.toml").write_text(f'name = "own"\nlanguage = "python"\n{tests}')
    program = """
import os
text = open("data.txt").read()
print(text, sorted(set(os.listdir()) - {"data.txt", "main.py"}))
open("left", "w").write("x")
try:
    open("data.txt", "w").write("changed")
except OSError:
    pass
"""
    assert graded(folder, program, sandbox, tmp_path / "1").scores == {"points": 2.0}


BAD_GRADERS = {
    "return None": "returned NoneType instead of a Grade",
    "return Grade({'other': 1.0}, 1.0, Outcome.WRONG, (), '', '', '')": "scores of other instead of points",
    "return Grade({'points': 2.0}, 1.0, Outcome.WRONG, (), '', '', '')": "more points than full marks",
    "return Grade({'points': float('nan')}, 1.0, Outcome.WRONG, (), '', '', '')": "no numbers from 0",
    "return Grade({'points': 1.0}, 9.0, Outcome.WRONG, (), '', '', '')": "full marks of 9 instead of 1",
    "return Grade({'points': 1.0}, 1.0, 'fine', (), '', '', '')": "an outcome that is none",
    "return Grade({'points': 1.0}, 1.0, Outcome.NODE_LOST, (), '', '', '')": "no finding about an answer",
    "return Grade({'points': True}, 1.0, Outcome.WRONG, (), '', '', '')": "no numbers from 0",
    "return Grade({'points': 0.0}, 1.0, Outcome.PASSED, (), '', '', '')": "outcome 'passed' with a score of 0",
    "return Grade({'points': 1.0}, 1.0, Outcome.WRONG, (), '', '', '', {'odd': Outcome.WRONG})": "outcome of 'odd'",
    "return Grade([1.0], 1.0, Outcome.WRONG, (), '', '', '')": "scores are no dict but of type list",
    "return Grade({'points': 1.0}, 1.0, Outcome.WRONG, (), None, '', '')": "log is no text but of type NoneType",
    "return Grade({'points': 1.0}, 1.0, Outcome.WRONG, (), '', 5, '')": "extraction_method is no text",
    "return Grade({'points': 1.0}, 1.0, Outcome.WRONG, None, '', '', '')": "items of type NoneType",
    "return Grade({'points': 1.0}, 1.0, Outcome.WRONG, (3,), '', '', '')": "item of type int instead of an Item",
    "return of(Item(3, 0.0, 1.0, False))": "whose name is no text but of type int",
    "return of(Item(' ', 0.0, 1.0, False))": "without a name",
    "return of(Item('a', 0.0, 1.0, False, None))": "'a' whose note is no text but of type NoneType",
    "return of(Item('a', 0.0, 1.0, False, scoring='odd'))": "of the scoring 'odd', which the exam does not have",
    "return of(Item('a', 0.0, 1.0, 0))": "whose passed is neither True nor False",
    "return of(Item('a', 2.0, 1.0, False))": "'a' with 2 points of 1",
    "return of(Item('a', True, 1.0, False))": "'a' with points that are no numbers from 0",
    "return of(Item('a', 0.0, 1.0, True))": "'a' that has passed with 0 points of 1",
    "return of(Item('a', 0.0, 1.0, False), Item('a', 1.0, 1.0, True))": "two items called 'a'",
    "return of(*(Item(str(n), 0.0, 1.0, False) for n in range(2001)))": "2,001 items; a grade may have 2,000",
    "return of(Item('a', 0.0, 1.0, False, 'x' * (1 << 20)))": "items of more than 1,048,576 bytes as JSON",
}


@pytest.mark.parametrize("body", list(BAD_GRADERS))
def test_a_grader_that_returns_no_grade_is_said_to(tmp_path: Path, sandbox: Sandbox, body: str) -> None:
    (tmp_path / "prompt.md").write_text("?")
    (tmp_path / "exam.toml").write_text('name="own"\nlanguage="python"\nscore_max=1\n[grader]\npython="grader.py"\n')
    (tmp_path / "grader.py").write_text(
        "from runners.exams.base import Grade, Item\nfrom runners.outcomes import Outcome\n"
        "def of(*items): return Grade({'points': 0.5}, 1.0, Outcome.WRONG, items, '', '', '')\n"
        f"def grade(task, transcript, box):\n    {body}\n"
    )
    with pytest.raises(ExamFolderError, match=BAD_GRADERS[body]):
        graded(tmp_path, ADDS, sandbox, tmp_path / "box")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name\n", "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit\n", "cannot be imported: SystemExit"),
        ("raise BaseException('odd')\n", "cannot be imported: BaseException: odd"),
        ("def mark(task, transcript, box): ...\n", r"has no function grade\(task, transcript, box\)"),
    ],
)
def test_a_grader_that_cannot_be_loaded_is_named(tmp_path: Path, sandbox: Sandbox, text: str, said: str) -> None:
    new_exam(tmp_path / "own", form="python")
    (tmp_path / "own" / "grader.py").write_text(text)
    with pytest.raises(ExamFolderError, match=said):
        check_exam(str(tmp_path / "own"), sandbox)


ENDINGS = {
    "import os; os._exit(0)": "it ended its process (exit code 0) after 0 of the answers were graded",
    "import os; os.closerange(0, 3); os._exit(0)": "it ended its process (exit code 0)",
    "import os; os.kill(os.getpid(), 9)": "it ended its process (signal 9)",
    "raise Mute": "the grader failed: Mute (its text cannot be had",
}


@pytest.mark.parametrize("body", list(ENDINGS))
def test_a_grader_that_ends_its_process_is_found_by_its_proof(tmp_path: Path, body: str) -> None:
    new_exam(tmp_path / "own", form="python")
    (tmp_path / "own" / "grader.py").write_text(
        "class Mute(Exception):\n    def __str__(self): raise ValueError\n    __repr__ = __str__\n"
        f"def grade(task, transcript, box):\n    {body}\n"
    )
    report = check_apart(str(tmp_path / "own"))
    assert not report.ok
    assert ENDINGS[body] in report.findings[-1].problem
    assert report.lines()[-2].startswith("WRONG ")


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(0)", "BaseException('odd')"])
def test_a_grader_that_raises_what_ends_processes_ends_none(tmp_path: Path, sandbox: Sandbox, error: str) -> None:
    new_exam(tmp_path / "own", form="python")
    (tmp_path / "own" / "grader.py").write_text(f"def grade(task, transcript, box):\n    raise {error}\n")
    report = check_exam(str(tmp_path / "own"), sandbox)
    assert not any(finding.ok for finding in report.findings)
    assert report.findings[0].problem.startswith("the grader failed: RuntimeError: it raised ")


def test_an_error_of_the_folder_is_told_by_the_process_that_met_it(tmp_path: Path) -> None:
    new_exam(tmp_path / "own", form="python")
    (tmp_path / "own" / "grader.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(RunnersError, match="cannot be imported: ModuleNotFoundError") as caught:
        check_apart(str(tmp_path / "own"))
    assert caught.value.hint == "mend it"


def test_a_grader_that_fails_over_an_answer_is_found_out_by_its_proof(tmp_path: Path, sandbox: Sandbox) -> None:
    new_exam(tmp_path / "own", form="python")
    (tmp_path / "own" / "other.py").write_text("HALF = 1 / 2\n")
    (tmp_path / "own" / "grader.py").write_text(
        "from . import other\ndef grade(task, transcript, box):\n    return other.HALF / 0\n"
    )
    report = check_exam(str(tmp_path / "own"), sandbox)
    assert {finding.problem for finding in report.findings} == {
        "the grader failed: ZeroDivisionError: float division by zero"
    }


def test_prompt_and_grader_have_versions_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    new_exam(folder)
    before = open_exam(folder)
    versions = [(before.prompt_version, before.grader_version)]

    def change(path: str, text: str) -> tuple[bool, bool]:
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        exam = open_exam(folder)
        assert unpack_exam(exam.content.pack()).grader_version == exam.grader_version
        versions.append((exam.prompt_version, exam.grader_version))
        (old_prompt, old_grader), (prompt, grader) = versions[-2:]
        return prompt != old_prompt, grader != old_grader

    settings = (folder / "exam.toml").read_text()
    assert change("prompt.md", "Something else.") == (True, False)
    assert change("reference/other.py", "print(1)") == (False, False)
    assert change("cheats/cheats.toml", "") == (False, False)
    assert change("README.md", "About it.") == (False, False)
    assert change("files/data.txt", "data") == (False, True)
    assert change("exam.toml", settings.replace("points = 2", "points = 3")) == (False, True)
    assert change("exam.toml", "# Said.\n" + settings.replace("points = 2", "points = 3")) == (False, False)


def test_several_tasks_have_prompts_and_proofs_of_their_own(tmp_path: Path, sandbox: Sandbox) -> None:
    tests = "".join(f"[[test]]\nname = 'right'\ntask = '{task}'\nstdout = '{task}'\n" for task in ("a", "b"))
    tasks = "".join(f"[[task]]\nname = '{task}'\n" for task in ("a", "b"))
    (tmp_path / "exam.toml").write_text(f'name = "own"\nlanguage = "python"\n{tasks}{tests}')
    for task in ("a", "b"):
        (tmp_path / "tasks" / task / "reference").mkdir(parents=True)
        (tmp_path / "tasks" / task / "prompt.md").write_text(f"Print {task}.")
        (tmp_path / "tasks" / task / "files").mkdir()
        (tmp_path / "tasks" / task / "files" / "name").write_text(task)
        (tmp_path / "tasks" / task / "reference" / "r.py").write_text("print(open('name').read())\n")
    exam = open_exam(tmp_path)
    assert [(task.name, task.messages[0].content) for task in exam.tasks()] == [("a", "Print a."), ("b", "Print b.")]
    report = check_exam(str(tmp_path), sandbox)
    assert report.ok, "\n".join(report.lines())
    (tmp_path / "tasks" / "b" / "reference" / "r.py").unlink()
    with pytest.raises(ExamFolderError, match="no reference for 'b'"):
        check_exam(str(tmp_path), sandbox)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("prompt.md", " \n", r"prompt\.md: the prompt is missing, or empty"),
        ("prompt.md", None, r"prompt\.md: the prompt is missing, or empty"),
        ("exam.toml", None, r"is no exam: it has no exam\.toml"),
        ("files/main.py", "x", r"files/main\.py: 'main\.py' is what the answer is called"),
    ],
)
def test_a_folder_that_is_no_exam_is_refused(tmp_path: Path, path: str, text: str | None, said: str) -> None:
    new_exam(tmp_path / "own")
    file = tmp_path / "own" / path
    file.parent.mkdir(exist_ok=True)
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(ExamFolderError, match=said) as caught:
        open_exam(tmp_path / "own")
    assert caught.value.hint


def test_results_are_read_out_of_anything() -> None:
    text = "TAP version 14\n1..4\nok 1 - a\nnot ok 2 b\nok 3 - c # SKIP no\nok\n# ok 5 - d\n  ok 6 - e\nokay\n"
    assert read_results(text, "tap", "") == [("a", True), ("b", False), ("c", False), ("", True)]
    worded = "ok 1 - a # w\nok 2 - b\nok 3 - c # x\nnot ok 4 - d # TODO later # w\nok 5 - e # todo # w\n"
    assert read_results(worded, "tap", "w") == [("a", True), ("d", False), ("e", False)]
    objects = '{"test": "a", "passed": true}\n{"test": 3}\n[1]\n{"test": "b", "passed": 1}\n{' + '"x":{' * 9999 + "\n"
    assert read_results(objects, "jsonl", "") == [("a", True), ("b", False)]
    assert read_results('{"test": "a", "passed": true, "word": "x"}', "jsonl", "w") == []
    assert ends_with_word("said\nw\n\n", "w")
    assert not ends_with_word("w\nsaid", "w")


def test_every_item_is_there_whatever_the_answer(tmp_path: Path, sandbox: Sandbox) -> None:
    new_exam(tmp_path / "own")
    for number, program in enumerate(("", "def main(:\n", ADDS)):
        grade = graded(tmp_path / "own", program, sandbox, tmp_path / str(number))
        assert [item.name for item in grade.items] == [
            *("two numbers", "negative numbers", "no numbers", "large numbers", "no number")
        ]


def test_a_mutant_that_loses_what_is_no_item_is_named(tmp_path: Path, sandbox: Sandbox) -> None:
    new_exam(tmp_path / "own")
    table = tmp_path / "own" / "mutants.toml"
    table.write_text(table.read_text().replace('["no number"]', '["no nubmer"]'))
    report = check_exam(str(tmp_path / "own"), sandbox)
    (wrong,) = [finding for finding in report.findings if not finding.ok]
    assert wrong.problem.startswith("it is to lose 'no nubmer', which is no item; there are: 'large numbers', ")


def test_why_a_reference_loses_and_what_no_mutant_tests_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    new_exam(tmp_path / "own")
    settings = tmp_path / "own" / "exam.toml"
    settings.write_text(settings.read_text() + '\n[[test]]\nname = "one number"\nargs = ["7"]\nstdout = "8"\n')
    wrong = check_exam(str(tmp_path / "own"), sandbox)
    (found,) = [finding for finding in wrong.findings if not finding.ok]
    assert found.problem.startswith("points gives 6 instead of full marks; it loses 'one number' (")
    assert "8" in found.problem
    settings.write_text(settings.read_text().replace('stdout = "8"', 'stdout = "7"'))
    mutants = tmp_path / "own" / "mutants.toml"
    mutants.write_text(mutants.read_text().partition("[begins-with-one]")[0])
    report = check_exam(str(tmp_path / "own"), sandbox)
    assert report.ok
    assert report.untested == ("two numbers", "no numbers", "one number")
    note, verdict = report.lines()[-2:]
    assert note.startswith("note: no mutant loses 'two numbers', 'no numbers', 'one number': nothing shows yet")
    assert verdict.endswith("the grader is right about these answers")


def test_a_need_that_nobody_knows_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    new_exam(tmp_path / "own")
    settings = tmp_path / "own" / "exam.toml"
    settings.write_text(settings.read_text().replace('"python"\n', '"python"\nneeds = ["abacus"]\n', 1))
    with pytest.raises(ExamFolderError, match="needs: unknown: 'abacus'; known here: go, "):
        check_exam(str(tmp_path / "own"), sandbox)


def test_files_that_cannot_lie_in_one_box_are_named_when_the_exam_is_read(tmp_path: Path) -> None:
    new_exam(tmp_path / "own")
    (tmp_path / "own" / "files").mkdir(exist_ok=True)
    (tmp_path / "own" / "files" / "x").write_text("a file")
    below = tmp_path / "own" / "tasks" / "main" / "files" / "x"
    below.mkdir(parents=True)
    (below / "y").write_text("below it")
    with pytest.raises(ExamFolderError, match=r"tasks/main/files/x/y and .*own/files/x go into one box"):
        open_exam(tmp_path / "own")
    (tmp_path / "own" / "files" / "x").unlink()
    (tmp_path / "own" / "files" / "x").mkdir()
    (tmp_path / "own" / "files" / "x" / "z").write_text("beside it")
    assert open_exam(tmp_path / "own")
    (below / "y").unlink()
    below.rmdir()
    below.write_text("a file, and the exam has a folder of that name")
    with pytest.raises(ExamFolderError, match=r"files/x/z and .*tasks/main/files/x go into one box"):
        open_exam(tmp_path / "own")


def test_a_folder_where_the_answer_belongs_is_named(tmp_path: Path) -> None:
    new_exam(tmp_path / "own")
    taken = tmp_path / "own" / "files" / "main.py"
    taken.mkdir(parents=True)
    (taken / "data").write_text("1")
    with pytest.raises(ExamFolderError, match=r"files/main.py/data: 'main.py' is what the answer is called"):
        open_exam(tmp_path / "own")


def test_a_folder_without_exam_toml_is_no_exam_whatever_else_lies_there(tmp_path: Path) -> None:
    (tmp_path / "a-link").symlink_to("/etc")
    with pytest.raises(ExamFolderError, match=r"is no exam: it has no exam\.toml"):
        open_exam(tmp_path)


def test_a_bound_above_full_marks_proves_nothing_and_is_refused(tmp_path: Path) -> None:
    new_exam(tmp_path / "own")
    (tmp_path / "own" / "cheats" / "more.py").write_text("print(1)\n")
    (tmp_path / "own" / "cheats" / "cheats.toml").write_text("[more]\nmost = 1000\n")
    with pytest.raises(SpecimenError, match="most of 'more' is 1000\ngive points from 0 to full marks, "):
        open_exam(tmp_path / "own").specimens()


def test_the_longest_argument_that_is_read_can_be_given(tmp_path: Path, sandbox: Sandbox) -> None:
    new_exam(tmp_path / "own")
    words = ["é" * 50_000] * 5
    (tmp_path / "own" / "exam.toml").write_text(
        f'name = "long"\nlanguage = "python"\n[[test]]\nname = "long"\nargs = {words}\nstdout = "250000"\n'
    )
    program = "import sys\nprint(sum(map(len, sys.argv[1:])))\n"
    assert graded(tmp_path / "own", program, sandbox, tmp_path / "1").outcome is Outcome.PASSED
