"""Runs inside the sandbox before the relay: takes the pipes that it is to use from outside, and becomes the relay.

    python inside.py LINK PROGRAM

LINK is a local socket that somebody outside connects to and sends open descriptors over; their numbers are the
program's arguments. Nothing of ours is left in here then: whoever plays source and sink, and judges, is outside.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

MOST_DESCRIPTORS = 16


def main() -> None:
    """Waits for the descriptors and becomes the program."""
    _, path, program = sys.argv
    # We listen and they connect: a connection belongs to the network of the one who asked for it, and a local
    # socket of this network that no process in here has would look like hidden memory to the sandbox's watch.
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(path)
    door.listen(1)
    link, _ = door.accept()
    door.close()
    os.unlink(path)  # noqa: PTH108 - starts in half the time without pathlib
    descriptors = socket.recv_fds(link, 1, MOST_DESCRIPTORS)[1]
    link.close()
    if not descriptors:
        raise ConnectionError("nobody sent the pipes")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # as Python found them
        signal.signal(number, signal.SIG_DFL)
    os.execv(program, [program, *map(str, descriptors)])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
