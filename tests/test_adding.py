"""A column and a command, added to a copy of the tree in the files that ARCHITECTURE.md names, and in no others."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
TREES = ("orchestrator", "profiles", "quants", "results", "runners", "tests", "docs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all that is ours."""
    for name in TREES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("ARCHITECTURE.md", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def listed(what: str) -> set[str]:
    """The files that ARCHITECTURE.md names for adding something; of a module or package of one's own, its folder."""
    for line in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"| {what} |"):
            return set(re.findall(r"`([^`]+)`", line.split("|")[2]))
    raise AssertionError(f"ARCHITECTURE.md does not say what is touched for {what}")


def changed(tree: Path) -> set[str]:
    """The files of the copy that are not as ours; of new ones, their folder."""
    found = set()
    for path in (path for name in TREES for path in (tree / name).rglob("*") if path.is_file()):
        name = path.relative_to(tree).as_posix()
        if "__pycache__" in name:
            continue
        if not (ROOT / name).exists():
            found.add(f"{Path(name).parent.as_posix()}/")
        elif (ROOT / name).read_bytes() != path.read_bytes():
            found.add(name)
    return found


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before
    path.write_text(after, encoding="utf-8")


def python(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_column(tree: Path) -> None:
    from results.schema import COLUMNS, SCHEMA_VERSION

    line = f"{'moon':21}{'string':14}{'-':11}Phase of the moon when the job ran.\n"
    columns = [f"{column.name}:{column.type}" for column in COLUMNS]
    place = columns.index("governor:string")
    with_moon = [*columns[:place], "moon:string", *columns[place:]]
    old, new = (hashlib.sha256(";".join(names).encode()).hexdigest()[:16] for names in (columns, with_moon))

    def in_schema(text: str) -> str:
        text = text.replace(
            f"SCHEMA_VERSION: Final = {SCHEMA_VERSION}", f"SCHEMA_VERSION: Final = {SCHEMA_VERSION + 1}"
        )
        return re.sub(r"^governor ", f"{line}governor ", text, flags=re.MULTILINE)

    edit(tree / "results/schema.py", in_schema)
    edit(
        tree / "runners/rowcheck.py",
        lambda text: text.replace("hardware_class governor", "hardware_class moon governor"),
    )
    edit(
        tree / "runners/row.py",
        lambda text: text.replace('"governor": node', '"moon": "full",\n        "governor": node'),
    )
    edit(
        tree / "tests/results/test_results_schema.py",
        lambda text: text.replace(f'({SCHEMA_VERSION}, "{old}")', f'({SCHEMA_VERSION + 1}, "{new}")'),
    )
    page = python(tree, "-m", "results.describe")
    edit(tree / "docs/columns.md", lambda _: page)
    assert changed(tree) == listed("a column")
    tests = ("tests/results/test_results_schema.py", "tests/runners/test_rowcheck.py")
    python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert "`moon` | string |  | Phase of the moon" in page


def test_a_command(tree: Path) -> None:
    (tree / "orchestrator/commands/hello.py").write_text(
        '"""`quantsweep hello`."""\n\nfrom __future__ import annotations\n\n\n'
        'def hello_lines(name: str) -> list[str]:\n    """What is said to `name`."""\n    return [f"hello {name}"]\n'
    )
    command = """
@app.command()
def hello(name: str) -> None:
    \"\"\"Say hello.\"\"\"
    from orchestrator.commands.hello import hello_lines

    terminal.stdout().say(*hello_lines(name))
"""
    edit(tree / "orchestrator/cli/app.py", lambda text: text + command)
    assert changed(tree) == listed("a command")
    assert python(tree, "-m", "orchestrator", "hello", "[b]x") == "hello [b]x\n"
    assert "Say hello." in python(tree, "-m", "orchestrator", "--help")
    python(
        tree,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_structure.py",
        "-k",
        "cli or commands or circle",
    )
