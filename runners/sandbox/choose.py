"""Which sandbox this machine has: the first that really runs something."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from runners.errors import RunnersError
from runners.sandbox.advice import install_command, namespace_command
from runners.sandbox.base import Limits, Sandbox, SandboxUnavailable
from runners.sandbox.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = b"inside\n"
# How the kernel's refusal of a namespace, or of what has to be done in one, reads in the launcher's report.
_REFUSED_BY_KERNEL = ("unshare:", "user namespace:", "mount ", "pivot_root:")
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
    refusals: dict[str, RunnersError] = {}
    for name in [prefer] if prefer else _KINDS:
        try:
            return _tried(_KINDS[name]())
        except RunnersError as error:
            refusals[name] = error
    reasons = "; ".join(f"{name}: {error.message}" for name, error in refusals.items())
    what = f"the sandbox {prefer} does not work" if prefer else "no sandbox works"
    raise SandboxUnavailable(f"{what} on this machine, and nothing runs without one ({reasons})", _hint(refusals))


def _hint(refusals: dict[str, RunnersError]) -> str:
    """The one command that mends it: allow namespaces where those are the trouble, else install bubblewrap."""
    namespaces = refusals.get("namespaces")
    if namespaces is not None and any(word in namespaces.message for word in _REFUSED_BY_KERNEL):
        return namespace_command()
    first = next(iter(refusals.values()))
    return first.hint or install_command("bubblewrap")


def _tried(sandbox: Sandbox) -> Sandbox:
    """`sandbox`, once it has run a command."""
    with Scratch() as folder:
        done = sandbox.run(["/bin/sh", "-c", "echo inside"], workdir=folder.path, limits=_PROBE_LIMITS)
    if done.status != "ok" or done.stdout != _WORD:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise SandboxUnavailable(f"a trial run ended with {done.status} {said}".strip())
    return sandbox
