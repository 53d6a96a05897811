"""Engines that ask servers which are not ours: every node has them, and what may lack there is the key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from profiles.types import FoundEngine

if TYPE_CHECKING:
    from collections.abc import Iterable


def find_endpoints(asked: Iterable[tuple[str, str | None]]) -> tuple[FoundEngine, ...]:
    """The engines by kind, each with the variable that is to hold its key; of the key itself nothing is kept."""
    return tuple(FoundEngine(kind, named=variable, problem=_lacks(variable)) for kind, variable in asked)


def _lacks(variable: str | None) -> str | None:
    if variable is None or os.environ.get(variable, "").strip():
        return None
    return f"{variable}, which should hold the key, is not set there; set it where the node's own process is started"
