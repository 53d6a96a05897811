"""The filter of system calls, as the kernel would read it on both architectures, and the keys of a run."""

from __future__ import annotations

import errno
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.sandbox import Completed
from runners.sandbox.seccomp import ABSENT, FORBIDDEN, assemble, number_of, seccomp_filter
from runners.sandbox.spawner import spawn

RunPython = Callable[..., Completed]
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"),),
}
ALLOW, KILL = 0x7FFF0000, 0x80000000
CLONE_THREAD = 0x3D0F00  # what pthread_create asks for


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter returns for a call; its instructions carried out as the kernel does."""
    program = assemble(machine)
    assert program is not None
    code = list(struct.iter_unpack("=HBBI", program))
    words = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *[0] * 6)][:6]
    data = struct.pack("=IIQ6Q", number, audit or ARCHITECTURES[machine], 0, *words)
    accumulator = at = 0
    while True:
        kind, holds, fails, value = code[at]
        if kind == 0x06:
            return int(value)
        if kind == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
            at += 1
            continue
        true = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[kind]
        at += 1 + (holds if true else fails)


def failing(error: int) -> int:
    return 0x00050000 | error


@pytest.fixture(params=list(ARCHITECTURES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("io_uring_setup", (), errno.ENOSYS),
        ("clone3", (), errno.ENOSYS),
        ("shmget", (), errno.ENOSYS),
        ("keyctl", (), errno.EPERM),
        ("userfaultfd", (), errno.EPERM),
        ("socket", (1, 1, 0), None),
        ("socket", (2, 1, 6), None),
        ("socket", (10, 2, 17), None),
        ("socket", (2, 1, 132), errno.EPROTONOSUPPORT),
        ("socket", (10, 1, 262), errno.EPROTONOSUPPORT),
        ("socket", (16, 3, 0), None),
        ("socket", (16, 3, 12), errno.EPROTONOSUPPORT),
        ("socket", (40, 1, 0), errno.EAFNOSUPPORT),
        ("socket", (38, 5, 0), errno.EAFNOSUPPORT),
        ("socketpair", (1, 1, 0), None),
        ("socketpair", (30, 1, 0), errno.EAFNOSUPPORT),
        ("setsockopt", (1, 1, 2), None),
        ("setsockopt", (1, 1, 26), errno.EPERM),
        ("setsockopt", (1, 6, 26), None),
        ("setsockopt", (1, 1, 7), 0),
        ("madvise", (0, 4096, 4), None),
        ("madvise", (0, 4096, 21), errno.EINVAL),
        ("sync", (), 0),
        ("memfd_create", (), errno.ENOSYS),
        ("clone", (CLONE_THREAD,), None),
        ("clone", (CLONE_THREAD & ~0x400,), errno.EPERM),
        ("clone", (17,), None),
        ("clone", (0x10000000 | 17,), errno.EPERM),
        ("unshare", (0x200,), None),
        ("unshare", (0x400,), errno.EPERM),
        ("unshare", (0x80,), errno.EPERM),
        ("ptrace", (16, 2), None),
        ("ptrace", (16, 1), errno.EPERM),
        ("prlimit64", (0, 7), None),
        ("prlimit64", (1, 7), errno.EPERM),
        ("setpriority", (0, 0, 5), None),
        ("setpriority", (0, 1, 5), errno.EPERM),
        ("setpriority", (2, 0, 5), errno.EPERM),
        ("personality", (0xFFFFFFFF,), None),
        ("personality", (0x40000,), None),
        ("personality", (0x400000,), errno.EPERM),
        ("prctl", (4, 1), None),
        ("prctl", (4, 0), 0),
        ("prctl", (15, 0), None),
        ("ioctl", (0, 0x5413), None),
        ("ioctl", (0, 0x5412), errno.EPERM),
        ("fallocate", (3, 0, 0, 1 << 20), None),
        ("fallocate", (3, 3, 0, 1 << 20), None),
        ("fallocate", (3, 1, 0, 1 << 20), errno.EOPNOTSUPP),
        ("close_range", (3, 9, 4), None),
        ("close_range", (3, 9, 2), errno.EINVAL),
    ],
)
def test_calls_are_judged_by_their_arguments(
    machine: str, call: str, arguments: tuple[int, ...], expected: int | None
) -> None:
    number = number_of(call, machine)
    assert number is not None
    assert verdict(machine, number, *arguments) == (ALLOW if expected is None else failing(expected))


def test_upper_halves_of_arguments_open_nothing(machine: str) -> None:
    """The kernel takes an int; what a program puts above it must not make another value of it."""
    number = number_of("socket", machine)
    assert number is not None
    assert verdict(machine, number, 1 << 32 | 40) == failing(errno.EAFNOSUPPORT)
    assert verdict(machine, number_of("ioctl", machine) or 0, 0, 1 << 32 | 0x5412) == failing(errno.EPERM)


def test_other_architectures_and_unknown_calls_are_refused(machine: str) -> None:
    assert verdict(machine, 1, audit=0x40000003) == KILL  # i386
    assert verdict(machine, 1, audit=0x40000028) == KILL  # 32-bit ARM
    assert verdict(machine, 462) == ALLOW
    for number in (463, 9999, 0x40000000 | 39, 0xFFFFFFFF):  # the third is x32's getpid
        assert verdict(machine, number) == failing(errno.ENOSYS)


def test_an_unknown_architecture_has_no_filter() -> None:
    assert assemble("riscv64") is None
    assert number_of("keyctl", "riscv64") is None


def test_numbers_are_those_of_the_kernel_s_headers(machine: str) -> None:
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed")
    text = header.read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\n", text)}
    ours = {name: number_of(name, machine) for name in (*ABSENT, *FORBIDDEN, "socket", "clone", "prctl", "ioctl")}
    compared = {name for name in ours if name in known}
    assert len(compared) > 40
    assert {name: ours[name] for name in compared} == {name: known[name] for name in compared}


@pytest.mark.skipif(seccomp_filter() is None, reason="this kernel filters no calls")
def test_the_filter_is_on_inside(run_python: RunPython) -> None:
    program = (
        "import pathlib; print([w for w in pathlib.Path('/proc/self/status').read_text().split('\\n') if 'Secc' in w])"
    )
    assert b"Seccomp:\\t2" in run_python(program).stdout


@pytest.mark.skipif(seccomp_filter() is None, reason="this kernel filters no calls")
def test_32_bit_calls_end_the_program(run_python: RunPython) -> None:
    """`int 0x80` takes the numbers of i386, whatever the program is."""
    if platform.machine() != "x86_64":
        pytest.skip("x86-64 only")
    program = (
        "import ctypes, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20; int 0x80; ret: getpid of i386\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())"
    )
    done = run_python(program)
    assert (done.status, done.signal) == ("signal", 31)


@pytest.mark.skipif(number_of("keyctl", platform.machine()) is None, reason="no number for keyctl here")
def test_each_start_has_a_keyring_of_its_own() -> None:
    keyctl = number_of("keyctl", platform.machine())
    question = f"import ctypes; print(ctypes.CDLL(None).syscall({keyctl}, 0, -3, 0))"  # the session's keyring

    def asked() -> int:
        with spawn([sys.executable, "-I", "-c", question], env={}, stdin=0, pass_fds=[]) as process:
            return int(process.communicate(timeout=60)[0])

    mine = subprocess.run([sys.executable, "-I", "-c", question], capture_output=True, check=True).stdout
    if int(mine) < 0:
        pytest.skip("no keyrings here")
    assert len({asked(), asked(), int(mine)}) == 3
    again = subprocess.run([sys.executable, "-I", "-c", question], capture_output=True, check=True).stdout
    assert again == mine, "our own process keeps its keys"
