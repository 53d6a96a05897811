"""Run inside a sandbox: tries to get out and prints, as JSON, what it could do.

Arguments: a path, a process id, a port and the name of an abstract socket, all of the host.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

SECRET, PID, PORT, ABSTRACT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
LIBC = ctypes.CDLL(None, use_errno=True)
STATUS = Path("/proc/self/status").read_text()

Action = Callable[[], object]


def can(action: Action) -> bool:
    try:
        action()
    except Exception:
        return False
    return True


def called(name: str, *arguments: object) -> Action:
    def action() -> None:
        if getattr(LIBC, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno())

    return action


def written(path: str) -> Action:
    def action() -> None:
        # A setting is opened only: writing the wrong value would be a mess where it works.
        fd = os.open(path, os.O_WRONLY | (0 if path.startswith("/proc") else os.O_CREAT), 0o644)
        os.close(fd)

    return action


def connected(family: int, address: object) -> Action:
    def action() -> None:
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)  # type: ignore[arg-type]  # one of two kinds of address

    return action


def loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        server.accept()[0].close()


def readable(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def capabilities(name: str) -> Action:
    def action() -> None:
        if int(STATUS.split(f"{name}:")[1].split()[0], 16) == 0:
            raise PermissionError

    return action


PATHS = [SECRET, SECRET.parent, *map(Path, ("/etc/shadow", "/etc/hostname", "/home", "/sys", "/var", "/run"))]
WRITES = (
    *("/x", "/usr/x", "/etc/passwd", "/etc/x", "/lib/x"),
    *("/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness", "/proc/sys/user/max_user_namespaces"),
)
CONNECTIONS = {
    "host port": connected(socket.AF_INET, ("127.0.0.1", PORT)),
    "abstract socket": connected(socket.AF_UNIX, "\0" + ABSTRACT),
    "somewhere": connected(socket.AF_INET, ("192.0.2.1", 80)),
}
CALLS: dict[str, Action] = {
    "signal a process of the host": lambda: os.kill(PID, 0),
    "mount": called("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None),
    "remount": called("mount", b"none", b"/usr", b"none", 32 | 4096, None),
    "umount": called("umount2", b"/tmp", 2),
    "new user namespace": called("unshare", 0x10000000),
    "new network namespace": called("unshare", 0x40000000),
    "chroot": lambda: os.chroot("/tmp"),
    "make a disk": lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)),
    "become root": lambda: os.setuid(0),
    "join a group": lambda: os.setgroups([0]),
    "set the host name": lambda: socket.sethostname("mine"),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100_000, 100_000)),
    "read the kernel's log": Path("/proc/kmsg").read_bytes,
    "open the kernel's memory": lambda: os.open("/proc/kcore", os.O_RDONLY),
    "have capabilities": capabilities("CapEff"),
    "get capabilities": capabilities("CapBnd"),
}


def main() -> None:
    for number in (2, 9, 15):
        can(lambda number=number: os.kill(1, number))  # type: ignore[misc]  # binds the loop variable
    found = {
        "reads": [str(path) for path in PATHS if path.exists()],
        "writes": [path for path in WRITES if can(written(path))],
        "connects": [name for name, action in CONNECTIONS.items() if can(action)],
        "calls": [name for name, action in CALLS.items() if can(action)],
        "processes": len([path for path in Path("/proc").iterdir() if path.name.isdigit()]),
        "root": sorted(path.name for path in Path("/").iterdir()),
        "process 1": readable("/proc/1/cmdline") + readable("/proc/1/environ") + readable("/proc/1/status"),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "loopback": can(loopback),
        "no new privileges": "NoNewPrivs:\t1" in STATUS,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
