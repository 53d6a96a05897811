"""Which clusters a sweep joins: one that answers, asks for a token, takes ours, and is of the same versions."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.cluster import address as address_module
from orchestrator.cluster.address import find_head, knock
from orchestrator.cluster.inquiry import examine
from orchestrator.errors import ClusterError
from tests.cluster.heads import TOKEN, RealHead, ray_environment, real_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def refused(address: str, check: Callable[[str], object] = lambda address: examine(find_head(address))) -> str:
    with pytest.raises(ClusterError) as caught:
        check(address)
    assert caught.value.hint
    return str(caught.value)


def command(*arguments: str, **environment: str) -> tuple[str, float]:
    """What a command that has to fail says, and how long it took."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
        env=ray_environment(**environment),
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr, time.monotonic() - begun


# --- what is not the address of a cluster ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "local", "head", "head:", ":6379", "head:0", "head:65536", "head:x", "head:²"])
def test_what_is_no_address_is_said_so(text: str) -> None:
    assert "not the address of a Ray cluster" in refused(text, find_head)


def test_a_ray_client_address_is_not_supported() -> None:
    assert "Ray Client addresses are not supported" in refused("ray://127.0.0.1:10001", find_head)


def test_ipv6_addresses_keep_their_brackets_for_ray() -> None:
    assert find_head("[fd00::1]:6379").host == "fd00::1"
    assert find_head("[fd00::1]:6379").address == "[fd00::1]:6379"


def test_auto_is_the_address_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1234")
    assert find_head("auto").address == "127.0.0.1:1234"
    assert "RAY_ADDRESS=127.0.0.1:1234 (127.0.0.1:1234): nothing listens" in refused(
        "auto", lambda address: knock(find_head(address))
    )
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "says nothing" in refused("auto", find_head)


def test_auto_without_a_node_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(address_module, "_own_clusters", set)
    assert "no Ray node of yours runs on this machine" in refused("auto", find_head)


def test_auto_between_two_clusters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(address_module, "_own_clusters", lambda: {"10.0.0.1:6379", "10.0.0.2:6379"})
    assert "10.0.0.1:6379, 10.0.0.2:6379" in refused("auto", find_head)


@contextlib.contextmanager
def so_called_raylet(head: str, user: int) -> Iterator[None]:
    """A process that looks like a raylet of the cluster at `head`, until its standard input ends."""
    command = ["/usr/bin/raylet", "-c", "read nothing", f"--gcs-address={head}"]
    with subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE, user=user):
        yield


def test_auto_follows_raylets_of_this_user_alone() -> None:
    """Any process may call itself a raylet; who owns it would be sent the cluster's token."""
    with so_called_raylet("192.0.2.7:6379", os.getuid()):
        deadline = time.monotonic() + 10
        while "192.0.2.7:6379" not in address_module._own_clusters():  # it is only just being started
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if os.getuid() == 0:
            with so_called_raylet("192.0.2.8:6379", 65534):
                time.sleep(0.5)
                assert "192.0.2.8:6379" not in address_module._own_clusters()


# --- what answers there instead --------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(answer: bytes | None, backlog: int = 5) -> Iterator[str]:
    """A port that accepts and answers with these bytes, or says nothing for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    door, _ = server.accept()
                    kept.append(door)
                    if answer is not None:
                        door.recv(100)
                        door.sendall(answer)
                        door.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for door in kept:
            door.close()


def knocked(address: str) -> str:
    return refused(address, lambda address: knock(find_head(address)))


def test_a_port_where_nothing_listens() -> None:
    assert "127.0.0.1:1: nothing listens there" in knocked("127.0.0.1:1")


def test_a_host_that_nobody_knows() -> None:
    assert "the host's name is not known" in knocked("no-such-host.invalid:6379")


def test_a_port_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_module, "KNOCK_S", 0.5)
    with listening(None) as address:
        assert f"{address}: the port is open, but nothing was said" in knocked(address)


def test_a_port_that_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(b"") as address:
        assert "nothing was said" in knocked(address)


def test_a_port_of_something_else() -> None:
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as address:
        assert "something answers there that is no Ray head" in knocked(address)


def test_a_web_server() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text, seconds = command("nodes", "--address", f"127.0.0.1:{server.server_port}")
        assert "a web server answers there, and no Ray head" in text
        assert len(text.splitlines()) == 2, text
        assert seconds < 60
        server.shutdown()


def test_a_host_that_swallows_what_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue of connections: the kernel drops further ones without a word, as a firewall does."""
    monkeypatch.setattr(address_module, "KNOCK_S", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(server.getsockname())
        text = knocked(f"127.0.0.1:{server.getsockname()[1]}")
    assert "no answer within" in text
    assert "firewall" in text


# --- real heads ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_head() -> Iterator[RealHead]:
    with real_head(RAY_AUTH_MODE="disabled") as head:
        yield head


@pytest.fixture(scope="module")
def closed_head() -> Iterator[RealHead]:
    with real_head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        yield head


@pytest.mark.long
@pytest.mark.cluster
def test_an_open_cluster_is_refused_by_every_name(open_head: RealHead, monkeypatch: pytest.MonkeyPatch) -> None:
    text, seconds = command("nodes", "--address", open_head.address)
    assert f"{open_head.address}: refused: this cluster asks for no token" in text
    assert len(text.splitlines()) == 2, text
    assert seconds < 60
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert "refused: this cluster asks for no token" in refused("localhost:" + open_head.address.rpartition(":")[2])
    monkeypatch.setattr(address_module, "_own_clusters", lambda: {open_head.address})  # others may run heads here
    assert "refused: this cluster asks for no token" in refused("auto")
    monkeypatch.setenv("RAY_ADDRESS", open_head.address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert "refused: this cluster asks for no token" in refused("auto")


@pytest.mark.long
@pytest.mark.cluster
def test_auto_is_the_cluster_of_our_own_node(open_head: RealHead) -> None:
    assert open_head.address in address_module._own_clusters()


@pytest.mark.long
@pytest.mark.cluster
def test_a_token_that_is_missing_or_wrong_is_said_in_a_sentence(closed_head: RealHead, tmp_path: Path) -> None:
    text, seconds = command("nodes", "--address", closed_head.address, HOME=str(tmp_path))
    assert f"{closed_head.address}: this cluster asks for a token, and there is none here" in text
    assert len(text.splitlines()) == 2, text
    assert seconds < 60
    file = tmp_path / "token"
    file.write_text("f" * 64)
    file.chmod(0o600)
    text, _ = command("nodes", "--address", closed_head.address, RAY_AUTH_TOKEN_PATH=str(file))
    assert f"{closed_head.address}: the token in {file} is not this cluster's" in text


@pytest.mark.long
@pytest.mark.cluster
def test_a_cluster_with_our_token_is_joined(closed_head: RealHead) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "nodes", "--json", "--address", closed_head.address],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
        env=ray_environment(RAY_AUTH_TOKEN=TOKEN),
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1
    (remark,) = [line for line in done.stderr.splitlines() if "memory monitor" in line]
    assert remark.startswith("warning: ")
    assert remark.endswith("start nodes with RAY_memory_monitor_refresh_ms=0")
    assert "other users of that machine can write to Ray's folder" not in done.stderr


@pytest.mark.long
@pytest.mark.cluster
def test_a_cluster_of_another_version_is_refused(closed_head: RealHead, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is told that it is of another version, where every client looks it up."""
    script = (
        "import json, sys\n"
        "from ray._raylet import GcsClient\n"
        "client = GcsClient(address=sys.argv[1], cluster_id=None)\n"
        "known = client.internal_kv_get(b'CLUSTER_METADATA', b'cluster')\n"
        "new = json.dumps(json.loads(known) | json.loads(sys.argv[2])).encode()\n"
        "client.internal_kv_put(b'CLUSTER_METADATA', new, True, b'cluster')\n"
        "print(known.decode())\n"
    )

    def tell(version: str) -> str:
        arguments = [sys.executable, "-c", script, closed_head.address, version]
        done = subprocess.run(
            arguments,
            env=ray_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    real = tell('{"ray_version": "2.51.0"}')
    try:
        assert "the cluster runs Ray 2.51.0, this is Ray" in refused(closed_head.address)
        tell(json.dumps(json.loads(real) | {"python_version": "3.12.1"}))
        assert "the cluster runs Python 3.12.1, this is Python 3.11" in refused(closed_head.address)
    finally:
        tell(real)
