"""Clears away what agents that were killed left on this node; each new agent does, before anything else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from runners.process import clear_logs, reap_orphans
from runners.sandbox.scratch import collect
from runners.sandbox.stragglers import end_stragglers
from runners.spool import clear_forgotten, state_dir

if TYPE_CHECKING:
    from collections.abc import Callable


def clear_leftovers() -> None:
    """Ends engines and sandboxes without an owner; removes their logs, scratch folders, and rows long forgotten.

    What other agents of this machine use is left alone. What cannot be cleared stays, and keeps nobody from working.
    """
    logs = state_dir() / "logs"
    steps: tuple[Callable[[], object], ...] = (
        lambda: reap_orphans(logs),
        end_stragglers,
        lambda: clear_logs(logs),
        collect,
        clear_forgotten,
    )
    for step in steps:
        with contextlib.suppress(OSError):
            step()
