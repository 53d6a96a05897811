"""The structure that ARCHITECTURE.md promises: one-way imports, Ray in few modules, one exit to the terminal."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.onewayout import children, ways_out

if TYPE_CHECKING:
    from collections.abc import Collection

ROOT = Path(__file__).parent.parent
ROOMS = ("orchestrator", "profiles", "quants", "results", "runners")
ALLOWED = {
    "orchestrator": {"orchestrator", "profiles", "quants", "results", "runners"},
    "runners": {"runners", "quants", "profiles"},
    "quants": {"quants", "profiles"},
    "profiles": {"profiles"},
    "results": {"profiles", "results"},
}
KNOW_RAY = {
    "orchestrator/agent.py",
    "orchestrator/cluster/connection.py",
    "orchestrator/cluster/node.py",
    "orchestrator/cluster/probe.py",
    "orchestrator/cluster/question.py",
}
HEAVY = {"ray", "pyarrow", "huggingface_hub", "xllamacpp", "pynvml", "pandas", "polars", "duckdb"}
EXIT = "orchestrator/terminal/"
# Programs of their own, whose standard streams are pipes and files of ours and never a terminal.
PROGRAMS = {
    "orchestrator/cluster/question.py": "a pipe that we read",
    "results/describe.py": "docs/columns.md, which is made of our own words",
    "runners/engines/embedded_child.py": "the engine's log, and a pipe that we read",
    "runners/exams/go_v3/inside.py": "a pipe that we read",
    "runners/sandbox/launcher.py": "pipes that we read",
    "runners/supervisor.py": "the engine's log",
}
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


def imported_modules(source: str, known: Collection[str], package: str = "") -> set[str]:
    """Those of the modules `known` (dotted names) that are imported anywhere in `source`, a module of `package`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names} & set(known)
            found |= inner or {module}
    return found & set(known)


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_to_the_structure(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    found = imported(tree)
    assert found & set(ROOMS) <= ALLOWED[module.partition("/")[0]], "imports run one way"
    assert "ray" not in found or module in KNOW_RAY
    assert ast.get_docstring(tree), "the first line of a module says its one responsibility"
    at_import = {name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in imported(node)}
    if module != "orchestrator/agent.py":
        assert not at_import & HEAVY, "heavy imports stay inside the functions that need them"
    # `orchestrator.terminal.stdout()` is for answers, `stderr()` for what is said beside them; both take foreign text.
    if module not in PROGRAMS and not module.startswith(EXIT):
        assert not ways_out(tree), "there is one exit to the terminal"
    # `profiles.environment.child_environment()` is what a child may see; the environment is full of secrets.
    assert not children(tree), "no child inherits a stream or the environment"


def test_no_import_goes_in_a_circle() -> None:
    """Imports inside functions and those for type checking count as well."""
    paths = {module.removesuffix(".py").removesuffix("/__init__").replace("/", "."): module for module in MODULES}
    imports = {
        name: imported_modules((ROOT / path).read_text(), paths, name.rpartition(".")[0]) - {name}
        for name, path in paths.items()
    }
    try:
        tuple(TopologicalSorter(imports).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    "source",
    [
        "print('hello')",
        "import sys; sys.stdout.write(x)",
        "def f(out=sys.stderr): out.write(x)",
        "from sys import stderr",
        "typer.echo(x)",
        "from typer import secho",
        "import click; click.echo(x, err=True)",
        "from rich import print as show",
        "from rich.console import Console; Console().print(x)",
        "self._live.console.print(text)",
        "from rich.live import Live",
        "logging.basicConfig()",
        "handler = logging.StreamHandler()",
        "warnings.warn('look')",
        "traceback.print_exc()",
        "os.write(2, b'x')",
        "open('/dev/tty', 'w').write(x)",
        "os.system('echo')",
    ],
)
def test_every_other_way_out_is_found(source: str) -> None:
    assert ways_out(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(['ls'], env=e)",
        "subprocess.Popen(a, stdout=1, stderr=2)",
        "os.popen('ls')",
        "partial(subprocess.run, a)",
    ],
)
def test_a_child_that_inherits_is_found(source: str) -> None:
    assert children(ast.parse(source))


def test_no_test_imports_ray_when_it_is_collected() -> None:
    """Ray reads how to authenticate when it is imported: that would settle it for every test of the process."""
    for path in (ROOT / "tests").rglob("*.py"):
        loaded = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "ray" not in {name for node in loaded for name in imported(node)}, path
        names = {node.module for node in loaded if isinstance(node, ast.ImportFrom)}
        assert "orchestrator.agent" not in names, path


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
