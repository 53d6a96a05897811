"""Where a program that a model wrote may run: bubblewrap, or namespaces made by ourselves."""

from __future__ import annotations

from runners.sandbox.base import (
    BOX,
    Completed,
    Limits,
    Sandbox,
    SandboxFailed,
    SandboxUnavailable,
    View,
)

__all__ = [
    "BOX",
    "Completed",
    "Limits",
    "Sandbox",
    "SandboxFailed",
    "SandboxUnavailable",
    "View",
    "open_sandbox",
]


def open_sandbox(prefer: str | None = None) -> Sandbox:
    """The best sandbox of this machine, tried by really running in it; cached for the process.

    Args:
        prefer: `bubblewrap` or `namespaces` for that one only; None for the first that works.

    Raises:
        SandboxUnavailable: None works; the hint names the command that mends it.
    """
    from runners.sandbox.choose import choose

    return choose(prefer)
