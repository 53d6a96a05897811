"""Where llama-server is on this machine: one answer, for the profile that offers it and the engine that starts it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BINARY_VARIABLE = "LLAMA_SERVER"
NAME = "llama-server"


class NotHereError(Exception):
    """There is none, or not where somebody said; the text is the reason."""


def build_cache() -> Path:
    """Where `make llama-cpp` puts what it builds, one folder for each version."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "quantsweep"


def find_llama_server(*, in_spec: str | None = None, of_owner: str | None = None) -> Path:
    """The program: named in the spec, else by LLAMA_SERVER, else in machine.toml, else on PATH, else built here.

    Args:
        in_spec: `engine.binary`.
        of_owner: `llama_server` in machine.toml.

    Raises:
        NotHereError: what is named is not there, or nothing is named and nothing found.
    """
    for origin, path in (
        ("engine.binary", in_spec),
        (f"the variable {BINARY_VARIABLE}", os.environ.get(BINARY_VARIABLE)),
        ("llama_server in machine.toml", of_owner),
    ):
        if not path:
            continue
        found = Path(path).expanduser()
        if found.is_file():
            return found
        what = "is a folder" if found.is_dir() else "does not exist on this node"
        raise NotHereError(f"{origin} names {path}, which {what}")
    if on_path := shutil.which(NAME):
        return Path(on_path)
    built = sorted(build_cache().glob(f"llama-cpp-*/bin/{NAME}"), key=lambda path: path.stat().st_mtime)
    if built:
        return built[-1]
    raise NotHereError(f"{NAME} was not found on this node")
