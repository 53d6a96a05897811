"""What the Ray of a node may do to our work, or let others do: lines for the person who started the node."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from orchestrator.cluster.environment import others_can_reach

_MONITOR = "memory_monitor_refresh_ms"


def node_notes() -> tuple[str, ...]:
    """Asked on the node itself, inside an agent, whose environment is its raylet's."""
    return tuple(note for note in (_memory_monitor(), _niceness(), _session_folder()) if note)


def _memory_monitor() -> str | None:
    import ray

    state: Any = ray._private.state.state  # noqa: SLF001 - nothing public says it
    try:
        chosen = state.get_system_config().get(_MONITOR)
    except Exception:  # it is about a warning; the environment says it nearly always
        chosen = None
    if str(os.environ.get(f"RAY_{_MONITOR}", "250") if chosen is None else chosen) == "0":
        return None
    return (
        "Ray's memory monitor is on there and may end agents, and their jobs with them, when memory gets short; "
        f"start nodes with RAY_{_MONITOR}=0"
    )


def _niceness() -> str | None:
    niceness = os.nice(0)
    if niceness <= 0:
        return None
    return (
        f"Ray runs its workers there at niceness {niceness}, so other processes slow the engine down; "
        "start nodes with RAY_worker_niceness=0"
    )


def _session_folder() -> str | None:
    import ray

    node: Any = ray._private.worker._global_node  # noqa: SLF001 - nothing public says where it is
    folder = None if node is None else Path(node.get_session_dir_path())
    try:
        if folder is None or not others_can_reach(folder, stat.S_IWOTH):
            return None
    except OSError:
        return None
    return (
        f"other users of that machine can write to Ray's folder {folder} and through it to your files; start nodes "
        "with --temp-dir inside a folder of mode 700"
    )
