"""What Ray reads from the environment, and the token it authenticates with: both are settled before it is imported."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from orchestrator.cluster.janitor import MARK
from orchestrator.errors import ClusterError

DRIVER_PATIENCE_S = 300
"""Ray ends a process, without a word to it, that has not reached the head for 60 s; `membership.py` decides for us."""
_RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - idem


def prepare_for_own_cluster(folder: Path) -> None:
    """For a cluster of this machine that we start: a token of its own, loopback only, nothing that ends our agents.

    `folder` is its session's, by which its processes are known when their driver was killed.
    """
    _prepare_for_any()
    os.environ[MARK] = str(folder)
    os.environ[_TOKEN] = secrets.token_hex(32)
    os.environ.pop(_TOKEN_PATH, None)
    _stay_on_loopback()
    # It would end our agents under memory pressure; what a job may take is the sandbox's and the engine's to limit.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # Ray's default is 15: engines and graders would give way to everything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    for name, value in (("period_ms", 500), ("timeout_ms", 2000), ("failure_threshold", 4)):
        os.environ.setdefault(f"RAY_health_check_{name}", str(value))


def prepare_to_join(*, loopback: bool) -> None:
    """For a cluster that somebody started, on this machine alone perhaps: our token goes with every call."""
    _prepare_for_any()
    if loopback:
        _stay_on_loopback()


def _stay_on_loopback() -> None:
    """Ray replaces 127.0.0.1 by the machine's own address, and then listens everywhere, where clusters are allowed.

    On Windows and macOS they are not unless this is set to 1; on Linux they are unless it is set to 0.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def _prepare_for_any() -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ[_RECONNECT] = str(DRIVER_PATIENCE_S)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's C++ code writes its warnings past Python, to the terminal; what matters of them is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Without this Ray hides the GPUs from an actor that asks it for none; placement is ours.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # We say ourselves what to join or start; this would make Ray join a cluster that nobody asked for.
    os.environ.pop("RAY_ADDRESS", None)


def token_source() -> str | None:
    """Where Ray will find its token, in words; None if there is none.

    Raises:
        ClusterError: the file cannot be read, or other users of this machine can read it.
    """
    if os.environ.get(_TOKEN):
        return f"in {_TOKEN}"
    named = os.environ.get(_TOKEN_PATH)
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if named is None:
            return None
        raise ClusterError(f"{path}: the token's file, named by {_TOKEN_PATH}, is not there") from None
    except OSError as error:
        raise ClusterError(f"{path}: the token cannot be read: {error.strerror}") from None
    if others_can_reach(path, stat.S_IRGRP | stat.S_IROTH):
        raise ClusterError(
            f"{path}: other users of this machine can read the token, and with it run programs as you",
            hint=f"chmod 600 {path}",
        )
    return f"in {path}" if text.strip() else None


def others_can_reach(path: Path, bits: int) -> bool:
    """Whether `path` has one of the permission `bits` and every folder above lets others through.

    Raises:
        OSError: it is not there.
    """
    path = path.resolve(strict=True)
    through = (stat.S_IXGRP if bits & stat.S_IRWXG else 0) | (stat.S_IXOTH if bits & stat.S_IRWXO else 0)
    return bool(path.stat().st_mode & bits) and all(folder.stat().st_mode & through for folder in path.parents)
