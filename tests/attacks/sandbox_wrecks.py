"""Run inside a sandbox: programs that try to make a failure of the machine out of their own, or another result.

`WRECKS` do to their folder what the next run in it, or whoever removes it, may stumble over; `FORGERIES` try to have
another exit code than their own, which is 7.
"""

# ruff: noqa: PTH101, PTH102, PTH103, PTH123, PTH208, PTH211
# A program like these calls the system, and whatever library hides that is in the way.

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ARM = os.uname().machine == "aarch64"
LIBC = ctypes.CDLL(None, use_errno=True)
FORGED = b'{ "exit-code": 0 }\nstarted\nexit 0\n'


def lock() -> None:
    os.chmod("/box", 0)


def lock_all() -> None:
    for _ in range(20):
        os.mkdir("d")
        os.close(os.open("d/file", os.O_CREAT))
        os.chdir("d")
    for _ in range(20):
        os.chdir("..")
        os.chmod("d", 0)
    os.chmod("/box", 0)


def write_only() -> None:
    os.chmod("/box", 0o200)


def every_bit() -> None:
    os.chmod("/box", 0o7777)


def nest() -> None:
    for _ in range(1010):
        os.mkdir("d")
        os.chdir("d")


def nest_beyond_a_path() -> None:
    for _ in range(30):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)


def names() -> None:
    for name in (b"\xff\xfe\n\x1b[31m", b"-rf", b"\\", b" ", b"*", b"\xe2" * 255):
        os.mkdir(name)


def remove_all() -> None:
    for name in os.listdir("."):
        shutil.rmtree(name, ignore_errors=True)


def link_to_a_file() -> None:
    os.symlink("/etc/passwd", "todo.py")


def link_to_nowhere() -> None:
    os.symlink("nowhere/at/all", "todo.py")


def link_to_itself() -> None:
    os.symlink("todo.py", "todo.py")


def pipe() -> None:
    os.mkfifo("todo.py")


def local_socket() -> None:
    socket.socket(socket.AF_UNIX).bind("todo.py")


def full_folder() -> None:
    os.makedirs("todo.py/inside")
    os.chmod("todo.py", 0)


def locked_file() -> None:
    os.close(os.open("todo.py", os.O_CREAT, 0))


def pipe_for_a_folder() -> None:
    os.mkfifo("part")


def locked_folder() -> None:
    os.mkdir("part")
    os.chmod("part", 0)


def circle() -> None:
    os.symlink("b", "a")
    os.symlink("a", "b")
    os.symlink(".", "part")


def many_names() -> None:
    os.close(os.open("0", os.O_CREAT))
    for number in range(1, 450):
        os.link("0", f"{number}")


def many_files() -> None:
    for number in range(2000):
        os.close(os.open(f"{number}", os.O_CREAT))


def sparse() -> None:
    os.truncate(os.open("x", os.O_CREAT | os.O_RDWR), 16 << 20)


def attributes() -> None:
    fd = os.open("x", os.O_CREAT | os.O_RDWR)
    for number in range(50):
        try:
            os.setxattr(fd, f"user.{number}", b"x" * 4000)
        except OSError:
            break


def kill_all() -> None:
    os.kill(-1, signal.SIGKILL)


def name_that_is_no_text() -> None:
    LIBC.prctl(15, b"\xff\n VmRSS: x", 0, 0, 0)
    time.sleep(0.3)


def close_all() -> None:
    os.closerange(0, 3)


def no_text() -> None:
    for fd in (1, 2):
        os.write(fd, bytes(range(256)) * 100)


def write_everywhere() -> None:
    for fd in range(3, 1024):
        try:
            os.write(fd, FORGED)
        except OSError:
            continue


def write_to_process_1() -> None:
    for fd in range(1024):
        try:
            with open(f"/proc/1/fd/{fd}", "wb") as file:
                file.write(FORGED)
        except OSError:
            continue


def signal_process_1() -> None:
    for number in range(1, 65):
        try:
            os.kill(1, number)
        except OSError:
            continue


def starve_process_1() -> None:
    for kind in range(16):
        LIBC.syscall(261 if ARM else 302, 1, kind, (ctypes.c_uint64 * 2)(0, 0), None)


def stop_process_1() -> None:
    seized = LIBC.syscall(117 if ARM else 101, 0x4206, 1, 0, 0) == 0
    if seized:
        LIBC.syscall(117 if ARM else 101, 0x4207, 1, 0, 0)
        time.sleep(600)


def outlive() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)


WRECKS: dict[str, Callable[[], None]] = {
    "locks its folder": lock,
    "locks its folder and all in it": lock_all,
    "lets nobody read or enter its folder": write_only,
    "sets every bit of its folder's mode": every_bit,
    "nests folders a thousand deep": nest,
    "nests folders deeper than a path can say": nest_beyond_a_path,
    "gives names that are no text": names,
    "removes all it can": remove_all,
    "puts a link where its program belongs": link_to_a_file,
    "puts a link to nowhere where its program belongs": link_to_nowhere,
    "puts a link to itself where its program belongs": link_to_itself,
    "puts a pipe where its program belongs": pipe,
    "puts a socket where its program belongs": local_socket,
    "puts a full folder where its program belongs": full_folder,
    "puts a locked file where its program belongs": locked_file,
    "puts a pipe where its program's folder belongs": pipe_for_a_folder,
    "locks its program's folder": locked_folder,
    "puts links in a circle": circle,
    "gives one file 450 names": many_names,
    "leaves more files than it may": many_files,
    "leaves a sparse file": sparse,
    "keeps data in attributes": attributes,
    "kills all that it may": kill_all,
    "breaks off": os.abort,
    "calls itself something that is no text": name_that_is_no_text,
    "closes its streams": close_all,
    "prints what is no text": no_text,
}
FORGERIES: dict[str, Callable[[], None]] = {
    "writes a report of its own": write_everywhere,
    "writes a report into process 1's descriptors": write_to_process_1,
    "sends process 1 every signal": signal_process_1,
    "takes process 1's limits away": starve_process_1,
    "stops process 1 by tracing it": stop_process_1,
    "outlives itself": outlive,
}


if __name__ == "__main__":
    if sys.argv[1] in WRECKS:
        WRECKS[sys.argv[1]]()
    else:
        FORGERIES[sys.argv[1]]()
        sys.exit(7)
