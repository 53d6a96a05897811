"""Run inside a sandbox: hostile programs, each a function that tries to get what its limits forbid.

A program prints `GOT` once it has held for seconds what no limit allows; what ends it before, or refuses, has held.
The host imports this module for the table of what there is (`PROGRAMS`) and starts it with the number of one.
"""

# ruff: noqa: PTH101, PTH102, PTH108
# A program like these calls the system, and whatever library hides that is in the way.

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
ARM = os.uname().machine == "aarch64"
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = LIBC.shmat.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
READ, READ_WRITE = 1, 3
SHARED, PRIVATE, ANONYMOUS, NO_RESERVE = 1, 2, 0x20, 0x4000
KEPT: list[object] = []


@dataclass(frozen=True)
class Program:
    """A hostile program.

    Attributes:
        category: Of the table.
        name: What it tries.
        statuses: How its run may end: the limit that it met, or `nonzero` where it was refused.
        limits: Fields of `Limits` that are not as in the worker.
        run: The program.
    """

    category: str
    name: str
    statuses: tuple[str, ...]
    limits: dict[str, float]
    run: Callable[[], None]


PROGRAMS: list[Program] = []


def hostile(category: str, name: str, *statuses: str, **limits: float) -> Callable[[Callable[[], None]], None]:
    def register(run: Callable[[], None]) -> None:
        PROGRAMS.append(Program(category, name, statuses, limits, run))

    return register


def call(x86: int, arm: int, *arguments: object) -> int:
    result = int(LIBC.syscall(arm if ARM else x86, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def fill(take: Callable[[], object], goal_mib: int = 512, step_mib: int = 16) -> None:
    for held in range(step_mib, goal_mib + 1, step_mib):
        KEPT.append(take())
        print("held", held, "MiB", flush=True)
        time.sleep(0.01)
    stay()


def stay() -> None:
    time.sleep(4)
    print("GOT", flush=True)


def private(mib: int = 16) -> bytearray:
    return bytearray(b"1") * (mib * MIB)


def shared(mib: int = 16) -> mmap.mmap:
    held = mmap.mmap(-1, mib * MIB)
    held.write(b"1" * (mib * MIB))
    return held


def mapped(length: int, protection: int, flags: int, fd: int = -1) -> int:
    at = LIBC.mmap(None, length, protection, flags, fd, 0)
    if at in {None, ctypes.c_void_p(-1).value}:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(at)


def took(mib: int, name: str) -> int:
    """A file of that size, without writing it."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, mib * MIB)
    return fd


def removed(mib: int = 8) -> int:
    """A file of that size that is open and has no name."""
    fd = took(mib, "removed")
    os.unlink("removed")
    return fd


def after_the_leading_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work).start()
    call(60, 93, 0)


def become_unreadable(code: str) -> None:
    """Go on as a Python that its owner may run and not read."""
    shutil.copy(os.path.realpath(sys.executable), "/tmp/python")
    os.chmod("/tmp/python", 0o111)
    os.environ["PYTHONHOME"] = sys.base_prefix
    os.execv("/tmp/python", ["/tmp/python", "-S", "-c", code])


@hostile("memory", "private memory", "memory_limit")
def _() -> None:
    fill(private)


@hostile("memory", "private memory of many processes", "memory_limit")
def _() -> None:
    for _ in range(8):
        if os.fork() == 0:
            KEPT.append(private(64))
            stay()
            os._exit(0)
    while True:
        os.wait()


@hostile("memory", "shared mappings", "memory_limit")
def _() -> None:
    fill(shared)


@hostile("memory", "shared mappings that only an ended child has touched", "memory_limit")
def _() -> None:
    def take() -> mmap.mmap:
        held = mmap.mmap(-1, 16 * MIB)
        if os.fork() == 0:
            held.write(b"1" * len(held))
            os._exit(0)
        os.wait()
        return held

    fill(take)


@hostile("memory", "shared mappings, let go of page by page", "memory_limit")
def _() -> None:
    def take() -> None:
        at = mapped(16 * MIB, READ_WRITE, SHARED | ANONYMOUS)
        ctypes.memset(at, 1, 16 * MIB)
        if LIBC.madvise(at, 16 * MIB, 4):
            raise OSError(ctypes.get_errno())

    fill(take)


@hostile("memory", "shared mappings, cut to a page each", "memory_limit")
def _() -> None:
    def take() -> None:
        for _ in range(16):
            at = mapped(MIB, READ_WRITE, SHARED | ANONYMOUS)
            ctypes.memset(at, 1, MIB)
            LIBC.munmap(at + 4096, MIB - 4096)

    fill(take, 1024)


@hostile("memory", "files in memory without a folder (memfd)", "memory_limit", "nonzero")
def _() -> None:
    def take() -> int:
        fd = os.memfd_create("x")
        os.write(fd, b"1" * (15 * MIB))
        return fd

    fill(take)


@hostile("memory", "files in memory, sent to a socket and not received", "memory_limit", "nonzero")
def _() -> None:
    one, other = socket.socketpair()
    KEPT.append(other)

    def take() -> None:
        fd = os.memfd_create("x")
        os.write(fd, b"1" * (15 * MIB))
        socket.send_fds(one, [b"x"], [fd])
        os.close(fd)

    fill(take)


@hostile("memory", "System V shared memory", "memory_limit", "nonzero")
def _() -> None:
    def take() -> None:
        number = call(29, 194, 0, 16 * MIB, 0o1600)
        ctypes.memset(LIBC.shmat(number, None, 0), 1, 16 * MIB)

    fill(take)


@hostile("memory", "private memory after the leading thread has ended", "memory_limit")
def _() -> None:
    after_the_leading_thread(lambda: fill(private))


@hostile("memory", "shared mappings after the leading thread has ended", "memory_limit")
def _() -> None:
    after_the_leading_thread(lambda: fill(shared))


@hostile("memory", "private memory of a process that is not dumpable", "memory_limit")
def _() -> None:
    LIBC.prctl(4, 0, 0, 0, 0)
    fill(private)


@hostile("memory", "private memory of a program that nobody may read", "memory_limit")
def _() -> None:
    become_unreadable("import time; held = bytearray(b'1') * (512 << 20); time.sleep(4); print('GOT')")


@hostile("memory", "page tables", "memory_limit")
def _() -> None:
    length = 1 << 38
    at = mapped(length, READ, PRIVATE | ANONYMOUS | NO_RESERVE)
    LIBC.madvise(at, length, 15)  # a page of tables for each look, not a large page for many
    for offset in range(0, length, 2 * MIB):
        ctypes.string_at(at + offset, 1)
    stay()


@hostile("memory", "buffers of TCP connections", "memory_limit", memory_bytes=96 * MIB)
def _() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    for _ in range(240):
        client = socket.create_connection(server.getsockname())
        client.setblocking(False)
        KEPT.append(client)
        stuff(client)
    stay()


@hostile("memory", "buffers of local sockets", "memory_limit")
def _() -> None:
    for _ in range(4):
        if os.fork() == 0:
            for _ in range(240):
                pair = socket.socketpair()
                KEPT.append(pair)
                for end in pair:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
                    end.setblocking(False)
                    stuff(end)
            time.sleep(4)
            os._exit(0)
    for _ in range(4):
        os.wait()
    print("GOT", flush=True)


def stuff(end: socket.socket) -> None:
    """Send until nothing more goes in."""
    try:
        while end.send(b"1" * 65536):
            pass
    except BlockingIOError:
        pass


@hostile("memory", "pages in pipes (vmsplice)", "memory_limit", "nonzero")
def _() -> None:
    def take() -> None:
        read, write = os.pipe()
        KEPT.append(read)
        length = 16 * 2 * MIB
        at = mapped(length, READ_WRITE, PRIVATE | ANONYMOUS)
        for start in range(at, at + length, 2 * MIB):
            ctypes.memset(start, 1, 2 * MIB)
            part = (ctypes.c_uint64 * 2)(start, 1)  # one byte holds its whole page, which may be a large one
            call(278, 75, write, part, ctypes.c_ulong(1), 0)
        LIBC.munmap(at, length)

    fill(take)


@hostile("memory", "files in /dev", "memory_limit", "nonzero")
def _() -> None:
    files_in("/dev")


@hostile("memory", "files in /tmp and /dev/shm", "memory_limit", "nonzero")
def _() -> None:
    files_in("/tmp", "/dev/shm")


def files_in(*folders: str) -> None:
    def take() -> None:
        for folder in folders * 2:
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(b"1" * (8 * MIB))

    fill(take)


@hostile("memory", "a hundred thousand empty files in /tmp", "output_limit", "nonzero")
def _() -> None:
    empty_files_in("/tmp")


@hostile("memory", "a hundred thousand empty files in /dev/shm", "output_limit", "nonzero")
def _() -> None:
    empty_files_in("/dev/shm")


@hostile("memory", "a hundred thousand empty files in /dev", "output_limit", "nonzero")
def _() -> None:
    empty_files_in("/dev")


def empty_files_in(folder: str) -> None:
    for number in range(100_000):
        os.close(os.open(f"{folder}/{number}", os.O_CREAT))
    stay()


@hostile("disk", "many files", "output_limit")
def _() -> None:
    names = iter(range(1000))
    fill(lambda: os.close(took(8, f"{next(names)}")), 256, 8)


@hostile("disk", "many empty files", "output_limit")
def _() -> None:
    empty_files_in(".")


@hostile("disk", "one large file", "output_limit", "nonzero")
def _() -> None:
    took(256, "large")
    stay()


@hostile("disk", "removed files that are open", "output_limit")
def _() -> None:
    fill(removed, 256, 8)


def mapping_of_removed(length: int) -> None:
    def take() -> None:
        fd = removed()
        mapped(length, READ_WRITE, SHARED, fd)
        os.close(fd)

    fill(take, 256, 8)


@hostile("disk", "removed files that are only mapped", "output_limit")
def _() -> None:
    mapping_of_removed(8 * MIB)


@hostile("disk", "removed files of which one page is mapped", "output_limit")
def _() -> None:
    mapping_of_removed(4096)


@hostile("disk", "removed files after the leading thread has ended", "output_limit")
def _() -> None:
    after_the_leading_thread(lambda: fill(removed, 256, 8))


@hostile("disk", "removed files of a process that is not dumpable", "output_limit")
def _() -> None:
    LIBC.prctl(4, 0, 0, 0, 0)
    fill(removed, 256, 8)


@hostile("disk", "removed files of a program that nobody may read", "output_limit")
def _() -> None:
    become_unreadable(
        "import os, time\n"
        "for _ in range(20):\n"
        "    fd = os.open('x', 66)\n"
        "    os.posix_fallocate(fd, 0, 8 << 20)\n"
        "    os.unlink('x')\n"
        "time.sleep(4)\n"
        "print('GOT')"
    )


def in_a_thread(work: Callable[[], None]) -> None:
    """An error in it is the program's."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


@hostile("disk", "removed files of a thread with descriptors of its own (unshare)", "output_limit", "nonzero")
def _() -> None:
    def work() -> None:
        call(272, 97, 0x400)
        fill(removed, 256, 8)

    in_a_thread(work)


@hostile("disk", "removed files of a thread with descriptors of its own (close_range)", "output_limit", "nonzero")
def _() -> None:
    def work() -> None:
        call(436, 436, 1000, 1001, 2)
        fill(removed, 256, 8)

    in_a_thread(work)


@hostile("disk", "removed files, sent to a socket and not received", "output_limit")
def _() -> None:
    def take() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for _ in range(8):
            fd = removed(1)
            socket.send_fds(pair[0], [b"x"], [fd])
            os.close(fd)
        return pair

    fill(take, 256, 8)


@hostile("disk", "removed files in a socket that lies in another socket", "output_limit")
def _() -> None:
    outer, end = socket.socketpair()
    one, other = socket.socketpair()
    KEPT.append(end)
    for _ in range(30):
        fd = removed()
        socket.send_fds(one, [b"x"], [fd])
        os.close(fd)
    socket.send_fds(outer, [b"x"], [one.fileno(), other.fileno()])
    one.close()
    other.close()
    stay()


def in_folders_of_mode(mode: int) -> None:
    for number in range(4):
        os.mkdir(f"{number}")
        for name in range(8):
            os.close(took(8, f"{number}/{name}"))
        os.chmod(f"{number}", mode)
        time.sleep(0.05)
    stay()


@hostile("disk", "files in locked folders", "output_limit")
def _() -> None:
    in_folders_of_mode(0)


@hostile("disk", "files in folders that may be entered and not read", "output_limit")
def _() -> None:
    in_folders_of_mode(0o300)


@hostile("disk", "files in folders that may be read and not entered", "output_limit")
def _() -> None:
    in_folders_of_mode(0o400)


@hostile("disk", "files below a locked work folder", "output_limit", "nonzero")
def _() -> None:
    os.mkdir("inside")
    os.chdir("inside")
    os.chmod("/box", 0)
    for name in range(32):
        os.close(took(8, f"{name}"))
    stay()


@hostile("disk", "files deeper than a path can say", "output_limit")
def _() -> None:
    for _ in range(30):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    for name in range(32):
        os.close(took(8, f"{name}"))
    stay()


@hostile("disk", "space beyond the end of a file (fallocate)", "nonzero")
def _() -> None:
    fd = os.open("x", os.O_RDWR | os.O_CREAT)
    if LIBC.fallocate(fd, 1, ctypes.c_long(0), ctypes.c_long(1 << 30)):
        raise OSError(ctypes.get_errno())
    stay()


@hostile("processes", "a fork bomb", "process_limit", "nonzero")
def _() -> None:
    for _ in range(1000):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    stay()


@hostile("processes", "threads", "process_limit", "nonzero")
def _() -> None:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    stay()


@hostile("processes", "daemons that call nobody their parent", "process_limit", "nonzero")
def _() -> None:
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(30)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit("refused")
    stay()


@hostile("time", "it sleeps", "time_limit", wall_s=1.5)
def _() -> None:
    time.sleep(600)


@hostile("time", "it computes", "time_limit", cpu_s=1.0)
def _() -> None:
    while True:
        pass


@hostile("time", "it is deaf to signals", "time_limit", wall_s=1.5)
def _() -> None:
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    while True:
        time.sleep(1)


@hostile("time", "it stops itself and its children", "time_limit", wall_s=1.5)
def _() -> None:
    for _ in range(5):
        if os.fork() == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


@hostile("time", "it floods its output", "output_limit")
def _() -> None:
    while True:
        os.write(1, b"x" * 65536)


@hostile("time", "it waits for the whole machine's writes (sync)", "time_limit", wall_s=1.5)
def _() -> None:
    while True:
        os.sync()


if __name__ == "__main__":
    PROGRAMS[int(sys.argv[1])].run()
