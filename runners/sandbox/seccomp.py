"""The system calls that no exam needs, as one seccomp filter for both kinds of sandbox.

What is refused is what has let programs out of sandboxes like ours, what spends the whole machine's resources, and
what hides memory from watch.py. `ABSENT` calls fail with ENOSYS, because programs that know them know how to do
without; the others with EPERM. A system call newer than `_LAST` does not exist either.

The filter is plain classic BPF (seccomp(2), <linux/filter.h>); numbers are those of <asm/unistd.h>.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from dataclasses import dataclass
from functools import cache
from typing import Literal

# <linux/audit.h>: what a filter reads of the architecture that a call was made for.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# mseal; on x86-64 this bound also refuses the x32 calls, which start at 1 << 30.
_LAST = 462

# Each with its number on x86-64 and on aarch64; None where it does not exist.
ABSENT: dict[str, tuple[int | None, int | None]] = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),  # its flags lie in memory, where no filter can look; every libc falls back to clone
    "memfd_secret": (447, 447),
    "io_setup": (206, 0),  # the whole machine shares fs.aio-max-nr
    "shmget": (29, 194),  # System V memory, semaphores and queues are in nobody's resident memory
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),  # what is in nobody's memory but in a descriptor, which a socket can hide; /dev/shm is
    # there instead, and has a size
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "vserver": (236, None),
    "remap_file_pages": (216, 234),
}
FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "set_mempolicy_home_node": (450, 450),
    "vmsplice": (278, 75),  # keeps pages in a pipe that are in nobody's resident memory
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "reboot": (169, 142),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
}
# Calls that are refused for some arguments only.
_PARTLY: dict[str, tuple[int, int]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "setsockopt": (54, 208),
    "clone": (56, 220),
    "unshare": (272, 97),
    "close_range": (436, 436),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "personality": (135, 92),
    "prctl": (157, 167),
    "ioctl": (16, 29),
    "fallocate": (285, 47),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "madvise": (28, 233),
    "process_madvise": (440, 440),
}

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
_PROTOCOLS = (0, 1, 6, 17, 58)  # the default, ICMP, TCP, UDP, ICMPv6
# The last: programs of BPF, classic and extended, for a socket or a group of them.
_SOL_SOCKET, _SO_SNDBUF, _SO_ATTACH = 1, 7, (26, 50, 51, 52)
# Every CLONE_NEW* that clone and unshare know; CLONE_NEWTIME is one of unshare's only.
_CLONE_NEW, _CLONE_NEWTIME, _CLONE_FILES, _CLONE_THREAD = 0x7E020000, 0x80, 0x400, 0x10000
_CLOSE_RANGE_UNSHARE = 2
_PRIO_PROCESS, _PRIO_USER = 0, 2
_PERSONALITIES = (0, 0x40000, 0xFFFFFFFF)  # Linux; without random addresses (sanitizers); the question which it is
_PR_SET_DUMPABLE, _PR_SCHED_CORE, _PR_SET_MEMORY_MERGE = 4, 62, 67
_MADV_PAGEOUT = 21
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_IOCTLS = {
    "TIOCSTI": 0x5412,
    "TIOCLINUX": 0x541C,
    "TIOCCONS": 0x541D,
    "TIOCSETD": 0x5423,
    "FS_IOC_RESVSP": 0x40305828,  # as fallocate with KEEP_SIZE
    "FS_IOC_RESVSP64": 0x4030582A,
    "FS_IOC_ZERO_RANGE": 0x40305839,
    "FS_IOC_FSSETXATTR": 0x401C5820,
    "FS_IOC_SET_ENCRYPTION_POLICY": 0x800C6613,
    "FS_IOC_ADD_ENCRYPTION_KEY": 0xC0506617,
    "BTRFS_IOC_SNAP_CREATE": 0x50009401,  # what a read-only snapshot holds cannot be removed
    "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E,
    "BTRFS_IOC_SNAP_CREATE_V2": 0x50009417,
    "BTRFS_IOC_SUBVOL_CREATE_V2": 0x50009418,
}


@dataclass(frozen=True)
class Test:
    """One question about the lower half of an argument; `any` and `none` ask for bits."""

    argument: int
    is_: Literal["equal", "other", "any", "none"]
    value: int


@dataclass(frozen=True)
class Rule:
    """`call` fails with `error` where every test holds; an error of 0 is a success that does nothing."""

    call: str
    tests: tuple[Test, ...]
    error: int


def _outside(argument: int, allowed: tuple[int, ...]) -> tuple[Test, ...]:
    return tuple(Test(argument, "other", value) for value in allowed)


def _equal(argument: int, value: int) -> Test:
    return Test(argument, "equal", value)


RULES: tuple[Rule, ...] = (
    # Loopback, local sockets, and the list of interfaces that Go and Node ask for. No vsock, AF_ALG, CAN, TIPC ...
    Rule("socket", _outside(0, (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)), errno.EAFNOSUPPORT),
    Rule("socket", (_equal(0, _AF_NETLINK), Test(2, "other", _NETLINK_ROUTE)), errno.EPROTONOSUPPORT),
    *(
        Rule("socket", (_equal(0, family), *_outside(2, _PROTOCOLS)), errno.EPROTONOSUPPORT)
        for family in (_AF_INET, _AF_INET6)
    ),
    Rule("socketpair", _outside(0, (_AF_UNIX,)), errno.EAFNOSUPPORT),
    *(Rule("setsockopt", (_equal(1, _SOL_SOCKET), _equal(2, option)), errno.EPERM) for option in _SO_ATTACH),
    # Local sockets say to nobody how full they are: opened.py counts each as full.
    Rule("setsockopt", (_equal(1, _SOL_SOCKET), _equal(2, _SO_SNDBUF)), 0),
    Rule("clone", (Test(0, "any", _CLONE_NEW),), errno.EPERM),
    # All threads of a process share one table of descriptors: watch.py looks at it once a process.
    Rule("clone", (Test(0, "any", _CLONE_THREAD), Test(0, "none", _CLONE_FILES)), errno.EPERM),
    Rule("unshare", (Test(0, "any", _CLONE_NEW | _CLONE_NEWTIME | _CLONE_FILES),), errno.EPERM),
    Rule("close_range", (Test(2, "any", _CLOSE_RANGE_UNSHARE),), errno.EINVAL),
    # Process 1 is the sandbox's and has the command's user: nobody inside may trace, slow or limit it.
    Rule("ptrace", (_equal(1, 1),), errno.EPERM),
    *(
        Rule(call, (_equal(0, 1),), errno.EPERM)
        for call in (
            *("process_vm_readv", "process_vm_writev", "pidfd_open", "prlimit64"),
            *("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"),
        )
    ),
    Rule("setpriority", (_equal(0, _PRIO_PROCESS), _equal(1, 1)), errno.EPERM),
    Rule("setpriority", (_equal(0, _PRIO_USER),), errno.EPERM),
    Rule("personality", _outside(0, _PERSONALITIES), errno.EPERM),
    # A process that is not dumpable hides its open files from an ordinary user's watcher.
    Rule("prctl", (_equal(0, _PR_SET_DUMPABLE), _equal(1, 0)), 0),
    Rule("prctl", (_equal(0, _PR_SCHED_CORE),), errno.EINVAL),
    Rule("prctl", (_equal(0, _PR_SET_MEMORY_MERGE),), errno.EINVAL),
    # They wait, deaf to signals, for the whole machine's writes; fsync waits for a program's own.
    Rule("sync", (), 0),
    Rule("syncfs", (), 0),
    # Shared memory that was sent to swap is in nobody's resident memory.
    Rule("madvise", (_equal(2, _MADV_PAGEOUT),), errno.EINVAL),
    Rule("process_madvise", (_equal(3, _MADV_PAGEOUT),), errno.EINVAL),
    *(Rule("ioctl", (_equal(1, request),), errno.EPERM) for request in _IOCTLS.values()),
    # Takes a whole disk at once, whatever RLIMIT_FSIZE says.
    Rule("fallocate", (Test(1, "any", _FALLOC_FL_KEEP_SIZE), Test(1, "none", _FALLOC_FL_PUNCH_HOLE)), errno.EOPNOTSUPP),
)

# <linux/bpf_common.h> and <linux/seccomp.h>
_LOAD, _RETURN, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x20, 0x06, 0x15, 0x35, 0x45
_KILL_PROCESS, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_Instruction = tuple[int, int, int, int]


def assemble(machine: str) -> bytes | None:
    """The filter for processes of `machine` (as uname(2) says it); None where we have no numbers for it."""
    if machine not in _ARCHITECTURES:
        return None
    column = list(_ARCHITECTURES).index(machine)
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        _ending(_KILL_PROCESS),  # a 32-bit program: its numbers mean other calls
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_AT_LEAST, 0, 1, _LAST + 1),
        _ending(_ERROR | errno.ENOSYS),
    ]
    for calls, error in ((ABSENT, errno.ENOSYS), (FORBIDDEN, errno.EPERM)):
        for numbers in calls.values():
            number = numbers[column]
            if number is not None:
                program += [(_JUMP_EQUAL, 0, 1, number), _ending(_ERROR | error)]
    for call, (x86, arm) in _PARTLY.items():
        block = [instruction for rule in RULES if rule.call == call for instruction in _rule(rule)]
        block.append(_ending(_ALLOW))
        program += [(_JUMP_EQUAL, 0, len(block), arm if column else x86), *block]
    program.append(_ending(_ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def number_of(call: str, machine: str) -> int | None:
    """The number of a system call that is named here, on `machine`; None where there is none or we do not know it."""
    if machine not in _ARCHITECTURES:
        return None
    return {**ABSENT, **FORBIDDEN, **_PARTLY}[call][list(_ARCHITECTURES).index(machine)]


def _ending(value: int) -> _Instruction:
    return (_RETURN, 0, 0, value)


def _rule(rule: Rule) -> list[_Instruction]:
    """Each test goes on where it holds, and else past the end of the rule."""
    code = []
    for done, test in enumerate(rule.tests):
        out = 2 * (len(rule.tests) - done) - 1
        kind = _JUMP_EQUAL if test.is_ in ("equal", "other") else _JUMP_ANY_BIT
        holds, fails = (0, out) if test.is_ in ("equal", "any") else (out, 0)
        # The lower half comes first in memory: both architectures are little-endian.
        code += [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * test.argument), (kind, holds, fails, test.value)]
    return [*code, _ending(_ERROR | rule.error)]


@cache
def seccomp_filter() -> bytes | None:
    """The filter for this machine; None where its kernel or its architecture has none."""
    if sys.maxsize < 1 << 32:
        return None
    # Without an address the kernel says EFAULT where it knows filters, else EINVAL; either way nothing is installed.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), None, ctypes.c_ulong(0), ctypes.c_ulong(0))
    return assemble(platform.machine()) if ctypes.get_errno() == errno.EFAULT else None
