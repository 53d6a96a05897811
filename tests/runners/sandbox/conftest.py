"""Both kinds of sandbox, and a Python inside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from runners.sandbox import Completed, Limits, Sandbox, SandboxUnavailable, open_sandbox
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
def box(tmp_path: Path) -> Path:
    folder = tmp_path / "box"
    folder.mkdir()
    return folder


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
