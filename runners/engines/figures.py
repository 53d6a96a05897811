"""Numbers that a server said, none of which need be one: a sound one, or None.

JSON as Python reads it knows Infinity, NaN, 1e999 and integers of thousands of digits; each breaks the arithmetic that
it meets, somewhere else and with an error that names nobody.
"""

from __future__ import annotations

import math

MOST_TOKENS = 1 << 30
"""More than any context or any reply of a day: what is counted in tokens and lies above it is no count."""
_MOST_MS = 1e12
_SHOWN_CHARS = 40


def count(value: object) -> int | None:
    """A number of tokens; None for all that is none: fractions, negative, endless and huge ones, true, texts."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def milliseconds(value: object) -> float | None:
    """A time of at most some thirty years; None for all that is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST_MS:
        return None
    return float(value)


def shown(value: object) -> str:
    """What stood where a number should be, short and in ASCII."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, str):
        text = repr(value[:_SHOWN_CHARS])
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        text = f"a number of {value.bit_length()} bits"
    elif isinstance(value, bool | int | float):
        text = str(value)
    else:
        text = "a list" if isinstance(value, list) else "an object"
    return text.encode("ascii", "backslashreplace").decode()[:_SHOWN_CHARS]
