"""Waits for the end of the driver that started it, then ends what Ray left running and removes the session's folder.

When a driver is killed, the kernel ends Ray's main processes with it, but two helpers of the node go on for a minute:
they want to tell a head that is gone. `python -I -S janitor.py FOLDER`: standard input closes when the driver ends, in
whatever way; a descriptor that is inherited holds the folder's lock until this process ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "QUANTSWEEP_SESSION"
"""In the environment that every process of a Ray of ours starts with: the folder of its session."""
GRACE_S = 5.0
"""Ray ends our agents within 3 s, and the supervisors of their engines see that; this is for what is left then."""


def left(folder: str) -> list[int]:
    """Descriptors of the processes of this user that belong to the session."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(int(entry.name))  # before it is looked at: a number may be given again
            try:
                if entry.stat().st_uid == os.getuid() and _belongs(entry, folder):
                    found.append(os.dup(handle))
            finally:
                os.close(handle)
    return found


def _belongs(process: Path, folder: str) -> bool:
    """By its environment; or, where Ray wrote the process's title over that, by its title and its open logs."""
    if f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
        return True
    if not (process / "comm").read_bytes().startswith(b"ray::"):
        return False
    return any(str(link.readlink()).startswith(f"{folder}/") for link in (process / "fd").iterdir())


def end_all(folder: str) -> None:
    """Ends them, those first that end by themselves."""
    deadline = time.monotonic() + GRACE_S
    while handles := left(folder):
        late = time.monotonic() > deadline
        for handle in handles:
            with contextlib.suppress(OSError):
                if late:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        if time.monotonic() > deadline + GRACE_S:
            return
        time.sleep(0.2)


def main() -> None:
    """See above."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the driver
    while os.read(0, 1):
        pass
    if not folder.exists():
        return
    end_all(str(folder / "r"))
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)


if __name__ == "__main__":
    main()
