"""Which sandbox this machine has: the first that really runs something."""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runners.errors import RunnersError
from runners.sandbox.advice import install_command, namespace_command
from runners.sandbox.base import Limits, Sandbox, SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = b"inside\n"
_PROBE_LIMITS = Limits(wall_s=20.0, cpu_s=10.0)


def _bubblewrap() -> Sandbox:
    from runners.sandbox.bubblewrap import BubblewrapSandbox

    return BubblewrapSandbox()


def _namespaces() -> Sandbox:
    from runners.sandbox.namespaces import NamespaceSandbox

    return NamespaceSandbox()


_KINDS: dict[str, Callable[[], Sandbox]] = {"bubblewrap": _bubblewrap, "namespaces": _namespaces}


@cache
def choose(prefer: str | None) -> Sandbox:
    """See `runners.sandbox.open_sandbox`."""
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable(f"there is no sandbox for {sys.platform}", "run the sweep on Linux (on Windows: WSL2)")
    if prefer is not None and prefer not in _KINDS:
        raise SandboxUnavailable(f"there is no sandbox called {prefer!r}", f"choose one of: {', '.join(_KINDS)}")
    refusals: list[str] = []
    hint = ""
    for name in [prefer] if prefer else _KINDS:
        try:
            return _tried(_KINDS[name]())
        except RunnersError as error:
            refusals.append(f"{name}: {error.message}")
            hint = error.hint
    if prefer != "bubblewrap":
        hint = namespace_command()
    raise SandboxUnavailable(
        f"no sandbox works on this machine, and nothing runs without one ({'; '.join(refusals)})",
        hint or install_command("bubblewrap"),
    )


def _tried(sandbox: Sandbox) -> Sandbox:
    """`sandbox`, once it has run a command."""
    with tempfile.TemporaryDirectory(prefix="quantsweep-probe-") as folder:
        done = sandbox.run(["/bin/sh", "-c", "echo inside"], workdir=Path(folder), limits=_PROBE_LIMITS)
    if done.status != "ok" or done.stdout != _WORD:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise SandboxUnavailable(f"a trial run ended with {done.status} {said}".strip())
    return sandbox
