"""What an exam may need of a machine besides Python: by name, how it is tried for real, and the command that mends it.

A need is tried as an exam uses it: a compiler compiles, a browser loads a page, Tk opens a window on a display. What
only looks installed (a stub, a wrong architecture, a library that is missing) is found before anything is generated.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiles.probe.golang import COMMAND as GO_COMMAND
from profiles.probe.golang import find_go
from profiles.probe.local_tools import try_cxx, try_node, try_rust
from profiles.probe.system import System
from profiles.probe.trials import TRY_S, MissingError, asked, first_line, last_line, trial_environment
from profiles.types import FoundNeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHROMIUM: Final = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
"""Programs that serve as Chromium; the first one found is used."""

_C: Final = '#include <stdio.h>\nint main(void) { return printf("ok\\n") != 3; }\n'
_TK: Final = "import tkinter; r = tkinter.Tk(); r.update(); print('Tk', r.tk.call('info', 'patchlevel')); r.destroy()"
_PYTHONS: Final = ("/usr/bin/python3", "/usr/local/bin/python3")

_MANAGERS: Final = (
    ("apt-get", "sudo apt-get install -y {}"),
    ("dnf", "sudo dnf install -y {}"),
    ("pacman", "sudo pacman -S --noconfirm {}"),
    ("zypper", "sudo zypper install -y {}"),
    ("apk", "sudo apk add {}"),
    ("brew", "brew install {}"),
)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that an exam may need.

    Attributes:
        name: what exams and messages call it.
        what: what it is, in words that follow "needs".
        packages: the system's packages that bring it, by package manager; the key "" is for any other.
        command: the command that brings it wherever the packages do not.
        attempt: tries it in an empty folder; what was found, in a line, or `MissingError` with the reason.
    """

    name: str
    what: str
    packages: dict[str, str]
    attempt: Callable[[System, Path], str]
    command: str = ""

    def cure(self, system: System) -> str:
        """The command that mends it on this machine."""
        for manager, command in _MANAGERS:
            packages = self.packages.get(manager) or self.packages.get("")
            if packages and system.which(manager):
                return command.format(packages)
        return self.command or f"install {self.packages.get('', self.what)} with your system's package manager"


def find_chromium(system: System | None = None) -> str | None:
    """The browser that pictures are taken with."""
    system = system or System()
    return next((path for name in CHROMIUM if (path := system.which(name))), None)


def _go(system: System, folder: Path) -> str:
    return find_go(system, folder).version


def _go_race(system: System, folder: Path) -> str:
    """A toolchain with the race detector's library, and a C compiler, which links it."""
    reasons: list[str] = []
    cures: list[str] = []
    found: list[str] = []
    for name, attempt in (("go", _go_with_race), ("c-compiler", _c_compiler)):
        try:
            found.append(attempt(system, folder))
        except MissingError as error:
            reasons.append(str(error))
            cures += error.cures or (NEEDS[name].cure(system),)
    if reasons:
        raise MissingError("; ".join(reasons), *cures)
    return ", ".join(found)


def _go_with_race(system: System, folder: Path) -> str:
    go = find_go(system, folder)
    if not go.has_race_detector:
        raise MissingError(f"{go.program} has no race detector for {go.version.rpartition(' ')[2]}", GO_COMMAND)
    return go.version


def _c_compiler(system: System, folder: Path) -> str:
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := system.which(name))), None)
    if compiler is None:
        raise MissingError("neither cc nor gcc nor clang is on the search path")
    source, program = folder / "trial.c", folder / "trial"
    source.write_text(_C, encoding="ascii")
    environment = trial_environment(folder)
    command = [compiler, "-o", str(program), str(source)]
    asked(system.answer(command, timeout_s=TRY_S, environment=environment), compiler)
    asked(system.answer([str(program)], timeout_s=TRY_S, environment=environment), "what it compiled")
    return first_line(system.output([compiler, "--version"]) or compiler)


def _chromium(system: System, folder: Path) -> str:
    browser = find_chromium(system)
    if browser is None:
        raise MissingError("no Chromium is on the search path")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    page = "data:text/html,<canvas id=tried></canvas>"
    command = [browser, *arguments, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page]
    shown = asked(system.answer(command, timeout_s=TRY_S, environment=trial_environment(folder)), browser)
    if 'id="tried"' not in shown:
        raise MissingError(f"{browser} does not show a page: {first_line(shown)}")
    return first_line(system.output([browser, "--version"], timeout_s=TRY_S) or browser)


def _tk(system: System, folder: Path) -> str:
    server = system.which("Xvfb")
    if server is None:
        raise MissingError("Xvfb is not on the search path")
    pythons = [getattr(sys, "_base_executable", "") or sys.executable, *_PYTHONS]
    said = ""
    with _Display(server, folder) as number:
        environment = {**trial_environment(folder), "DISPLAY": f":{number}"}
        for python in dict.fromkeys(os.path.realpath(each) for each in pythons if os.access(each, os.X_OK)):
            answer = system.answer([python, "-I", "-c", _TK], timeout_s=TRY_S, environment=environment)
            if answer.exit_code == 0:
                return f"{first_line(answer.text)} on Xvfb, {python}"
            said = said or f"{python}: {last_line(answer.failure or answer.text)}"
    raise MissingError(f"no Python opens a Tk window on Xvfb ({said or 'none was found'})")


class _Display:
    """An X server for as long as the block lasts; gives the number of its display."""

    def __init__(self, server: str, folder: Path) -> None:
        self._server, self._folder = server, folder

    def __enter__(self) -> str:
        import select
        import subprocess

        reading, writing = os.pipe()
        command = [self._server, "-displayfd", str(writing), "-screen", "0", "320x240x24", "-nolisten", "tcp"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            env=trial_environment(self._folder),
        )
        os.close(writing)
        try:
            ready, _, _ = select.select([reading], [], [], TRY_S)
            number = os.read(reading, 16).decode("ascii", "replace").strip() if ready else ""
        finally:
            os.close(reading)
        if not number.isdecimal():
            self.__exit__()
            raise MissingError(f"{self._server} opens no display")
        return number

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


NEEDS: Final[dict[str, Need]] = {
    need.name: need
    for need in (
        Need(
            "go",
            "a Go toolchain",
            {"dnf": "golang", "pacman": "go", "zypper": "go", "apk": "go", "brew": "go"},
            _go,
            GO_COMMAND,
        ),
        # What its parts are missing for has their commands.
        Need("go-race", "Go's race detector", {}, _go_race, GO_COMMAND),
        Need("c-compiler", "a C compiler", {"": "gcc", "apt-get": "gcc libc6-dev", "apk": "gcc musl-dev"}, _c_compiler),
        Need(
            "cxx-compiler",
            "a C++ compiler",
            {"": "gcc-c++", "apt-get": "g++", "pacman": "gcc", "apk": "g++", "brew": "gcc"},
            try_cxx,
        ),
        Need("node", "Node", {"": "nodejs", "brew": "node"}, try_node),
        Need("rust", "a Rust compiler", {"": "rust", "apt-get": "rustc gcc", "zypper": "rust gcc"}, try_rust),
        Need(
            "chromium",
            "Chromium",
            {"": "chromium", "apt-get": "chromium-headless-shell"},
            _chromium,
        ),
        Need(
            "tk",
            "Python's Tk with Xvfb",
            {
                "": "python3-tkinter xorg-x11-server-Xvfb",
                "apt-get": "python3-tk xvfb",
                "pacman": "tk xorg-server-xvfb",
                "zypper": "python3-tk xorg-x11-server-Xvfb",
                "apk": "python3-tkinter xvfb",
            },
            _tk,
        ),
    )
}

_tried: dict[tuple[str, System, int], FoundNeed] = {}


def find_needs(names: Iterable[str], system: System | None = None) -> tuple[FoundNeed, ...]:
    """Each of the needs called `names`: whether this machine has it. What is there is tried once in a process.

    What is missing is tried anew each time: somebody may have mended it.
    """
    system = system or System()
    return tuple(_find(name, system) for name in sorted(set(names)))


def _find(name: str, system: System) -> FoundNeed:
    need = NEEDS.get(name)
    if need is None:
        why = f"this version of quantsweep knows no need called {name!r}"
        return FoundNeed(name, name, problem=why, cure="use one version of quantsweep on all machines")
    key = (name, system, os.getpid())
    if key in _tried:
        return _tried[key]
    folder = Path(tempfile.mkdtemp(prefix="quantsweep-need-"))
    try:
        found = FoundNeed(name, need.what, found=need.attempt(system, folder))
    except MissingError as why:
        return FoundNeed(name, need.what, problem=str(why), cure=" && ".join(why.cures) or need.cure(system))
    except OSError as why:
        return FoundNeed(name, need.what, problem=str(why), cure=need.cure(system))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _tried[key] = found
    return found
