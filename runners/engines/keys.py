"""Keys of endpoints: read on the node from a variable that the spec names, and kept out of everything that is written.

A key is in no settings, so in no plan, order, row or journal. It is an object that shows nothing of itself, and that
cannot be pickled: it stays in the process that read it.
"""

from __future__ import annotations

import os
import re
from typing import Final, NoReturn

from quants.secrets import LEFT_OUT, redacted
from runners.errors import RunnersError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONGEST: Final = 8192
_TELLING: Final = 6
"""Characters from which a text is a key worth looking for; shorter ones are parts of ordinary words."""


class KeyMissingError(RunnersError):
    """The variable that should hold a key does not; the message has its name, and nothing of what it holds."""


class Key:
    """A secret. Only `reveal` gives it away, to whoever sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself."""
        return self._value

    def left_out(self, text: str) -> str:
        """`text` without the key: a server may send back whatever it was sent."""
        return text.replace(self._value, LEFT_OUT) if len(self._value) >= _TELLING else text

    def __repr__(self) -> str:
        return f"Key({LEFT_OUT})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key stays on its node")


def is_variable_name(name: str) -> bool:
    """Whether `name` may be that of a variable; a key that was written in place of its name mostly may not."""
    return _NAME.fullmatch(name) is not None


def why_no_key(name: str | None) -> str | None:
    """Why the key in the variable `name` cannot be used on this node, as a sentence; None if it can."""
    try:
        read_key(name)
    except KeyMissingError as error:
        return f"{error.message}; {error.hint}"
    return None


def read_key(name: str | None) -> Key | None:
    """The key in the variable `name`; None where no variable is named.

    Raises:
        KeyMissingError: the variable is not set, or what it holds can be no key.
    """
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        hint = "set it where the node's own process is started (for a cluster: before `ray start`)"
        raise KeyMissingError(f"the variable {name}, which should hold the key, is not set", hint)
    if len(value) > _LONGEST or not value.isascii() or not value.isprintable() or " " in value:
        raise KeyMissingError(f"what the variable {name} holds is no key: it has blanks or other odd characters")
    return Key(value)


def without_key(text: str, key: Key | None) -> str:
    """`text` as it may be shown: without the key, and without what looks like another one."""
    return redacted(text if key is None else key.left_out(text))
