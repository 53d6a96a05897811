"""Makes the namespaces, the root and the limits of one run, then runs the command in them.

A script of its own, started as `python -I -S launcher.py CONFIG_FD STATUS_FD` before each command, that imports nothing
of ours and little of anybody's (`_signal`, `_socket` and `marshal` are built in; `signal`, `socket` and `json` would
double its start). That is also why all of it is one file.

Three processes, each dying with the one before it (PR_SET_PDEATHSIG), the last two with all they started, because the
kernel ends a PID namespace with its process 1:

    launcher          new user namespace; waits
    +- process 1      new root, no capabilities; reaps, reports how the command ended
       +- the command

CONFIG_FD holds, as marshal writes it, what namespaces.py says: parent, uid, hostname, mounts, proc_read_only,
proc_hidden, rlimits, seccomp, argv, env, cwd. STATUS_FD gets the lines `landlock ABI`, `started`, then `exit N` or
`signal N`; or `error TEXT` where the set-up failed.
"""

# ruff: noqa: PTH102, PTH103, PTH112, PTH120, PTH123, PTH211, SIM105
# pathlib and contextlib would double the start of this script as well.

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # built in, unknown to typeshed
import _socket as socket
import ctypes
import fcntl
import marshal
import os
import resource
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)

# <linux/sched.h>
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000
# <linux/mount.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
# <linux/prctl.h>
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
# <linux/landlock.h>; these system calls have the same numbers on every architecture
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_EXECUTE, LANDLOCK_WRITE_FILE, LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 1, 2, 4, 8
LANDLOCK_MAKE_CHAR, LANDLOCK_MAKE_BLOCK = 1 << 6, 1 << 11
# Rights that each version of Landlock knows: 13 at first, then REFER, TRUNCATE, and IOCTL_DEV with version 5.
LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
LANDLOCK_RIGHTS_NOW = 16

DEVICES = ("null", "zero", "full", "random", "urandom")
KEPT_FLAGS = {
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
}


class SetupError(Exception):
    """A step of the set-up that the kernel refused."""


def checked(result: int, what: str) -> int:
    """The result of a C function, or its errno as an error that says `what` failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise SetupError(f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """The mount system call."""
    encoded = [os.fsencode(text) for text in (source, target, kind)]
    checked(LIBC.mount(*encoded, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def prctl(option: int, value: int) -> int:
    """The prctl system call with one argument."""
    zero = ctypes.c_ulong(0)
    return int(LIBC.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def write_file(path: str, text: str) -> None:
    """Write a setting of the kernel."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter_namespaces(uid: int) -> None:
    """Leave the host's namespaces; inside, this user is `uid` and nobody else exists."""
    host_uid, host_gid = os.geteuid(), os.getegid()
    if host_uid == 0:
        try:
            os.setgroups([])
        except OSError:
            pass  # root without that capability; the groups stay and mean nothing in the new root
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
    checked(LIBC.unshare(flags), "unshare")
    try:
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"{uid} {host_uid} 1")
        write_file("/proc/self/gid_map", f"{uid} {host_gid} 1")
    except OSError as error:
        raise SetupError(f"user namespace: {error}") from error


def build_root(config: dict[str, Any]) -> None:
    """Replace the root by one that holds the mounts, /proc and /dev, everything read-only but what is meant to be not.

    The old root has to stay reachable until everything is bound: first an empty tmpfs becomes the root and the host
    its folder /old, then /new does and the host is let go.
    """
    mount("", "/", "", MS_REC | MS_PRIVATE)
    base = next((path for path in ("/tmp", "/mnt", "/var", "/usr") if os.path.isdir(path)), "/")  # noqa: S108 - covered
    mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    os.chdir(base)
    os.mkdir("old")
    os.mkdir("new")
    checked(LIBC.pivot_root(b".", b"old"), "pivot_root")
    os.chdir("/")
    mount("tmpfs", "/new", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    writable = ["/new/proc"]
    writable += ["/new" + entry["target"] for entry in config["mounts"] if place(entry) in ("writable", "tmpfs")]
    make_devices()
    make_proc(config["proc_read_only"], config["proc_hidden"])
    make_read_only(writable)
    os.chdir("/new")
    checked(LIBC.pivot_root(b".", b"."), "pivot_root")
    checked(LIBC.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")


def place(entry: dict[str, str]) -> str:
    """Carry out one line of the layout; returns its kind."""
    kind, target, source = entry["kind"], "/new" + entry["target"], "/old" + entry["source"]
    if kind == "link":
        os.symlink(entry["source"], target)
    elif kind in ("read_only", "writable"):
        make_point(target, folder=os.path.isdir(source))
        mount(source, target, "", MS_BIND | MS_REC)
    else:
        make_point(target, folder=True)
        options = (
            "mode=755,size=4k,nr_inodes=16"
            if kind == "hidden"
            else f"mode=1777,size={entry['size_bytes']},nr_inodes={entry['inodes']}"
        )
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options)
    return kind


def make_point(target: str, *, folder: bool) -> None:
    """Something to mount on."""
    os.makedirs(target if folder else os.path.dirname(target), exist_ok=True)
    if not folder:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o644))


def make_devices() -> None:
    """The devices that do nothing, and the links that programs expect. /dev/shm is there already."""
    for name in DEVICES:
        make_point(f"/new/dev/{name}", folder=False)
        mount(f"/old/dev/{name}", f"/new/dev/{name}", "", MS_BIND)
    os.symlink("/proc/self/fd", "/new/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"/new/dev/{name}")


def make_proc(read_only: list[str], hidden: list[str]) -> None:
    """/proc of the new PID namespace; left out where a container forbids a new one (its own is partly covered)."""
    try:
        write_file("/old/proc/sys/user/max_user_namespaces", "0")  # counts for this user namespace only
    except OSError:
        pass  # it is read-only in a container; a nested user namespace has no more rights than this one
    os.makedirs("/new/proc", exist_ok=True)
    try:
        mount("proc", "/new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except SetupError:
        return
    for path in read_only:
        mount(f"/new{path}", f"/new{path}", "", MS_BIND | MS_REC)
    for path in hidden:
        mount("/old/dev/null", f"/new{path}", "", MS_BIND)
    mount("tmpfs", "/new/proc/1", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=4k")  # this process: none of theirs


def make_read_only(writable: list[str]) -> None:
    """Remount all of /new read-only but `writable`.

    Each mount by itself, keeping its flags: a recursive bind leaves the mounts below as they were, and a user
    namespace may add restrictions but not lift any.
    """
    with open("/old/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    for line in lines:
        fields = line.split(" ")
        point = fields[4]
        for escape in ("\\040", "\\011", "\\012", "\\134"):
            point = point.replace(escape, chr(int(escape[1:], 8)))
        if not (point == "/new" or point.startswith("/new/")) or point in writable:
            continue
        kept = sum(KEPT_FLAGS.get(option, 0) for option in fields[5].split(","))
        device = 0 if point.startswith("/new/dev/") else MS_NODEV
        mount("", point, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | device | kept)


def raise_loopback() -> None:
    """Set the loopback interface up (SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP); servers inside can be reached from inside."""
    handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    request = struct.pack("16sH14s", b"lo", 0, b"")
    flags = struct.unpack("16sH14s", fcntl.ioctl(handle.fileno(), 0x8913, request))[1]
    fcntl.ioctl(handle.fileno(), 0x8914, struct.pack("16sH14s", b"lo", flags | 1, b""))
    handle.close()


def landlock_abi() -> int:
    """The kernel's version of Landlock; 0 without it."""
    return max(0, int(LIBC.syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def restrict_with_landlock(abi: int, writable: list[str]) -> None:
    """Forbid this process and its children to write outside `writable`, whatever the mounts allow."""
    every = (1 << LANDLOCK_RIGHTS.get(abi, LANDLOCK_RIGHTS_NOW)) - 1
    # From version 6 on: no signals and no abstract sockets to processes outside (LANDLOCK_SCOPE_*).
    attributes = struct.pack("QQQ", every, 0, 3) if abi >= 6 else struct.pack("Q", every)
    ruleset = checked(
        LIBC.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock"
    )
    rules = dict.fromkeys(writable, every & ~(LANDLOCK_MAKE_CHAR | LANDLOCK_MAKE_BLOCK))
    rules["/"] = LANDLOCK_EXECUTE | LANDLOCK_READ_FILE | LANDLOCK_READ_DIR
    rules["/dev"] = LANDLOCK_READ_FILE | LANDLOCK_READ_DIR | LANDLOCK_WRITE_FILE
    for path, rights in rules.items():
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights, folder)
        checked(LIBC.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0), "landlock")
        os.close(folder)
    checked(LIBC.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def drop_capabilities() -> None:
    """No capability now (capset, version 3), none after an exec."""
    number = 0
    while prctl(PR_CAPBSET_DROP, number) == 0:
        number += 1
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    checked(LIBC.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6)), "capset")


def filter_calls(program: bytes) -> None:
    """Refuse the system calls that seccomp.py refuses, to this process and whatever it starts."""
    held = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))  # struct sock_fprog
    zero = ctypes.c_ulong(0)
    checked(LIBC.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), filters, zero, zero), "seccomp")


def report(config: dict[str, Any], line: str) -> None:
    """One line to the one who started us; the command never has this descriptor."""
    os.write(config["status_fd"], line.encode("utf-8", "replace") + b"\n")


def run_command(config: dict[str, Any], abi: int) -> NoReturn:
    """Become the command: limits, Landlock, no capabilities, default signals, the filter of system calls."""
    try:
        os.setsid()
        os.chdir(config["cwd"])
        if abi:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            restrict_with_landlock(abi, [m["target"] for m in config["mounts"] if m["kind"] in ("writable", "tmpfs")])
        drop_capabilities()
        for name, (soft, hard) in config["rlimits"].items():
            kind = getattr(resource, name)
            most = resource.getrlimit(kind)[1]
            most = hard if most == resource.RLIM_INFINITY else min(hard, most)
            resource.setrlimit(kind, (min(soft, most), most))
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if config["seccomp"]:
            filter_calls(config["seccomp"])
    except (OSError, SetupError, ValueError) as error:
        report(config, f"error {error}")
        os._exit(1)
    report(config, "started")
    try:
        os.execve(config["argv"][0], config["argv"], config["env"])  # noqa: S606 - a shell is what we do not want
    except OSError as error:
        os.write(2, f"cannot run {error.filename}: {error.strerror}\n".encode())
    os._exit(127)  # as a shell and prlimit(1) say it


def be_process_1(config: dict[str, Any], alive: int, null: int) -> NoReturn:
    """Set everything up, start the command, reap until it ends, report how."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.set_blocking(alive, False)
    try:
        os.read(alive, 1)
        os._exit(1)  # the launcher was gone before the line above took effect
    except BlockingIOError:
        pass
    try:
        socket.sethostname(config["hostname"])
        raise_loopback()
        abi = landlock_abi()
        build_root(config)
    except (OSError, SetupError) as error:
        report(config, f"error {error}")
        os._exit(1)
    report(config, f"landlock {abi}")
    command = os.fork()
    if command == 0:
        run_command(config, abi)
    drop_capabilities()
    prctl(PR_SET_DUMPABLE, 0)  # the command has the same user: it must not trace or read this process
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # forgotten by the kernel when capabilities change
    let_go_of_output(null)
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(1)
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            report(config, f"exit {code}" if code >= 0 else f"signal {-code}")
            os._exit(0)


def let_go_of_output(null: int) -> None:
    """Leave standard streams to the command alone, so that their end is its end."""
    for number in range(3):
        os.dup2(null, number)


def main() -> None:
    """The launcher itself."""
    with open(int(sys.argv[1]), "rb") as file:
        config = marshal.load(file)  # noqa: S302 - from our own parent, through a descriptor only we have
    config["status_fd"] = int(sys.argv[2])
    os.set_inheritable(config["status_fd"], False)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != config["parent"]:
        os._exit(1)
    # Process 1 obeys only signals it handles; Python handles this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        enter_namespaces(config["uid"])
    except SetupError as error:
        report(config, f"error {error}")
        os._exit(1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    alive, held = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)  # now: process 1 is about to replace the root of both
    child = os.fork()
    if child == 0:
        os.close(held)
        be_process_1(config, alive, null)
    let_go_of_output(null)
    os.close(config["status_fd"])
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
