"""What counts as memory, files and processes is no more than what there is: programs within their limits run through.

The kernel counts memory in one kind of sandbox here, where it may, and we do in the other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runners.sandbox import Completed, Limits, Sandbox, cgroup, opened, processes
from runners.sandbox.base import MIB
from runners.sandbox.cleanup import remove_tree
from runners.sandbox.processes import descendants
from runners.sandbox.workfolder import FolderWatch, prepare

if TYPE_CHECKING:
    from pathlib import Path

RunPython = Callable[..., Completed]
LIMITS = Limits(wall_s=60.0, cpu_s=20.0, memory_bytes=256 * MIB, file_bytes=16 * MIB, processes=16, files=300)


@pytest.fixture
def counting(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    if sandbox.isolation.startswith("namespaces"):
        monkeypatch.setattr(cgroup, "place", lambda: None)


HONEST = {
    "forks share what they have not changed": (
        "held = bytearray(b'1') * (100 << 20)\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(0.5)\n"
        "        os._exit(0)\n"
        "for _ in range(6): os.wait()"
    ),
    "a child that runs in its parent's memory": (
        "import subprocess\n"
        "held = bytearray(b'1') * (150 << 20)\n"
        "for _ in range(30): subprocess.run(['/bin/true'], check=True)"
    ),
    "shared memory counts once": (
        "import mmap\n"
        "held = mmap.mmap(-1, 100 << 20)\n"
        "held.write(b'1' * len(held))\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        sum(held[::4096])\n"
        "        time.sleep(0.3)\n"
        "        os._exit(0)\n"
        "for _ in range(3): os.wait()"
    ),
    "address space that is only reserved": (
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap(None, ctypes.c_size_t(1 << 38), 3, 0x4022, -1, ctypes.c_long(0))\n"
        "time.sleep(0.3)"
    ),
    "zombies": "for _ in range(5):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(1.0)",
    "threads come and go": (
        "import threading\n"
        "for _ in range(100):\n"
        "    threads = [threading.Thread(target=time.sleep, args=(0.001,)) for _ in range(10)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()"
    ),
    "temporary files without a name": (
        "import tempfile\n"
        "for _ in range(20):\n"
        "    with tempfile.TemporaryFile(dir='.') as file:\n"
        "        file.write(b'1' * (4 << 20))\n"
        "        file.flush()\n"
        "        time.sleep(0.02)"
    ),
    "a few sockets, some in flight for a moment": (
        "import socket\n"
        "pairs = [socket.socketpair() for _ in range(30)]\n"
        "for one, other in pairs:\n"
        "    socket.send_fds(one, [b'x'], [one.fileno()])\n"
        "    fds = socket.recv_fds(other, 1, 1)[1]\n"
        "    os.close(fds[0])\n"
        "time.sleep(0.3)"
    ),
    "locked folders": (
        "os.mkdir('locked')\n"
        "for _ in range(300):\n"
        "    os.chmod('locked', 0)\n"
        "    os.chmod('locked', 0o700)\n"
        "    open('locked/file', 'w').close()\n"
        "os.chmod('locked', 0)\n"
        "time.sleep(0.5)\n"
        "assert os.stat('locked').st_mode & 0o777 == 0"
    ),
    "one file with many names": (
        "with open('file', 'wb') as file: file.write(b'1' * (4 << 20))\n"
        "for number in range(100): os.link('file', f'{number}')\n"
        "time.sleep(0.3)"
    ),
}


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("name", list(HONEST))
def test_honest_programs_run_through(run_python: RunPython, name: str) -> None:
    done = run_python("import os, time\n" + HONEST[name], limits=LIMITS)
    assert done.status == "ok", done


@pytest.mark.usefixtures("counting")
def test_memory_has_the_same_end_whoever_counts(run_python: RunPython) -> None:
    program = "held = []\nwhile True: held.append(bytearray(b'1') * (8 << 20))"
    done = run_python(program, limits=replace(LIMITS, memory_bytes=64 * MIB))
    assert (done.status, done.exit_code, done.signal) == ("memory_limit", None, None)


def test_a_group_is_used_again_and_counts_anew(run_python: RunPython, sandbox: Sandbox) -> None:
    place = cgroup.place()
    if place is None:
        assert "cgroup" not in sandbox.isolation
        return
    run_python("held = bytearray(b'1') * (200 << 20)", limits=replace(LIMITS, memory_bytes=64 * MIB))
    before = set(place.folder.glob("quantsweep-*"))
    for _ in range(3):
        assert run_python("held = bytearray(b'1') * (32 << 20)", limits=LIMITS).status == "ok"
    assert set(place.folder.glob("quantsweep-*")) == before


def test_groups_are_taken_away_before_an_actor_is_killed(run_python: RunPython) -> None:
    place = cgroup.place()
    if place is None:
        cgroup.leave()
        return
    assert run_python("pass").status == "ok"
    mine = f"quantsweep-{os.getpid()}-*"
    assert list(place.folder.glob(mine))
    cgroup.leave()
    assert not list(place.folder.glob(mine))
    assert run_python("pass").status == "ok"


def hierarchy(folder: Path, *, controllers: str) -> tuple[Path, Path]:
    """A false /proc/self/mountinfo and cgroup for version 2, and a user session below a delegated service."""
    mounts, own = folder / "mountinfo", folder / "cgroup"
    root = folder / "unified"
    session = root / "user.slice/user@1000.service/app.slice/shell.scope"
    session.mkdir(parents=True)
    for group in (session, *session.parents[:4]):
        (group / "cgroup.procs").touch()
        (group / "cgroup.subtree_control").write_text("")
    (root / "user.slice/user@1000.service/cgroup.subtree_control").write_text(controllers)
    mounts.write_text(f"25 1 0:23 / {root} rw,nosuid - cgroup2 cgroup2 rw\n")
    own.write_text("0::/user.slice/user@1000.service/app.slice/shell.scope\n")
    return mounts, own


def test_groups_are_made_where_the_controller_is_handed_down(tmp_path: Path) -> None:
    mounts, own = hierarchy(tmp_path, controllers="cpu memory pids\n")
    found = list(cgroup._candidates(mounts, own))
    assert [(place.version, place.folder.name) for place in found] == [(2, "user@1000.service")]


def test_without_the_controller_there_is_no_place(tmp_path: Path) -> None:
    mounts, own = hierarchy(tmp_path, controllers="cpu pids\n")
    assert list(cgroup._candidates(mounts, own)) == []
    assert list(cgroup._candidates(tmp_path / "missing", own)) == []


def test_version_1_is_used_below_our_own_group(tmp_path: Path) -> None:
    mounts, own = tmp_path / "mountinfo", tmp_path / "cgroup"
    (tmp_path / "memory/job").mkdir(parents=True)
    (tmp_path / "memory/job/cgroup.procs").touch()
    mounts.write_text(
        f"30 25 0:27 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu\n"
        f"31 25 0:28 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
    )
    own.write_text("5:cpu:/\n4:memory:/job\n0::/\n")
    assert [(p.version, p.folder) for p in cgroup._candidates(mounts, own)] == [(1, tmp_path / "memory/job")]


def test_groups_of_ended_processes_are_swept(tmp_path: Path) -> None:
    ours, theirs, others = (tmp_path / name for name in (f"quantsweep-{os.getpid()}-0", "quantsweep-4194305-0", "x"))
    for folder in (ours, theirs, others):
        folder.mkdir()
    cgroup._sweep(tmp_path)
    assert ours.exists()
    assert others.exists()
    assert not theirs.exists()


def test_a_locked_folder_is_counted_and_locked_again(tmp_path: Path) -> None:
    """As root nothing is locked; then this shows that the walk leaves every mode as it was."""
    inside = tmp_path / "locked" / "inside"
    inside.mkdir(parents=True)
    (inside / "file").write_bytes(b"1" * MIB)
    inside.chmod(0)
    (tmp_path / "locked").chmod(0o300)
    watch = FolderWatch(tmp_path, replace(LIMITS, file_bytes=MIB // 2))
    watch.exceeded()
    assert watch.exceeded()
    assert watch.exceeded(running=False)
    assert (tmp_path / "locked").stat().st_mode & 0o777 == 0o300
    (tmp_path / "locked").chmod(0o700)
    assert inside.stat().st_mode & 0o777 == 0
    assert remove_tree(tmp_path / "locked")


def test_a_work_folder_is_made_fit_again(tmp_path: Path) -> None:
    from runners.sandbox import BOX

    outside = tmp_path / "outside"
    box = tmp_path / "box"
    outside.mkdir()
    box.mkdir()
    (box / "part").symlink_to(outside)
    os.mkfifo(box / "todo.py")
    (box / "kept").write_text("kept")
    box.chmod(0)
    prepare(box, [BOX / "todo.py", BOX / "part" / "x.py", BOX.parent / "elsewhere"])
    assert box.stat().st_mode & 0o700 == 0o700
    assert (box / "todo.py").is_file()
    assert (box / "part" / "x.py").is_file()
    assert not (box / "part").is_symlink()
    assert (box / "kept").read_text() == "kept"
    assert list(outside.iterdir()) == []


def test_threads_are_counted(run_python: RunPython) -> None:
    own = next(process for process in descendants(os.getpid()) if process.pid == os.getpid())
    assert len(own.tasks) == len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names alone
    program = (
        "import threading, time\n"
        "for _ in range(40): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "time.sleep(60)"
    )
    done = run_python(program, limits=LIMITS)
    # An ordinary user's thread is refused by the kernel; root's are counted by the watcher.
    assert done.status == "process_limit" or (done.status == "nonzero" and b"can't start new thread" in done.stderr)


def test_sockets_count_on_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = processes.read

    def read(path: str) -> bytes:
        if path.endswith("6"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr("runners.sandbox.opened.read", read)
    pairs = [socket.socketpair() for _ in range(50)]
    own = [process for process in descendants(os.getpid()) if process.pid == os.getpid()]
    seen = opened.opened(own, (), 0)
    assert {os.fstat(end.fileno()).st_ino for pair in pairs for end in pair} <= seen.sockets
    opened.hidden_sockets(own, seen)
    assert seen.socket_bytes > 0
    for pair in pairs:
        for end in pair:
            end.close()
