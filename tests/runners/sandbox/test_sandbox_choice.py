"""Which sandbox a machine has, and what a person reads where it has none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runners.sandbox import Sandbox, SandboxFailed, SandboxUnavailable, bubblewrap, choose, namespaces, open_sandbox
from runners.sandbox.advice import install_command, namespace_command
from runners.sandbox.base import Completed, Limits, View
from runners.sandbox.layout import Mount, mounts
from runners.sandbox.rlimits import rlimits
from runners.sandbox.seccomp import seccomp_filter
from runners.sandbox.supervise import Ended

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fresh() -> None:
    """As in a new process: nothing tried yet."""
    choose.choose.cache_clear()


def tool(folder: Path, name: str, script: str = "exit 0") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


@pytest.mark.usefixtures("fresh")
def test_without_bubblewrap_namespaces_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert open_sandbox().isolation.startswith("namespaces")


@pytest.mark.usefixtures("fresh")
def test_broken_bubblewrap_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where AppArmor refuses it: it is there, and cannot."""
    tool(tmp_path, "bwrap", "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert open_sandbox().isolation.startswith("namespaces")
    with pytest.raises(SandboxUnavailable, match="bubblewrap could not set up the sandbox"):
        open_sandbox("bubblewrap")


@pytest.mark.usefixtures("fresh")
def test_missing_bubblewrap_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="bwrap is not installed") as caught:
        open_sandbox("bubblewrap")
    assert caught.value.hint == "sudo apt-get install -y bubblewrap"


def test_container_whose_proc_is_covered_gets_a_sandbox_without_proc(tmp_path: Path) -> None:
    """Docker covers parts of /proc, and then the kernel allows no new one: bubblewrap gives up, namespaces go on."""
    program = (
        "import pathlib, sys\n"
        "from runners.sandbox import open_sandbox\n"
        "sandbox = open_sandbox()\n"
        "done = sandbox.run(['/bin/sh', '-c', 'echo /proc/*; echo x > /usr/x'], workdir=pathlib.Path(sys.argv[1]))\n"
        "print(sandbox.isolation, done.stdout, done.stderr)\n"
    )
    covered = 'mount -t tmpfs tmpfs /proc/fs && exec "$@"'
    argv = ["unshare", "-Urm", "sh", "-c", covered, "sh", sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("namespaces")
    assert "b'/proc/*\\n'" in done.stdout
    assert "Read-only file system" in done.stdout


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(SandboxUnavailable, match="no sandbox called 'docker'") as caught:
        open_sandbox("docker")
    assert caught.value.hint == "choose one of: bubblewrap, namespaces"


def test_other_systems_are_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="no sandbox for darwin"):
        choose.choose.__wrapped__(None)


@pytest.mark.parametrize(
    ("manager", "word"), [("apt-get", "apt-get"), ("dnf", "dnf"), ("pacman", "-S"), ("apk", "add")]
)
def test_package_is_installed_the_machine_s_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str, word: str
) -> None:
    tool(tmp_path, manager)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert word in install_command("bubblewrap").split()
    assert "bubblewrap" in install_command("bubblewrap")


@pytest.mark.parametrize(
    ("setting", "value", "command"),
    [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("kernel/unprivileged_userns_clone", "0\n", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0\n", "sudo sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_forbidding_setting_is_named(tmp_path: Path, setting: str, value: str, command: str) -> None:
    path = tmp_path / setting
    path.parent.mkdir(parents=True)
    path.write_text(value)
    assert namespace_command(tmp_path, ()) == command


def test_container_is_told_from_a_machine(tmp_path: Path) -> None:
    mark = tmp_path / ".dockerenv"
    mark.touch()
    assert "seccomp=unconfined" in namespace_command(tmp_path, (str(mark),))
    assert "bubblewrap" in namespace_command(tmp_path, (str(tmp_path / "none"),))


def test_layout_shows_the_system_and_nothing_of_its_users(tmp_path: Path) -> None:
    plan = mounts(tmp_path, View(), Limits())
    assert Mount("read_only", "/usr", "/usr") in plan
    assert [mount.source for mount in plan if mount.kind == "writable"] == [os.path.realpath(tmp_path)]
    targets = [mount.target for mount in plan]
    assert not any(target.startswith(("/home", "/root", "/var", "/run", "/opt", "/sys")) for target in targets)
    assert len(targets) == len(set(targets))


def test_layout_shows_nothing_twice_and_hides_only_what_is_shown(tmp_path: Path) -> None:
    shown = tmp_path / "python"
    (shown / "lib" / "site-packages").mkdir(parents=True)
    view = View(
        read_only=(shown, shown / "lib", Path("/usr/lib"), tmp_path / "missing"),
        hidden=(shown / "lib" / "site-packages", tmp_path / "elsewhere", shown / "none"),
    )
    plan = mounts(tmp_path, view, Limits())
    assert [mount.target for mount in plan if mount.target.startswith(str(tmp_path))] == [
        str(shown),
        str(shown / "lib" / "site-packages"),
    ]


def test_old_kernels_get_no_process_limit_that_counts_the_whole_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: "5.10.0-30-amd64")
    assert "RLIMIT_NPROC" not in rlimits(Limits(), own_processes=1)
    monkeypatch.setattr("platform.release", lambda: "6.1.0-rc1+")
    assert rlimits(Limits(processes=10), own_processes=1)["RLIMIT_NPROC"] == (11, 11)


def ended(report: bytes, **changes: Any) -> Ended:
    return replace(Ended(returncode=0, stdout=b"", stderr=b"said", report=report, limit=None, wall_s=1.0), **changes)


def test_report_of_the_launcher() -> None:
    read = namespaces._completed
    assert read(ended(b"landlock 0\nstarted\nexit 3\n")).exit_code == 3
    assert read(ended(b"landlock 7\nstarted\nsignal 11\n")).signal == 11
    assert read(ended(b"landlock 7\nstarted\n", limit="time_limit")).status == "time_limit"
    assert read(ended(b"landlock 7\nstarted\n")).status == "signal"
    with pytest.raises(SandboxFailed, match="could not be set up: mount /new: Permission denied"):
        read(ended(b"error mount /new: Permission denied\n"))
    with pytest.raises(SandboxFailed, match="ended before the command was started") as caught:
        read(ended(b""))
    assert caught.value.hint == "said"
    assert namespaces._has_landlock(b"landlock 7\nstarted\n")
    assert not namespaces._has_landlock(b"landlock 0\nstarted\n")


def test_isolation_names_all_that_holds(sandbox: Sandbox, box: Path) -> None:
    """The row must not claim a wall that this machine does not have."""
    sandbox.run(["/bin/true"], workdir=box)
    assert ("seccomp" in sandbox.isolation.split("+")) == (seccomp_filter() is not None)
    assert sandbox.isolation.split("+")[0] in ("bubblewrap", "namespaces")


def test_report_of_bubblewrap() -> None:
    read = bubblewrap._completed
    started = b'{ "child-pid": 5 }\n'
    assert read(ended(started + b'{ "exit-code": 3 }\n', returncode=3)).exit_code == 3
    assert read(ended(started + b'{ "exit-code": 139 }\n', returncode=139)).signal == 11
    assert read(ended(started, returncode=137)).status == "signal"
    assert read(ended(started, returncode=137, limit="memory_limit")).status == "memory_limit"
    with pytest.raises(SandboxFailed, match="bubblewrap could not set up the sandbox"):
        read(ended(started, returncode=1))
    assert bubblewrap._process_1(started) == 5
    assert bubblewrap._process_1(b'{ "child-') is None


def test_a_run_ended_by_the_kernel_counts_as_killed() -> None:
    done = Completed.of(b"", b"", exit_code=None, signal=None, limit=None, wall_s=1.0)
    assert (done.status, done.signal) == ("signal", 9)
