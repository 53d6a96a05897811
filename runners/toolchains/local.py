"""C, C++, Rust, Node and Python inside a sandbox: the toolchains of this machine, tried there before they are used."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiles.environment import child_environment
from profiles.probe.local_tools import c_compiler, cxx_compiler, node_program, rust_compiler
from profiles.probe.system import System
from profiles.probe.trials import MissingError
from runners.sandbox.base import MIB, SYSTEM_ONLY, Limits, Sandbox, View
from runners.sandbox.python import python_runtime
from runners.sandbox.scratch import Scratch
from runners.toolchains.base import Toolchain, ToolchainError

if TYPE_CHECKING:
    from collections.abc import Sequence

Find = Callable[[System], tuple[Path, Path | None]]
"""Finds a program, and the folder besides the system's that it needs to see; raises `MissingError`."""

BUILD_LIMITS: Final = Limits(
    wall_s=60.0, cpu_s=60.0, memory_bytes=1024 * MIB, output_bytes=1 * MIB, file_bytes=256 * MIB, processes=64
)
_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/box", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"}  # noqa: S108 - a path inside
_TRIED: Final = b"built inside\n"
_BINARY: Final = "trial"


@dataclass(frozen=True)
class LocalTool:
    """A `Provider` for a program that works as it lies on this machine.

    Attributes:
        find: Where it is.
        source: The file of a trial, and its text.
        arguments: What builds the trial as `trial`; or runs it, where `is_run` says so.
    """

    language: str
    needs: frozenset[str]
    find: Find
    source: tuple[str, str]
    arguments: tuple[str, ...]
    is_run: bool = False

    def open(self, sandbox: Sandbox) -> Toolchain:
        """See `Provider.open`."""
        key = (os.getpid(), self.language, sandbox.isolation)
        with _opening:
            if key not in _opened:
                _opened[key] = self._tried(sandbox)
            return _opened[key]

    def _tried(self, sandbox: Sandbox) -> Toolchain:
        try:
            program, also = self.find(System())
        except MissingError as why:
            raise ToolchainError(f"there is no toolchain for {self.language}: {why}", "; ".join(why.cures)) from why
        toolchain = Toolchain(
            name=self.language,
            version=self.language,
            program=program,
            view=SYSTEM_ONLY if also is None else View(read_only=(also,)),
            environment=_ENVIRONMENT,
            limits=BUILD_LIMITS,
        )
        with Scratch() as folder:
            name, text = self.source
            (folder.path / name).write_text(text, encoding="ascii")
            version = _said(toolchain, sandbox, ["--version"], folder.path)
            done = toolchain.run(sandbox, self.arguments, workdir=folder.path)
            if not self.is_run and done.status == "ok":
                done = sandbox.run([f"/box/{_BINARY}"], workdir=folder.path, limits=BUILD_LIMITS)
            if done.stdout != _TRIED:
                said = done.stderr.decode("utf-8", "replace").strip()[-300:]
                raise ToolchainError(f"{program} does not work inside the sandbox: {done.status} {said}")
        return replace(toolchain, version=f"{self.language}, {version}")


@dataclass(frozen=True)
class Python:
    """The Python that todo runs on as well (`runners.sandbox.python`)."""

    language: str = "python"
    needs: frozenset[str] = frozenset()

    def open(self, sandbox: Sandbox) -> Toolchain:
        """See `Provider.open`."""
        runtime = python_runtime(sandbox)
        return Toolchain(
            name=self.language,
            version=runtime.version,
            program=Path(runtime.executable),
            view=runtime.view,
            environment=_ENVIRONMENT,
            limits=BUILD_LIMITS,
        )


def _said(toolchain: Toolchain, sandbox: Sandbox, arguments: Sequence[str], folder: Path) -> str:
    done = toolchain.run(sandbox, arguments, workdir=folder)
    return done.stdout.decode("utf-8", "replace").strip().partition("\n")[0][:100]


def _outside_usr(program: Path) -> Path | None:
    """The installation around a program that does not lie where every sandbox looks."""
    return None if program.is_relative_to("/usr") or program.is_relative_to("/bin") else program.parent.parent


def _c(system: System) -> tuple[Path, Path | None]:
    program = Path(os.path.realpath(c_compiler(system)))
    return program, _outside_usr(program)


def _cxx(system: System) -> tuple[Path, Path | None]:
    program = Path(os.path.realpath(cxx_compiler(system)))
    return program, _outside_usr(program)


def _node(system: System) -> tuple[Path, Path | None]:
    program = Path(os.path.realpath(node_program(system)))
    return program, _outside_usr(program)


def _rust(system: System) -> tuple[Path, Path | None]:
    """The compiler itself: what lies on the search path is often rustup's, which looks for its settings at home."""
    rustc = rust_compiler(system)
    answer = system.answer([rustc, "--print", "sysroot"], timeout_s=30.0, environment=child_environment())
    root = Path(answer.text.strip() or "/nowhere")
    if answer.exit_code != 0 or not (root / "bin" / "rustc").is_file():
        raise MissingError(f"{rustc} does not say where it is installed: {answer.failure or answer.text.strip()[:200]}")
    return root / "bin" / "rustc", _outside_usr(root / "bin" / "rustc")


_C_TRIAL: Final = '#include <stdio.h>\nint main(void) { return puts("built inside") < 0; }\n'
_CXX_TRIAL: Final = '#include <iostream>\n#include <vector>\nint main() { std::cout << "built inside\\n"; }\n'
_RUST_TRIAL: Final = 'fn main() { println!("built inside"); }\n'

C: Final = LocalTool(
    "c", frozenset({"c-compiler"}), _c, ("trial.c", _C_TRIAL), ("-o", _BINARY, "trial.c", "-lm", "-pthread")
)
CXX: Final = LocalTool(
    "c++", frozenset({"cxx-compiler"}), _cxx, ("trial.cpp", _CXX_TRIAL), ("-o", _BINARY, "trial.cpp", "-pthread")
)
RUST: Final = LocalTool("rust", frozenset({"rust"}), _rust, ("trial.rs", _RUST_TRIAL), ("-o", _BINARY, "trial.rs"))
NODE: Final = LocalTool(
    "javascript",
    frozenset({"node"}),
    _node,
    ("trial.js", 'console.log("built inside");\n'),
    ("trial.js",),
    is_run=True,
)

_opened: dict[tuple[int, str, str], Toolchain] = {}
_opening = threading.Lock()
