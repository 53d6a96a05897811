"""exam.toml: every key, and every mistake by line and key."""

from __future__ import annotations

import tomllib

import pytest

from runners.exams.folder.content import ExamFolderError
from runners.exams.folder.settings import Command, OwnTest, read_settings
from runners.sandbox.base import MIB

HEAD = 'name = "mine"\nlanguage = "python"\n'
TEST = '[[test]]\nname = "one"\n'


def complaint(text: str) -> str:
    with pytest.raises(ExamFolderError) as caught:
        read_settings(text, "exam.toml")
    return str(caught.value)


def test_tests_of_our_own() -> None:
    found = read_settings(
        HEAD + 'filename = "app.py"\nneeds = ["tk"]\n[limits]\nwall_s = 3\nmemory_mib = 100\nbuild_s = 7\n'
        "[[test]]\nname = 'adds'\nargs = ['1', '2']\nstdin = 'x'\nstdout = '3'\npoints = 2.5\nexit_code = 4\n" + TEST,
        "exam.toml",
    )
    assert found.tests == (OwnTest("adds", 2.5, ("1", "2"), "x", "3", 4), OwnTest("one", 1.0))
    assert (found.score_max, found.filename, found.needs) == (3.5, "app.py", frozenset({"tk"}))
    assert (found.limits.wall_s, found.limits.memory_bytes, found.build_s) == (3.0, 100 * MIB, 7.0)
    assert (found.tasks, found.scorings) == (("main",), ("points",))


def test_a_command() -> None:
    found = read_settings(
        HEAD.replace("python", "c") + "[grader]\ncommand = ['sh', 'try.sh']\noutput = 'tap'\nword = true\n"
        "points = { adds = 1, 'takes away' = 2 }\n",
        "exam.toml",
    )
    assert found.command == Command(("sh", "try.sh"), "tap", {"adds": 1.0, "takes away": 2.0}, word=True)
    assert found.score_max == 3.0
    assert found.needs == frozenset({"c-compiler"})
    plain = read_settings(HEAD + "score_max = 10\n[grader]\ncommand = ['sh', 'try.sh']\n", "exam.toml")
    assert plain.command == Command(("sh", "try.sh"), "exit-code", {"exit code": 10.0}, word=False)


def test_tests_of_several_tasks_need_equal_points() -> None:
    tasks = HEAD + "[[task]]\nname = 'a'\n[[task]]\nname = 'b'\n"
    each = "[[test]]\nname = 'x'\ntask = 'a'\npoints = 2\n[[test]]\nname = 'x'\ntask = 'b'\npoints = {}\n"
    assert read_settings(tasks + each.format(2), "exam.toml").score_max == 2.0
    assert "every task needs the same points in all (here: 2, 3)" in complaint(tasks + each.format(3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name: is missing"),
        (HEAD, "nothing grades an answer"),
        (HEAD + TEST + "arg = ['1']\n", "exam.toml:5: test[0].arg: unknown key; did you mean 'args'?"),
        (HEAD + TEST + TEST, "exam.toml:6: test[1].name: two tests are called 'one'"),
        (HEAD + "[[test]]\npoints = 0\nname = 'x'\n", "exam.toml:4: test[0].points: must be a number above 0"),
        (HEAD + "[[test]]\npoints = nan\nname = 'x'\n", "must be a number"),
        (HEAD + TEST + "exit_code = 256\n", "exam.toml:5: test[0].exit_code: must be a whole number from 0 to 255"),
        (HEAD + TEST + "exit_code = 2.9\n", "exam.toml:5: test[0].exit_code: must be a whole number from 0 to 255"),
        (
            HEAD + TEST + f"args = ['{'9' * 200_000}']\n",
            "args: one of its texts has 200,000 bytes; each may have 100,000",
        ),
        (HEAD + TEST + f"args = ['{'é' * 60_000}']\n", "args: one of its texts has 120,000 bytes"),
        (HEAD + TEST + f"args = {['9' * 90_000] * 6}\n", "args: has 6 texts of 540,000 bytes; there may be"),
        (HEAD + TEST + f"args = {['9'] * 6_000}\n", "args: has 6,000 texts"),
        (HEAD + f"[grader]\ncommand = ['{'9' * 200_000}']\n", "grader.command: one of its texts has 200,000 bytes"),
        (
            HEAD + "needs = ['a\\u001bb', '']\n".replace("'", '"') + TEST,
            r"exam.toml:3: needs: unknown: 'a\x1bb', ''; known here: go,",
        ),
        (HEAD + TEST + "task = 'b'\n", "there is no task 'b'; the tasks are: main"),
        (HEAD + TEST + "args = '1'\n", "must be a list of texts"),
        (HEAD + TEST + "[grader]\npython = 'g.py'\n", "has one of the two"),
        (HEAD + "[grader]\npython = 'g.py'\n", "score_max: is missing"),
        (HEAD + "[grader]\npython = 'g.py'\ncommand = ['x']\n", "is given beside python"),
        (HEAD + "[grader]\n", "grader.command: is missing"),
        (HEAD + "[grader]\ncommand = ['x']\noutput = 'junit'\n", "'junit' is none of exit-code, tap, jsonl"),
        (HEAD + "[grader]\ncommand = ['x']\noutput = 'tap'\n", "grader.points: is missing"),
        (HEAD + "[grader]\ncommand = ['x']\noutput = 'tap'\npoints = { a = -1 }\n", "points above 0"),
        (HEAD + "score_max = 3\n" + TEST, "score_max: is 3, and the points add up to 1"),
        (HEAD + "scorings = ['a', 'b']\n" + TEST, "is for a grader.py"),
        (HEAD.replace("python", "cobol") + TEST, "'cobol' is none that programs are run in: python, javascript"),
        (HEAD.replace("mine", "../mine") + TEST, "'../mine' must be 1 to 64 letters"),
        (HEAD + "filename = '../x.py'\n" + TEST, "must be a plain name such as 'main.py'"),
        (HEAD + "[limits]\nwall_s = 1e9\n" + TEST, "exam.toml:4: limits.wall_s: must be a number above 0 to 600"),
        (HEAD + "test = 3\n", "must be tables, each under [[test]]"),
        (HEAD + "[[test]\n", "exam.toml:3: this is not valid TOML"),
        ("a" + ".a" * 30 + " = 1", "a key has at most 20 dots"),
        (HEAD + "x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (HEAD + f"score_max = {'9' * 5000}\n" + TEST, "this is not valid TOML"),
        (HEAD + f"score_max = {'9' * 400}\n" + TEST, "must be a number"),
    ],
)
def test_every_mistake_is_named(text: str, said: str) -> None:
    assert said in complaint(text)


def test_many_mistakes_are_counted() -> None:
    text = HEAD + "".join(f"k{number} = 1\n" for number in range(50))
    said = complaint(text).splitlines()
    assert said[1].startswith("exam.toml:3: k0: unknown key")
    assert len(said) <= 22


@pytest.mark.parametrize("key", ["memory_mib", "output_kib", "file_mib", "files", "processes", "address_space_mib"])
@pytest.mark.parametrize("value", ["0.5", "0", "-1", "1.5", "nan", "inf", "true", "1e300", "'1'"])
def test_limits_that_are_counted_are_whole_and_above_nothing(key: str, value: str) -> None:
    assert f"limits.{key}: must be a whole number from 1 to " in complaint(HEAD + f"[limits]\n{key} = {value}\n" + TEST)
    found = read_settings(HEAD + f"[limits]\n{key} = 1.0\n" + TEST, "exam.toml")
    assert found.limits != read_settings(HEAD + TEST, "exam.toml").limits


DOTS = "." * 60


@pytest.mark.parametrize(
    "stdout",
    [
        f'"{DOTS}"',
        f"'{DOTS}'",
        f'"""\n{DOTS}\n"""',
        f"'''\n{DOTS}\n'''",
        f'""""{DOTS}"""""',
        f'"""\\"""\n{DOTS}"""',
        "'#'",
    ],
)
def test_dots_in_texts_are_no_keys(stdout: str) -> None:
    numbers = "args = [\n" + "'1.5', " * 30 + f"\n# {DOTS}\n]\n"
    text = HEAD + TEST + f"stdout = {stdout} # {DOTS}\n{numbers}"
    (test,) = read_settings(text, "exam.toml").tests
    assert test.stdout == tomllib.loads(f"x = {stdout}")["x"]
    for key in ("a" + ".a" * 30 + " = 1\n", "[a" + " . 'b.c'" * 30 + "]\n", "x = { a" + ".a" * 30 + " = 1 }\n"):
        assert f"exam.toml:{text.count(chr(10)) + 1}: a key has at most 20 dots" in complaint(text + key)
