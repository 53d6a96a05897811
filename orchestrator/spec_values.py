"""What no value of a spec may hold, under whatever key it stands: zero bytes, and numbers that no setting takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from orchestrator.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.toml_lines import LineIndex

KeyPath: TypeAlias = tuple[str | int, ...]
_MOST_BITS: Final = 64
"""More has no number that anything takes here; a larger one may not even be shown (Python stops at 4,300 digits)."""


def impossible_values(data: dict[str, Any], index: LineIndex) -> Iterator[Problem]:
    """A problem for each value of the parsed file that could never work."""
    waiting: list[tuple[KeyPath, Any]] = [((), data)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, key), item) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [((*path, number), item) for number, item in reversed(list(enumerate(value)))]
        elif isinstance(value, str) and "\0" in value:
            yield Problem(
                "holds a zero byte (\\u0000), which no path and no argument may", key_of(path), index.line(path)
            )
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            yield Problem("is larger than any number that a setting takes", key_of(path), index.line(path))


def key_of(path: KeyPath) -> str | None:
    """`models[1].engine.context`; None for the file itself."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or None
