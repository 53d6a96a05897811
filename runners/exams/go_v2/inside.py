"""Runs inside the sandbox before the program: opens its port, hands that out, and becomes the program.

    python inside.py LINK PROGRAM ARGUMENT...   (`{port}` in an argument is replaced)

The listening socket belongs to the sandbox's network, and the one who accepts connections on it is outside: it is sent
there over LINK, a local socket that somebody outside connects to, before the program starts. So there is no server in
here that the program could end, read, or speak for. A child stays behind to send the program the signals that come
over LINK; it knows nothing, and a program that ends it gets no signal.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

BACKLOG = 256


def main() -> None:
    """Hands the port out, waits for the word to go on, and becomes the program."""
    _, path, *words = sys.argv
    # We listen and they connect: a connection belongs to the network of the one who asked for it, and a local
    # socket of this network that no process in here has would look like hidden memory to the sandbox's watch.
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(path)
    door.listen(1)
    link, _ = door.accept()
    door.close()
    os.unlink(path)  # noqa: PTH108 - starts in half the time without pathlib
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    port = listener.getsockname()[1]
    socket.send_fds(link, [b"%d\n" % port], [listener.fileno()])
    listener.close()
    if link.recv(1) != b"g":
        raise ConnectionError("nobody takes the port")
    program = os.getpid()
    first = os.fork()
    if first == 0:
        if os.fork():
            os._exit(0)  # the messenger is process 1's child then, and none that the program could wait for
        carry_signals(link, program)
    os.waitpid(first, 0)
    link.close()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # as Python found them
        signal.signal(number, signal.SIG_DFL)
    os.execv(words[0], [word.replace("{port}", str(port)) for word in words])  # noqa: S606 - no shell


def carry_signals(link: socket.socket, program: int) -> NoReturn:
    """Sends `program` what comes over `link`, one byte a signal, until that is closed."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # they are the program's alone: their end is its end
        os.dup2(null, number)
    while word := link.recv(1):
        try:
            os.kill(program, word[0])
        except OSError:
            break
    os._exit(0)


if __name__ == "__main__":
    main()
