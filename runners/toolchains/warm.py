"""Caches that toolchains build with: made once on a machine, from our own sources, and never written to again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from quants.digests import cache_folder
from runners.sandbox.cleanup import remove_tree
from runners.toolchains.base import ToolchainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

VARIABLE = "QUANTSWEEP_TOOLCHAINS"
_MAKING = ".making"
# A standard library from its sources on a slow and busy machine.
_COMMAND_S = 1500.0
_SAID_CHARS = 2000


def warm_folder() -> Path:
    """Where they are: `$QUANTSWEEP_TOOLCHAINS`, else `toolchains` in quantsweep's cache."""
    named = os.environ.get(VARIABLE)
    # Through no link: a sandbox shows it where it really is.
    return Path(os.path.realpath(named or cache_folder() / "toolchains"))


def warm_cache(key: str, make: Callable[[Path], None]) -> Path:
    """The cache called `key`, which holds what `make` puts into the folder that it is given.

    A cache is made beside its place and renamed when it is whole, by one process at a time, so whoever finds it can
    use it. What a killed process left half made is made anew.

    Raises:
        ToolchainError: It cannot be made; the message has the reason.
    """
    parent = warm_folder()
    place = parent / key
    try:
        if place.is_dir():
            return place
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(parent / f"{key}.lock"):
            if not place.is_dir():
                making = parent / f"{key}{_MAKING}"
                remove_tree(making)
                making.mkdir()
                make(making)
                making.rename(place)
    except OSError as error:
        raise ToolchainError(
            f"the cache {place} cannot be made: {error.strerror or error}",
            f"make room there, or name another folder in {VARIABLE}",
        ) from error
    return place


def ask(argv: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
    """Runs a command of ours in `folder`, outside any sandbox, and waits for its end.

    Raises:
        ToolchainError: It does not end well; the message has the last of what it said.
    """
    try:
        done = subprocess.run(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=_COMMAND_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{argv[0]} does not work: {error}") from error
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()[-_SAID_CHARS:]
        raise ToolchainError(f"{' '.join(argv[:3])} ends with {done.returncode}: {said}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with it, among all processes; the kernel lets go however its holder ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
