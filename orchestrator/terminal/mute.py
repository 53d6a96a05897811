"""Keeps from the terminal what C and C++ libraries write past Python, straight to descriptor 2."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Descriptor 2 leads nowhere meanwhile, for the whole process: for calls during which nothing of ours is said."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: nothing written there arrives anyway
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
