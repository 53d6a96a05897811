"""Both kinds of sandbox, and a Python inside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from runners.sandbox import Completed, Limits, Sandbox, SandboxUnavailable, open_sandbox
from runners.sandbox.cleanup import remove_tree
from runners.sandbox.python import python_runtime

if TYPE_CHECKING:
    from pathlib import Path

RunPython = Callable[..., Completed]


@pytest.fixture(params=["bubblewrap", "namespaces"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return open_sandbox(request.param)
    except SandboxUnavailable as error:
        pytest.skip(f"no {request.param} here: {error.message}")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    """The folder a program works in; taken away as a grader does, since pytest's own clean-up stops at deep folders."""
    folder = tmp_path / "box"
    folder.mkdir()
    yield folder
    remove_tree(folder)


@pytest.fixture
def run_python(sandbox: Sandbox, box: Path) -> RunPython:
    """Runs a piece of Python inside; keyword arguments as those of `Sandbox.run`."""
    runtime = python_runtime(sandbox)

    def run(program: str, *arguments: str, **options: Any) -> Completed:
        options.setdefault("limits", Limits(wall_s=60.0, cpu_s=20.0))
        options.setdefault("view", runtime.view)
        argv = [runtime.executable, "-I", "-S", "-c", program, *arguments]
        return sandbox.run(argv, workdir=box, **options)

    return run
