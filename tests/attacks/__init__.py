"""Attacks that are really tried: `python -m tests.attacks` prints what held."""

from __future__ import annotations


class NotHereError(Exception):
    """What an attack is aimed at does not exist on this machine, so it was not tried."""
