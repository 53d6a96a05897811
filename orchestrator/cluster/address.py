"""From what a person wrote to the head of a Ray cluster that answers there: `auto`, RAY_ADDRESS, HOST:PORT.

Nothing here imports Ray: a dead host, a swallowing firewall, a port of something else are found in seconds and said in
a sentence, where Ray would print its own lines for minutes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ClusterError

KNOCK_S = 5.0
"""How long a host may take to accept a connection, and then to say its first bytes."""
PAGE = "docs/machines.md says how machines are brought together."

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""What a gRPC client says first: HTTP/2's connection preface and an empty SETTINGS frame (RFC 9113, 3.4)."""
_SETTINGS = 4


@dataclass(frozen=True, slots=True)
class Head:
    """Where a cluster's head listens. `written` is what the person wrote, for messages."""

    host: str
    port: int
    written: str

    @property
    def address(self) -> str:
        """As Ray wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it under this name."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return False
        return all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)

    def __str__(self) -> str:
        return self.address if self.written == self.address else f"{self.written} ({self.address})"


def find_head(address: str) -> Head:
    """What `address` means on this machine. `auto` is RAY_ADDRESS, or the cluster of the user's own node here.

    Ray itself would follow any process that calls itself a raylet, and a file that everybody may write
    (/tmp/ray/ray_current_cluster): whoever owns either would be sent the cluster's token.

    Raises:
        ClusterError: it is no address, or there is no one cluster that `auto` could mean.
    """
    if address != "auto":
        return _parsed(address, written=address)
    if chosen := os.environ.get("RAY_ADDRESS"):
        if chosen == "auto":
            raise ClusterError("RAY_ADDRESS is 'auto', which says nothing", hint="Set it to HOST:PORT, or unset it.")
        return _parsed(chosen, written=f"RAY_ADDRESS={chosen}")
    found = _own_clusters()
    if not found:
        raise ClusterError(
            "auto: no Ray node of yours runs on this machine",
            hint=f"Start one here, or give the head's address, HOST:PORT. {PAGE}",
        )
    if len(found) > 1:
        raise ClusterError(
            f"auto: nodes of several clusters run on this machine: {', '.join(sorted(found))}",
            hint="Say which one: --address HOST:PORT.",
        )
    return _parsed(found.pop(), written="auto")


def _parsed(address: str, *, written: str) -> Head:
    if address.startswith("ray://"):
        raise ClusterError(
            f"{written}: Ray Client addresses are not supported",
            hint="Run on a machine that is a node of the cluster and give its head's address, HOST:6379, or 'auto'.",
        )
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(
            f"{written}: not the address of a Ray cluster",
            hint="Give the head's address, HOST:PORT, or 'auto'. Without --address, the sweep runs here alone.",
        )
    return Head(bare, int(port), written)


def _own_clusters() -> set[str]:
    """The heads of which raylets of this user say that they are theirs."""
    import psutil

    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and Path(words[0]).name == "raylet" and process.uids().real == os.getuid():
                found |= {word.partition("=")[2] for word in words if word.startswith("--gcs-address=")}
    return found


def knock(head: Head) -> None:
    """Connects and waits until something that speaks HTTP/2, as Ray's head does, answers.

    Raises:
        ClusterError: nothing does within a few seconds; the sentence says what was there instead.
    """
    with _reached(head) as door:
        if os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}:
            return  # encrypted from the first byte on: Ray's own client has to find out
        said = _first_bytes(door)
    if said[3:4] == bytes([_SETTINGS]):
        return
    if said.startswith((b"HTTP/", b"<")):
        what = "a web server answers there, and no Ray head"
    elif said:
        what = "something answers there that is no Ray head"
    else:
        what = f"the port is open, but nothing was said within {KNOCK_S:.0f} s"
    raise ClusterError(f"{head}: {what}", hint=f"Is it the head's own port, 6379 unless chosen otherwise? {PAGE}")


def _reached(head: Head) -> socket.socket:
    begun = time.monotonic()
    try:
        return socket.create_connection((head.host, head.port), timeout=KNOCK_S)
    except socket.gaierror as error:
        what, hint = f"the host's name is not known ({error.strerror})", "Give the head's IP address."
    except ConnectionRefusedError:
        what, hint = "nothing listens there", f"Is the head up, and is this its port? {PAGE}"
    except TimeoutError:
        waited = time.monotonic() - begun
        what = f"no answer within {waited:.0f} s"
        hint = f"Is the host up, and does a firewall drop what is sent to port {head.port}? {PAGE}"
    except OSError as error:
        what, hint = f"not reachable: {error.strerror}", "Is this machine in the same network as the head?"
    raise ClusterError(f"{head}: {what}", hint=hint)


def _first_bytes(door: socket.socket) -> bytes:
    """A frame's header (9 bytes), or less if the other side closes or stays silent."""
    said = b""
    with contextlib.suppress(OSError):
        door.sendall(_PREFACE)
        deadline = time.monotonic() + KNOCK_S
        while len(said) < 9 and (left := deadline - time.monotonic()) > 0:
            door.settimeout(left)
            more = door.recv(9 - len(said))
            if not more:
                break
            said += more
    return said
