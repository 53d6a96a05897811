"""Programs that grading and fit questions need, as they are found on the search path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiles.types import FoundTool

if TYPE_CHECKING:
    from profiles.probe.system import System

TOOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # name: (programs that serve, the first one found wins), (arguments that print the version)
    "bwrap": (("bwrap",), ("--version",)),
    "go": (("go",), ("version",)),
    "node": (("node", "nodejs"), ("--version",)),
    "chromium": (("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), ("--version",)),
    "cc": (("cc", "gcc", "clang"), ("--version",)),
    "llama-fit-params": (("llama-fit-params",), ("--version",)),
}


def find_tools(system: System, *, versions: bool = True) -> tuple[FoundTool, ...]:
    """The tools of :data:`TOOLS` that are there. ``versions`` asks each for its version, some milliseconds apiece."""
    found = []
    for name, (programs, arguments) in TOOLS.items():
        path = next((path for program in programs if (path := system.which(program))), None)
        if path is None:
            continue
        version = _version(system.output([path, *arguments], timeout_s=3.0)) if versions else None
        found.append(FoundTool(name, path, version))
    return tuple(found)


def _version(output: str | None) -> str | None:
    """The first line that holds a number: loaders and sandboxes like to warn before they answer."""
    lines = [line.strip() for line in (output or "").splitlines()]
    return next((line.removeprefix("version: ") for line in lines if re.search(r"\d", line)), None)
