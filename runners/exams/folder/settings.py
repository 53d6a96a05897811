"""`exam.toml`: what an exam's folder says of itself, with every problem named by line and key.

name = "sums"                   what specs and tables call it
language = "python"             what the answer is written in (runners.exams.folder.languages)
filename = "sums.py"            how the program is called in the box; the language has a usual one
description = "adds numbers"    in a line, for whoever lists exams
needs = ["tk"]                  besides what the language needs (profiles.probe.needs)
score_max = 4                   the sum of all points, which is the default; needed where a grader.py gives them
scorings = ["points"]           with grader.py alone
prompt_version = "1"            of quantsweep's own exams alone: a user's folder is versioned by what is in it,
grader_version = "1"            whatever stands here

[prompt]
insert = { "@data@" = "files/data.csv" }    what stands in prompt.md for the text of a file

[limits]                        of each run in the sandbox; a grader.py finds them in `box.limits`
wall_s = 10.0                   cpu_s, memory_mib, output_kib, file_mib, files, processes, address_space_mib, build_s

[[test]]                        the first form: the program is run by itself, and what it prints is compared
name = "adds"
points = 1
args = ["2", "3"]
stdin = ""
stdout = "5"                    without the white space at the ends of lines and of the whole
exit_code = 0

[grader]                        the second: a command that tries the program
command = ["{python}", "files/try.py", "{program}"]
output = "exit-code"            or "tap", "jsonl": a result for each of the items in `points`
points = { adds = 1, subtracts = 3 }
word = true                     results count only with the word that the command reads first on its standard input

[grader]                        the third: a function of Python, with the rights of whoever runs quantsweep
python = "grader.py"

[[task]]                        where there are several; the prompt is then tasks/NAME/prompt.md
name = "easy"
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from profiles.probe.needs import NEEDS
from runners.exams.folder.content import ExamFolderError
from runners.exams.folder.languages import LANGUAGES
from runners.exams.folder.tables import MOST_SAID, Table, parsed
from runners.sandbox.base import MIB, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

EXAM_TOML: Final = "exam.toml"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OUTPUTS: Final = ("exit-code", "tap", "jsonl")
MOST_ITEMS: Final = 500
MOST_TASKS: Final = 200
_MOST_POINTS: Final = 1e6
_MOST_WORD: Final = 100_000
"""Linux takes arguments of up to 128 KiB each (MAX_ARG_STRLEN, execve(2)); the sandbox needs some of all of them."""
_MOST_WORDS: Final = 500_000
_MOST_WORDS_NUMBER: Final = 5000
_RUN: Final = Limits(wall_s=10.0, cpu_s=10.0, memory_bytes=512 * MIB, processes=64)
_BUILD_S: Final = 60.0
_PARTS: Final = {"go-race": ("go",)}
"""Needs that another one includes."""


@dataclass(frozen=True)
class OwnTest:
    """One run of the program and what it has to print; `stdout` None: that is not looked at.

    `task` names the task that it belongs to; empty for every task.
    """

    name: str
    points: float
    args: tuple[str, ...] = ()
    stdin: str = ""
    stdout: str | None = None
    exit_code: int = 0
    task: str = ""


@dataclass(frozen=True)
class Command:
    """A command that tries the program. `points` are those of each item; of the only one with `exit-code`."""

    argv: tuple[str, ...]
    output: str
    points: Mapping[str, float]
    word: bool


@dataclass(frozen=True)
class ExamSettings:
    """What an `exam.toml` says; one of `tests`, `command` and `python` is there.

    `tasks` are the names of the tasks, `main` where there is one. `build_s` bounds the building of a program.
    `inserts` are words of the prompt, each with the path of the file whose text takes its place.
    """

    name: str
    language: str
    filename: str
    needs: frozenset[str]
    score_max: float
    scorings: tuple[str, ...]
    limits: Limits
    build_s: float
    tests: tuple[OwnTest, ...] = ()
    command: Command | None = None
    python: str | None = None
    tasks: tuple[str, ...] = ("main",)
    description: str = ""
    prompt_version: str = ""
    grader_version: str = ""
    inserts: tuple[tuple[str, str], ...] = ()

    def scoring(self) -> dict[str, Any]:
        """What of it can change a score, by name: neither what is asked nor what a machine needs."""
        found = asdict(self)
        for name in ("prompt_version", "grader_version", "inserts"):
            del found[name]
        return found | {"description": "", "needs": []}


def read_settings(text: str, file: str) -> ExamSettings:
    """The settings in the text of an `exam.toml`, which errors call `file`.

    Raises:
        ExamFolderError: lists every problem.
    """
    root, problems = parsed(text, file)
    name = root.text("name", "exam", required=True)
    if not NAME.fullmatch(name):
        root.problem("name", f"{name[:80]!r} must be 1 to 64 letters, digits, '.', '_' or '-'")
    language = root.text("language", "python", required=True)
    if language not in LANGUAGES:
        root.problem("language", f"{language[:40]!r} is none that programs are run in: {', '.join(LANGUAGES)}")
        language = "python"
    filename = root.text("filename", LANGUAGES[language].filename)
    if not NAME.fullmatch(filename):
        root.problem("filename", f"{filename[:80]!r} must be a plain name such as {LANGUAGES[language].filename!r}")
    needs = _needs(root)
    limits, build_s = _limits(root.table("limits"))
    inserts = _inserts(root.table("prompt"))
    tasks = _tasks(root)
    score_max = root.number("score_max", 0.0, most=_MOST_POINTS)
    scorings = root.texts("scorings") if root.has("scorings") else ("points",)
    if not scorings or len(set(scorings)) < len(scorings) or not all(map(NAME.fullmatch, scorings)):
        root.problem("scorings", "must be different names, one at least")
    tests = _tests(root, tasks)
    command, python = _grader(root, score_max)
    _one_form(root, tests=tests, command=command, python=python)
    settings = ExamSettings(
        name=name,
        language=language,
        filename=filename,
        needs=_all_needs(needs, LANGUAGES[language].needs),
        score_max=score_max,
        scorings=scorings,
        limits=limits,
        build_s=build_s,
        tests=tests,
        command=command,
        python=python,
        tasks=tasks,
        description=root.text("description"),
        prompt_version=root.text("prompt_version"),
        grader_version=root.text("grader_version"),
        inserts=inserts,
    )
    settings = _with_score_max(settings, root)
    root.close()
    _raise(problems.said)
    return settings


def _needs(root: Table) -> tuple[str, ...]:
    """The needs that are named, each of them known: a machine can only lack what it can be asked for."""
    needs = root.texts("needs")
    unknown = [need for need in dict.fromkeys(needs) if need not in NEEDS]
    if unknown:
        said = ", ".join(repr(need[:40]) for need in unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        root.problem("needs", f"unknown: {said}; known here: {', '.join(NEEDS)}")
    return needs


def _all_needs(given: Collection[str], of_language: Collection[str]) -> frozenset[str]:
    """What an exam needs, without what is part of something else that it needs."""
    needs = {*given, *of_language}
    return frozenset(needs.difference(*(_PARTS.get(need, ()) for need in needs)))


def _inserts(table: Table) -> tuple[tuple[str, str], ...]:
    inner = table.table("insert")
    found = []
    for word, path in inner.rest().items():
        if not word.strip() or not isinstance(path, str) or not path:
            inner.problem(word, "must be a word of the prompt, and the path of a file in the exam's folder")
        else:
            found.append((word, path))
    table.close()
    return tuple(found)


def _limits(table: Table) -> tuple[Limits, float]:
    space_mib = table.whole("address_space_mib", 0, most=1_048_576)
    found = replace(
        _RUN,
        wall_s=table.number("wall_s", _RUN.wall_s, most=600),
        cpu_s=table.number("cpu_s", _RUN.cpu_s, most=600),
        memory_bytes=table.whole("memory_mib", _RUN.memory_bytes // MIB, most=65_536) * MIB,
        output_bytes=table.whole("output_kib", _RUN.output_bytes // 1024, most=65_536) * 1024,
        processes=table.whole("processes", _RUN.processes, most=4096),
        file_bytes=table.whole("file_mib", _RUN.file_bytes // MIB, most=65_536) * MIB,
        files=table.whole("files", _RUN.files, most=1_000_000),
        address_space_bytes=space_mib * MIB or None,
    )
    build_s = table.number("build_s", _BUILD_S, most=600)
    table.close()
    return found, build_s


def _tasks(root: Table) -> tuple[str, ...]:
    names = []
    for table in root.tables("task", MOST_TASKS):
        name = table.text("name", required=True)
        if name and not NAME.fullmatch(name):
            table.problem("name", f"{name[:80]!r} must be 1 to 64 letters, digits, '.', '_' or '-'")
        if name in names:
            table.problem("name", f"the task {name!r} stands here twice")
        table.close()
        names.append(name)
    return tuple(names) or ("main",)


def _tests(root: Table, tasks: Collection[str]) -> tuple[OwnTest, ...]:
    found: list[OwnTest] = []
    for table in root.tables("test", MOST_ITEMS):
        test = OwnTest(
            name=_item_name(table),
            points=table.number("points", 1.0, most=_MOST_POINTS),
            args=_words(table, "args"),
            stdin=table.text("stdin"),
            stdout=table.text("stdout") if table.has("stdout") else None,
            exit_code=table.whole("exit_code", 0, most=255, least=0),
            task=table.text("task"),
        )
        if test.task and test.task not in tasks:
            table.problem("task", f"there is no task {test.task!r}; the tasks are: {', '.join(tasks)}")
        if any(other.name == test.name and {"", test.task} & {"", other.task} for other in found if _meet(other, test)):
            table.problem("name", f"two tests are called {test.name!r}")
        table.close()
        found.append(test)
    return tuple(found)


def _words(table: Table, key: str) -> tuple[str, ...]:
    """What a program is started with: no more than the kernel takes, or each run would fail as the model's mistake."""
    words = table.texts(key)
    sizes = [len(word.encode()) for word in words]
    if sizes and max(sizes) > _MOST_WORD:
        table.problem(
            key, f"one of its texts has {max(sizes):,} bytes; each may have {_MOST_WORD:,}: use stdin or files/"
        )
    elif sum(sizes) > _MOST_WORDS or len(words) > _MOST_WORDS_NUMBER:
        table.problem(
            key,
            f"has {len(words):,} texts of {sum(sizes):,} bytes; there may be {_MOST_WORDS_NUMBER:,} "
            f"of {_MOST_WORDS:,} bytes together: use stdin or files/",
        )
    return words


def _meet(one: OwnTest, other: OwnTest) -> bool:
    """Whether both are of one task."""
    return not one.task or not other.task or one.task == other.task


def _item_name(table: Table) -> str:
    name = table.text("name", required=True)
    if name and (len(name) > 100 or not name.isprintable() or name != name.strip()):
        table.problem("name", "must be at most 100 printable characters without white space around them")
    return name


def _grader(root: Table, score_max: float) -> tuple[Command | None, str | None]:
    if not root.has("grader"):
        root.table("grader")
        return None, None
    table = root.table("grader")
    python = table.text("python") or None
    argv = _words(table, "command")
    output = table.text("output", "exit-code")
    if output not in OUTPUTS:
        table.problem("output", f"{output[:40]!r} is none of {', '.join(OUTPUTS)}")
    word = table.flag("word")
    points = _points(table.table("points"))
    if python is None and not argv:
        table.problem("command", 'is missing: command = ["sh", "files/try.sh"], or python = "grader.py"')
    if python is not None and argv:
        table.problem("command", "is given beside python; a grader is one of the two")
    if argv and output == "exit-code":
        if points:
            table.problem("points", 'has no meaning with output = "exit-code", which is one item; set score_max')
        points = {"exit code": score_max or 1.0}
    elif argv and not points:
        table.problem("points", "is missing: the points of each item, such as { adds = 1 }")
    table.close()
    return Command(argv, output, points, word) if argv else None, python


def _points(table: Table) -> dict[str, float]:
    points: dict[str, float] = {}
    for name, value in table.rest().items():
        fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST_POINTS
        if not fine or len(name) > 100 or not name.isprintable() or name != name.strip() or not name:
            table.problem(name, "must be a plain name with points above 0")
        elif len(points) < MOST_ITEMS:
            points[name] = float(value)
    return points


def _one_form(root: Table, *, tests: tuple[OwnTest, ...], command: Command | None, python: str | None) -> None:
    if not tests and command is None and python is None and not root.has("test"):
        root.problem("", "nothing grades an answer: give [[test]] tables, or [grader] with a command or python")
    if tests and (command is not None or python is not None):
        root.problem("test", "stands beside [grader]; an exam has one of the two")


def _with_score_max(settings: ExamSettings, root: Table) -> ExamSettings:
    """The settings with full marks: the sum of points, which has to be the same for every task."""
    if settings.python is not None:
        if not settings.score_max:
            root.problem("score_max", "is missing: full marks, which a grader.py does not say")
        return settings
    if settings.scorings != ("points",):
        root.problem("scorings", "is for a grader.py; tests and commands have one scoring, called points")
    if settings.command is not None:
        sums = {sum(settings.command.points.values())}
    else:
        sums = {sum(test.points for test in settings.tests if test.task in {"", task}) for task in settings.tasks}
    if len(sums) > 1:
        root.problem(
            "test", f"every task needs the same points in all (here: {', '.join(f'{s:g}' for s in sorted(sums))})"
        )
    full = max(sums)
    if settings.score_max and not math.isclose(settings.score_max, full):
        root.problem("score_max", f"is {settings.score_max:g}, and the points add up to {full:g}; leave it out")
    return replace(settings, score_max=full)


def _raise(said: list[str]) -> None:
    if said:
        more = [f"and {len(said) - MOST_SAID} more"] if len(said) > MOST_SAID else []
        raise ExamFolderError(said[0], "docs/exams.md has every key", details=[*said[1:MOST_SAID], *more])
