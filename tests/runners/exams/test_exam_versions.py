"""An exam's versions are pinned to what they stand for, so that neither a prompt nor a grader changes unnoticed."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners.exams import exam_names, get_exam
from runners.exams.folder.exam import packaged_exam

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]

PROMPTS = {
    ("go-v2", "1"): "1d5d6c3b0965770e",
    ("go-v3", "1"): "3ba1364ea07abae3",
    ("go-v1", "1"): "c877ff8b962c6977",
    ("todo", "1"): "56c132ce2e46b433",
}
"""Exam and prompt version to the fingerprint of the messages. A version that was released never gets another one."""
GRADERS = {
    ("go-v2", "2"): "a038e11939755d23",
    ("go-v3", "3"): "4c85bfe7f3351a70",
    ("go-v1", "3"): "f67263d3ea136f07",
    ("todo", "4"): "38a74582d8fbc472",
}
"""Exam and grader version to the fingerprint of the grader: its package, and what that imports."""

NOT_SCORING = (
    *("runners.sandbox", "runners.errors", "runners.chat"),
    *("runners.exams.base", "runners.exams.box", "runners.exams.folder.specimens"),
    "runners.toolchains",
)
"""What a grader imports and no score of a sound machine depends on: isolation, errors, types, the grader's proof."""
NOT_READ = tuple(
    f"{exam}/{name}"
    for exam in ("todo", "go_v1", "go_v2", "go_v3")
    for name in ("prompt.md", "exam.toml", "reference/", "mutants", "cheats/", "published/")
)
"""Files of exams that no grader reads: prompts have a version of their own, and specimens prove the grader."""


def module_file(name: str) -> Path | None:
    """The file of a module of ours."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def is_scoring(name: str) -> bool:
    return not any(name == left_out or name.startswith(f"{left_out}.") for left_out in NOT_SCORING)


def imports_of(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules of `runners` that are imported anywhere in `tree`, which is of a module of `package`."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.startswith("runners.") and module_file(name) is not None)


def package_of(exam: str) -> str:
    """The package of an exam: that of `go-v1` is `go_v1`."""
    return exam.replace("-", "_")


def modules_of(exam: str) -> list[str]:
    """The modules that decide a score: those of the exam's package, and what they import, again and again."""
    package = ROOT / "runners" / "exams" / package_of(exam)
    found = {f"runners.exams.{package.name}"}  # which opens the exam; its grader is in the modules
    open_names = [
        f"runners.exams.{package.name}.{path.stem}" for path in package.glob("*.py") if path.stem != "__init__"
    ]
    while open_names:
        name = open_names.pop()
        file = module_file(name)
        if name in found or file is None or not is_scoring(name):
            continue
        found.add(name)
        open_names += imports_of(ast.parse(file.read_text(encoding="utf-8")), name.rpartition(".")[0])
    return sorted(found)


def meaning(node: object) -> object:
    """A syntax tree without what cannot change a result: places, comments, docstrings, annotations."""
    if isinstance(node, list):
        return [meaning(item) for item in node if not _is_text_alone(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    left_out = {"annotation", "returns", "type_comment", "type_params", "kind"}
    fields = [(name, meaning(value)) for name, value in ast.iter_fields(node) if name not in left_out]
    return [type(node).__name__, *((name, value) for name, value in fields if value not in ([], "None"))]


def _is_text_alone(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def of_source(text: str) -> str:
    return fingerprint(meaning(ast.parse(text)))


def grader_fingerprint(exam: str) -> str:
    files = [(name, module_file(name)) for name in modules_of(exam)]
    sources = [(name, of_source(file.read_text(encoding="utf-8"))) for name, file in files if file is not None]
    # Of exam.toml what decides a score: the version itself is no part of what it stands for.
    settings = packaged_exam(f"runners.exams.{package_of(exam)}").settings.scoring()
    return fingerprint([*sources, *((name, digest) for name, digest in data_of(exam)), settings])


def data_of(exam: str) -> list[tuple[str, str]]:
    """The files of an exam's package that its grader may read, with their digests."""
    exams = ROOT / "runners" / "exams"
    files = [
        path
        for path in sorted((exams / package_of(exam)).rglob("*"))
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    ]
    named = [(path.relative_to(exams).as_posix(), path) for path in files]
    return [(name, hashlib.sha256(p.read_bytes()).hexdigest()) for name, p in named if not name.startswith(NOT_READ)]


@pytest.mark.parametrize("name", exam_names())
def test_a_prompt_changes_only_with_its_version(name: str) -> None:
    exam = get_exam(name)
    found = fingerprint([message.to_json() for task in exam.tasks() for message in task.messages])
    assert PROMPTS.get((name, exam.prompt_version)) == found, (
        f"what exam {name!r} asks is not what prompt_version {exam.prompt_version!r} stands for. Answers to another "
        f"question are other jobs: raise `prompt_version`, and add ({name!r}, <new version>): {found!r} to PROMPTS."
    )


@pytest.mark.parametrize("name", exam_names())
def test_a_grader_changes_only_with_its_version(name: str) -> None:
    exam = get_exam(name)
    found = grader_fingerprint(name)
    assert GRADERS.get((name, exam.grader_version)) == found, (
        f"the grader of exam {name!r} is not the one that grader_version {exam.grader_version!r} stands for (it is "
        f"made of {', '.join(modules_of(name))}). If a score can come out differently, raise `grader_version` and add "
        f"({name!r}, <new version>): {found!r} to GRADERS; old runs are then graded anew by `quantsweep regrade`. If "
        f"no score can change (a name, a message), put {found!r} beside the version that it has."
    )


def test_the_fingerprint_is_over_what_decides_a_score() -> None:
    found = modules_of("todo")
    assert {"runners.extract", "runners.textwork", "runners.exams.todo.functional"} <= set(found)
    assert not [name for name in found if name.startswith("runners.sandbox") or name.endswith("specimens")]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("x = 1", "x = 2", False),
        ("x = 1  # one", "x = (\n    1\n)", True),
        ('def f(a: int) -> int:\n    "Said."\n    return a', "def f(a):\n    return a", True),
        ("def f(a):\n    return a", "def f(a):\n    return -a", False),
        ("x = f'{a}'", "x = f'{a!r}'", False),
        ("LIMIT = 10.0", "LIMIT = 10", False),
    ],
)
def test_comments_and_docstrings_change_no_fingerprint_and_code_does(before: str, after: str, same: bool) -> None:
    assert (of_source(before) == of_source(after)) is same


def test_a_change_of_a_rule_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = grader_fingerprint("todo")
    read = Path.read_text

    def changed(path: Path, *arguments: str, **options: str) -> str:
        text = read(path, *arguments, **options)
        return text.replace("FEATURE_POINTS = 4.0", "FEATURE_POINTS = 5.0") if path.name == "grader.py" else text

    monkeypatch.setattr(Path, "read_text", changed)
    assert grader_fingerprint("todo") != before
