"""Where the programs of engines are on this machine: one answer for `nodes`, `plan`, `run`, `fits` and `doctor`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiles.homes import UnknownHomeError, expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

BINARY_VARIABLE: Final = "LLAMA_SERVER"
LLAMA_SERVER: Final = "llama-server"
PLANNER: Final = "llama-fit-params"
HOW_TO_GET_IT: Final = (
    "put it on PATH, name it with engine.binary in the spec, with the variable LLAMA_SERVER or in machine.toml, "
    "or build it: make llama-cpp (BACKEND=cuda, vulkan, rocm, metal for a GPU: docs/gpu-builds.md)"
)


class NotHereError(Exception):
    """There is none, or (`is_named`) not where somebody said; the text is the reason, `hint` the way out."""

    def __init__(self, reason: str, *, is_named: bool = False, hint: str = HOW_TO_GET_IT) -> None:
        super().__init__(reason)
        self.is_named = is_named
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Program:
    """A program and who said that it is this one: `engine.binary`, `machine.toml`, `LLAMA_SERVER`, `PATH`, ..."""

    path: Path
    origin: str


def build_cache() -> Path:
    """Where `make llama-cpp` puts what it builds, one folder for each version."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "quantsweep"


def find_llama_server(
    *,
    in_spec: str | None = None,
    of_owner: str | None = None,
    search_path: str | None = None,
    environment: Mapping[str, str] | None = None,
    builds: Path | None = None,
) -> Program:
    """The llama-server: named in the spec, else in machine.toml, else by LLAMA_SERVER, else on PATH, else built here.

    Of several builds of ours one for a GPU comes before the CPU's, and of a kind the newest. What is named and is not
    there is an error: nobody gets another program than the one that was asked for.

    Args:
        in_spec: `engine.binary`.
        of_owner: `llama_server` in machine.toml.
        search_path: in the form of PATH; None: the process's own.
        environment: where LLAMA_SERVER is looked up; None: the process's own.
        builds: where `make llama-cpp` puts its builds; None: `build_cache()`.

    Raises:
        NotHereError: what is named is not there or cannot be run, or nothing is named and nothing found.
    """
    environment = os.environ if environment is None else environment
    for origin, path in (
        ("engine.binary", in_spec),
        ("machine.toml", of_owner),
        (BINARY_VARIABLE, environment.get(BINARY_VARIABLE)),
    ):
        if path:
            return Program(_named(origin, path), origin)
    if on_path := shutil.which(LLAMA_SERVER, path=search_path):
        return Program(Path(on_path), "PATH")
    built = [each for each in (builds or build_cache()).glob(f"llama-cpp-*/bin/{LLAMA_SERVER}") if each.is_file()]
    if built:
        return Program(max(built, key=lambda path: (_reach(path), path.stat().st_mtime)), "make llama-cpp")
    raise NotHereError(f"{LLAMA_SERVER} was not found on this node")


def find_planner(server: Path | None = None) -> Path | None:
    """`llama-fit-params` beside `server`, the program that will be used, else on PATH; None where it is in neither."""
    if server is not None:
        beside = server.resolve().parent / PLANNER
        if os.access(beside, os.X_OK):
            return beside
    on_path = shutil.which(PLANNER)
    return None if on_path is None else Path(on_path)


def _reach(path: Path) -> int:
    """How much of a machine a build of ours can use: its backend is in the name of its folder.

    Whoever built one for a GPU has that GPU. The maker's own backend comes before Vulkan, which any card can do.
    """
    words = path.parent.parent.name.split("-")
    return 2 if {"cuda", "rocm", "metal"} & set(words) else 1 if "vulkan" in words else 0


def _named(origin: str, path: str) -> Path:
    try:
        found = expanded(path)
    except UnknownHomeError as error:
        raise NotHereError(f"{origin} names {error}", is_named=True) from None
    if found.is_file():
        if not os.access(found, os.X_OK):
            hint = f"chmod +x {path}"
            raise NotHereError(f"{origin} names {path}, which is not executable", is_named=True, hint=hint)
        return found
    what = "is a folder" if found.is_dir() else "does not exist on this node"
    raise NotHereError(f"{origin} names {path}, which {what}", is_named=True)
