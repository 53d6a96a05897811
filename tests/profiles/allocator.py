"""Takes and frees known amounts of memory on order, and says when it is done. One order a line; sizes in MiB.

ready | anon N | file PATH | free | spike N | fork | children | exit
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time

MIB = 1 << 20
held: list[mmap.mmap] = []
children: list[int] = []


def take(size_mib: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size_mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, len(memory), mmap.PAGESIZE):
        memory[start] = 1
    return memory


def map_file(path: str) -> mmap.mmap:
    with open(path, "rb") as file:  # noqa: PTH123 - a mapping wants a descriptor
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for start in range(0, len(memory), mmap.PAGESIZE):
        _ = memory[start]
    return memory


def fork_child() -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # The parent may be killed at any moment, and nobody else would end its children.
        while os.getppid() == parent:
            time.sleep(0.05)
        os._exit(0)
    children.append(pid)


def release() -> None:
    for memory in held:
        memory.close()
    held.clear()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    children.clear()


def main() -> None:
    for line in sys.stdin:
        words = line.split()
        if words[0] == "anon":
            held.append(take(int(words[1])))
        elif words[0] == "file":
            held.append(map_file(words[1]))
        elif words[0] == "spike":
            take(int(words[1])).close()
        elif words[0] == "fork":
            fork_child()
        elif words[0] == "free":
            release()
        elif words[0] == "exit":
            break
        print(time.monotonic(), flush=True)
    release()


if __name__ == "__main__":
    main()
