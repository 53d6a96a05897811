"""Other users of the machine and of its network: can they have us join an open cluster, learn a token, or use our own?

Real Ray heads, open and with a token, and real clusters of our own. What another user would do is done as `nobody`,
which only root can; an ordinary user tries the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from orchestrator.cluster.address import _own_clusters
from orchestrator.cluster.session import PREFIX, session_folder
from tests.attacks.attack import Attack
from tests.cluster.heads import TOKEN, ray_environment, real_head

if TYPE_CHECKING:
    from collections.abc import Iterator

CATEGORY = "cluster"
NOBODY = 65534
ROOT = Path(__file__).parent.parent.parent

_OWN = """
import json, sys
from orchestrator.cluster import connect
with connect(None) as cluster:
    import ray
    node = ray._private.worker._global_node
    ray.get(cluster.start_agent(cluster.nodes()[0], "attacked").hello.remote(), timeout=120)
    print(json.dumps({"gcs": node.gcs_address, "folder": node.get_session_dir_path()}), flush=True)
    sys.stdin.read()
"""
_UNTOLD = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1], cluster_id=None)
print(client.get_all_node_info(timeout=5))
"""
_NEIGHBOUR = """
import os, socket, sys
from pathlib import Path
folder, done = Path(sys.argv[1]), []
def attempt(what, call):
    try:
        call()
        done.append(what)
    except OSError:
        pass
attempt("listed it", lambda: list(folder.iterdir()))
attempt("put a link into its logs", lambda: (folder / "logs" / "worker-x.out").symlink_to("/etc/passwd"))
attempt("moved its logs away", lambda: (folder / "logs").rename(folder / "gone"))
for name in ("raylet", "plasma_store"):
    attempt(f"reached its {name}", lambda: socket.socket(socket.AF_UNIX).connect(str(folder / "sockets" / name)))
print("; ".join(done))
"""


def _command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
        env=ray_environment(**environment),
    )


def _used(done: subprocess.CompletedProcess[str], why: str) -> str | None:
    """What is wrong, unless the command ended with a sentence that says `why`."""
    if done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr:
        return None
    return f"it was not refused: exit code {done.returncode}, {done.stderr.strip() or done.stdout.strip()}"


def _open_head(_folder: Path) -> str | None:
    with real_head(RAY_AUTH_MODE="disabled") as head:
        return (
            _used(_command("nodes", "--address", head.address), "asks for no token")
            or _used(_command("nodes", "--address", "auto", RAY_ADDRESS=head.address), "asks for no token")
            or _used(
                _command("nodes", "--address", head.address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN),
                "asks for no token",
            )
        )


def _sweep_on_an_open_head(folder: Path) -> str | None:
    with real_head(RAY_AUTH_MODE="disabled") as head:
        done = _command("run", "quickstart", "--address", head.address, "--out", str(folder / "run"))
        if list(folder.glob("run/attempts/*")):
            return "a job was run there"
        return _used(done, "asks for no token")


def _wrong_token(_folder: Path) -> str | None:
    with real_head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        done = _command("nodes", "--address", head.address, RAY_AUTH_TOKEN="f" * 64)
        return _used(done, "is not this cluster's")


def _readable_token(folder: Path) -> str | None:
    token = Path(tempfile.mkdtemp(prefix="qst-")) / "token"
    try:
        token.parent.chmod(0o755)
        token.write_text(TOKEN)
        token.chmod(0o644)
        with _listener() as (address, _heard):
            done = _command("nodes", "--address", address, RAY_AUTH_TOKEN_PATH=str(token))
        return _used(done, "other users of this machine can read the token")
    finally:
        shutil.rmtree(token.parent)


@contextlib.contextmanager
def _listener() -> Iterator[tuple[str, list[bytes]]]:
    """Something that answers like a Ray head's first bytes, and keeps what it is told."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    door, _ = server.accept()
                    with door, contextlib.suppress(OSError):
                        door.settimeout(5)
                        door.sendall(bytes(3) + b"\x04" + bytes(5))
                        while more := door.recv(10_000):
                            heard.append(more)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        thread.join()


def _address_file(folder: Path) -> str | None:
    """Ray's own `auto` believes a file in a folder that everybody may write to."""
    with _listener() as (address, heard):
        (folder / "ray").mkdir()
        (folder / "ray" / "ray_current_cluster").write_text(address)
        (folder / "ray").chmod(0o777)
        _command("nodes", "--address", "auto", RAY_TMPDIR=str(folder), RAY_AUTH_TOKEN=TOKEN)
        return "it was followed" if heard else None


def _false_raylet(_folder: Path) -> str | None:
    """Ray's own `auto` believes every process that looks like a raylet, whoever's it is."""
    command = ["/usr/bin/raylet", "-c", "echo up; read nothing", "--gcs-address=192.0.2.99:6379"]
    with subprocess.Popen(
        command, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return "it was followed" if "192.0.2.99:6379" in _own_clusters() else None


@contextlib.contextmanager
def _own_cluster() -> Iterator[dict[str, str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _OWN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=ray_environment(),
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield said | {"pid": str(process.pid)}


def _our_own_without_its_token(_folder: Path) -> str | None:
    with _own_cluster() as own:
        for environment in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}):
            done = subprocess.run(
                [sys.executable, "-c", _UNTOLD, own["gcs"]],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=120,
                check=False,
                env=ray_environment(**environment),
            )
            if done.returncode == 0 or "InvalidAuthToken" not in done.stderr:
                return f"its nodes were told: {done.stdout}{done.stderr[-300:]}"
    return None


def _our_own_from_the_network(_folder: Path) -> str | None:
    addresses = [
        each.address
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family == socket.AF_INET and not each.address.startswith("127.")
    ]
    with _own_cluster() as own:
        family = psutil.Process(int(own["pid"]))
        ports = {
            each.laddr
            for process in (family, *family.children(recursive=True))
            for each in process.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        }
        if not ports:
            return "nothing was found to attack"
        open_ports = [port for ip, port in ports if not ip.removeprefix("::ffff:").startswith("127.")]
        for address in addresses:
            for _, port in ports:
                with contextlib.suppress(OSError):
                    socket.create_connection((address, port), timeout=2).close()
                    open_ports.append(port)
        return f"ports {sorted(set(open_ports))} answer" if open_ports else None


def _neighbour_in_our_folder(_folder: Path) -> str | None:
    with _own_cluster() as own:
        # The interpreter of an environment in somebody's home is out of nobody's reach.
        done = subprocess.run(
            [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", _NEIGHBOUR, own["folder"]],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        if done.returncode:
            return f"the attack could not be tried: {done.stderr[-300:]}"
        return f"another user {done.stdout.strip()}" if done.stdout.strip() else None


@contextlib.contextmanager
def _base(mode: int) -> Iterator[Path]:
    """A short folder for temporary files, as TMPDIR."""
    base, before = Path(tempfile.mkdtemp(prefix="qst-", dir="/tmp")), os.environ.get("TMPDIR")
    base.chmod(mode)
    os.environ["TMPDIR"] = str(base)
    try:
        yield base
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        shutil.rmtree(base)


def _link_of_our_name(folder: Path) -> str | None:
    """What is taken for the folder of a dead driver is removed: a link to another folder of ours must not be."""
    precious = folder / "precious"
    precious.mkdir(mode=0o700)
    (precious / "r").mkdir()
    with _base(0o1777) as base:
        (base / f"{PREFIX}aaaaaaaa").symlink_to(precious)
        with session_folder():
            pass
    return None if (precious / "r").exists() else "what a link led to was removed"


def _folder_where_all_may_rename(_folder: Path) -> str | None:
    """Without the sticky bit, another user may put a folder of theirs in the place of ours."""
    with _base(0o777) as base, session_folder() as ours:
        if base in ours.parents:
            return f"Ray's session was put into {base}, where others may rename it"
        for each in ours.parents:
            found = each.stat()
            if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                return f"{each} above it may be written by everybody"
    return None


def _folder_of_another_user(_folder: Path) -> str | None:
    """One of our name that another user made, in a place that we use: neither used, nor removed."""
    with _base(0o1777) as base:
        theirs = base / f"{PREFIX}bbbbbbbb"
        theirs.mkdir(mode=0o700)
        os.chown(theirs, NOBODY, NOBODY)
        with session_folder() as ours:
            if ours.stat().st_uid != os.getuid() or theirs in ours.parents:
                return "it was used"
        return None if theirs.exists() else "it was removed"


ATTACKS = [
    Attack(CATEGORY, "an open head, by address, by RAY_ADDRESS, with a token of ours", _open_head),
    Attack(CATEGORY, "a sweep on an open head", _sweep_on_an_open_head),
    Attack(CATEGORY, "a token that is not the cluster's", _wrong_token),
    Attack(CATEGORY, "a token that other users can read", _readable_token),
    Attack(CATEGORY, "a file of everybody's that says where the cluster is", _address_file),
    Attack(CATEGORY, "our own cluster, asked without its token", _our_own_without_its_token),
    Attack(CATEGORY, "our own cluster, from the network", _our_own_from_the_network),
    Attack(CATEGORY, "a link in the place of a session's folder", _link_of_our_name),
    Attack(CATEGORY, "a folder for temporary files where everybody may rename", _folder_where_all_may_rename),
]
if os.getuid() == 0:
    ATTACKS += [
        Attack(CATEGORY, "a process of another user that says it is a raylet", _false_raylet),
        Attack(CATEGORY, "another user in the session's folder", _neighbour_in_our_folder),
        Attack(CATEGORY, "a session's folder made by another user", _folder_of_another_user),
    ]
