"""What an error says of itself, where it may be of somebody else's code: never raises, and never says too much."""

from __future__ import annotations

from typing import Final

_CHARS: Final = 2000


def told(error: BaseException) -> str:
    """The error's type and text, at most some 2,000 characters; its type alone where its text cannot be had."""
    try:
        name = str(type(error).__name__)[:200]
    except BaseException:  # a metaclass may do anything
        name = "an error"
    try:
        text = str.__str__(str(error))[:_CHARS]
    except BaseException:  # its `__str__` is as foreign as what raised it, and may raise what it likes
        return f"{name} (its text cannot be had: its __str__ raises)"
    return f"{name}: {text}" if text else name
