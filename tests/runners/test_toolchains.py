"""Toolchains inside a sandbox: caches that are made once and stay as they are, and a real Go where there is one."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from profiles.probe.needs import find_needs
from runners.exams.go.building import MODULE
from runners.sandbox import Sandbox, SandboxUnavailable, open_sandbox
from runners.toolchains import warm
from runners.toolchains.base import Toolchain, ToolchainError
from runners.toolchains.go import Go
from runners.toolchains.warm import ask, warm_cache


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture(params=["bubblewrap", "namespaces"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return open_sandbox(request.param)
    except SandboxUnavailable as error:
        pytest.skip(f"no {request.param} here: {error.message}")


@pytest.fixture
def go(sandbox: Sandbox) -> Toolchain:
    if missing := [need for need in find_needs(Go().needs) if need.found is None]:
        pytest.skip(missing[0].sentence)
    return Go().open(sandbox)


def test_a_cache_is_made_once_and_by_one_at_a_time(caches: Path) -> None:
    made: list[Path] = []

    def make(place: Path) -> None:
        made.append(place)
        (place / "library").write_text("compiled")

    threads = [threading.Thread(target=warm_cache, args=("key", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (warm_cache("key", make) / "library").read_text() == "compiled"
    assert not made[0].exists()


def test_a_cache_that_was_left_half_made_is_made_anew(caches: Path) -> None:
    def fail(place: Path) -> None:
        (place / "half").touch()
        raise ToolchainError("killed in between")

    with pytest.raises(ToolchainError):
        warm_cache("key", fail)
    assert not (caches / "key").exists()
    assert list(warm_cache("key", lambda place: (place / "whole").touch()).iterdir()) == [caches / "key" / "whole"]


def test_a_folder_behind_a_link_is_named_as_a_sandbox_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path / "link" / "caches"))
    assert warm_cache("key", lambda _: None) == tmp_path / "real" / "caches" / "key"


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path / "file" / "caches"))
    with pytest.raises(ToolchainError, match="cannot be made: Not a directory") as caught:
        warm_cache("key", Path.touch)
    assert caught.value.hint == f"make room there, or name another folder in {warm.VARIABLE}"


def test_what_a_command_said_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="/bin/sh -c echo no compiler; exit 3 ends with 3: no compiler"):
        ask(["/bin/sh", "-c", "echo no compiler; exit 3"], folder=tmp_path, environment={})
    with pytest.raises(ToolchainError, match="/bin/absent does not work"):
        ask(["/bin/absent"], folder=tmp_path, environment={})


def test_go_builds_and_its_program_runs_without_touching_the_cache(
    go: Toolchain, sandbox: Sandbox, tmp_path: Path
) -> None:
    cache = Path(go.environment["GOCACHE"])
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    (tmp_path / "go.mod").write_text(MODULE)
    (tmp_path / "main.go").write_text('package main\n\nimport "os"\n\nfunc main() { os.Exit(len(os.Environ())) }\n')
    built = go.run(sandbox, ["build", "-o", "program", "."], workdir=tmp_path)
    assert (built.status, built.stderr) == ("ok", b"")
    assert sandbox.run(["/box/program"], workdir=tmp_path, env={"A": "1", "B": "2"}).exit_code in {2, 3}  # PWD
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_a_program_builds_however_long_its_files_lay_there_before(
    go: Toolchain, sandbox: Sandbox, tmp_path: Path
) -> None:
    """`go` indexes what was not changed for two seconds, and fails where it cannot keep the index (busy machines)."""
    (tmp_path / "go.mod").write_text(MODULE.replace("exam", "relay"))
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "relay.go").write_text("package relay\n\nconst Code = 3\n")
    (tmp_path / "main.go").write_text(
        'package main\n\nimport (\n\t"os"\n\n\t"relay/relay"\n)\n\nfunc main() { os.Exit(relay.Code) }\n'
    )
    for path in tmp_path.rglob("*"):
        os.utime(path, (1e9, 1e9))
    built = go.run(sandbox, ["build", "-o", "program", "."], workdir=tmp_path)
    assert (built.status, built.stderr) == ("ok", b"")


def test_a_program_may_import_what_is_not_compiled_and_nothing_from_the_network(
    go: Toolchain, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "go.mod").write_text(MODULE)
    program = 'package main\n\nimport _ "{}"\n\nfunc main() {{}}\n'
    (tmp_path / "main.go").write_text(program.format("index/suffixarray"))
    assert go.run(sandbox, ["build", "."], workdir=tmp_path).status == "ok"
    (tmp_path / "main.go").write_text(program.format("example.org/thing"))
    built = go.run(sandbox, ["build", "."], workdir=tmp_path)
    assert built.status == "nonzero"
    assert b"example.org/thing" in built.stderr
