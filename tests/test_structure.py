"""The structure that ARCHITECTURE.md promises: one-way imports, Ray in three modules, a purpose for each module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("orchestrator", "profiles", "quants", "results", "runners")
ALLOWED = {
    "orchestrator": {"orchestrator", "profiles", "quants", "results", "runners"},
    "runners": {"runners", "quants", "profiles"},
    "quants": {"quants", "profiles"},
    "profiles": {"profiles"},
    "results": {"results"},
}
KNOW_RAY = {"orchestrator/agent.py", "orchestrator/cluster.py", "orchestrator/driver.py"}
HEAVY = {"ray", "pyarrow", "huggingface_hub", "xllamacpp", "pynvml", "pandas", "polars", "duckdb"}
MODULES = sorted(path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """The top-level names of everything that is imported anywhere in `tree`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_to_the_structure(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    room = module.partition("/")[0]
    assert imported(tree) & set(ROOMS) <= ALLOWED[room], "imports run one way"
    if "ray" in imported(tree):
        assert module in KNOW_RAY
    doc = ast.get_docstring(tree)
    assert doc, "the first line of a module says its one responsibility"
    at_import = {name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in imported(node)}
    if module != "orchestrator/agent.py":
        assert not at_import & HEAVY, "heavy imports stay inside the functions that need them"


def test_the_schema_imports_nothing_of_ours() -> None:
    assert not imported(ast.parse((ROOT / "results" / "schema.py").read_text())) & set(ROOMS)


def test_no_module_grows_beyond_one_responsibility() -> None:
    long = {m: n for m in MODULES if (n := len((ROOT / m).read_text().splitlines())) > 450}
    assert not long


def test_every_path_that_the_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if not path.startswith("runs/")}
    assert len(named) > 20
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
