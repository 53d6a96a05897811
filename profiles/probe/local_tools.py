"""Finds compilers and interpreters on the search path, and tries them: C, C++, Rust, Node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiles.environment import child_environment
from profiles.probe.trials import TRY_S, MissingError, asked, first_line, trial_environment

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.probe.system import System

_OK: Final = "ok"
_CXX: Final = '#include <iostream>\n#include <string>\nint main() { std::cout << std::string("ok") << std::endl; }\n'
_RUST: Final = 'fn main() { println!("ok"); }\n'
_C_NAMES: Final = ("cc", "gcc", "clang")
_CXX_NAMES: Final = ("c++", "g++", "clang++")


def _first_of(system: System, names: tuple[str, ...]) -> str:
    found = next((path for name in names if (path := system.which(name))), None)
    if found is None:
        *others, last = names
        said = f"neither {' nor '.join([*others, last])}" if others else f"no {last}"
        raise MissingError(f"{said} is on the search path")
    return found


def c_compiler(system: System) -> str:
    """The C compiler.

    Raises:
        MissingError: there is none.
    """
    return _first_of(system, _C_NAMES)


def cxx_compiler(system: System) -> str:
    """The C++ compiler; raises as `c_compiler`."""
    return _first_of(system, _CXX_NAMES)


def node_program(system: System) -> str:
    """Node; raises as `c_compiler`."""
    return _first_of(system, ("node", "nodejs"))


def rust_compiler(system: System) -> str:
    """Rust's compiler; raises as `c_compiler`."""
    return _first_of(system, ("rustc",))


def try_cxx(system: System, folder: Path) -> str:
    """Compiles and runs a program of C++: a line that says with what, or `MissingError`."""
    compiler = cxx_compiler(system)
    _compile(system, folder, compiler, "trial.cpp", _CXX)
    return first_line(system.output([compiler, "--version"]) or compiler)


def try_rust(system: System, folder: Path) -> str:
    """Compiles and runs a program of Rust, which takes a linker too; as `try_cxx`."""
    compiler = rust_compiler(system)
    _compile(system, folder, compiler, "trial.rs", _RUST, home=True)
    return first_line(system.output([compiler, "--version"]) or compiler)


def try_node(system: System, folder: Path) -> str:
    """Runs a program with Node; as `try_cxx`."""
    node = node_program(system)
    answer = system.answer([node, "-e", "console.log('ok')"], timeout_s=TRY_S, environment=trial_environment(folder))
    if asked(answer, node).strip() != _OK:
        raise MissingError(f"{node} does not run a program")
    return f"Node {first_line(system.output([node, '--version']) or node)}"


def _compile(system: System, folder: Path, compiler: str, name: str, text: str, *, home: bool = False) -> None:
    """Builds and runs a trial; with `home` the compiler sees the user's own, where rustup keeps its settings."""
    source, program = folder / name, folder / "trial"
    source.write_text(text, encoding="ascii")
    environment = trial_environment(folder)
    own = child_environment() if home else environment
    asked(system.answer([compiler, "-o", str(program), str(source)], timeout_s=2 * TRY_S, environment=own), compiler)
    answer = system.answer([str(program)], timeout_s=TRY_S, environment=environment)
    if asked(answer, "what it compiled").strip() != _OK:
        raise MissingError(f"what {compiler} compiles does not run")
