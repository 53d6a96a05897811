"""Refuses arguments of engines that hold a secret: plans, rows and lists of processes would show it to everybody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from quants.secrets import holds_secret
from runners.errors import RunnersError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS: Final = frozenset(
    {"apikey", "auth", "authorization", "bearer", "credential", "hft", "key", "passphrase", "passwd", "password"}
    | {"pwd", "secret", "token"}
)
# What such a flag takes that is no secret itself.
_HARMLESS: Final = re.compile(r"\d{1,9}|true|false|on|off|none", re.IGNORECASE)
_PLACES: Final = frozenset({"file", "path", "dir", "id"})
_FETCHED: Final = "models are fetched by quantsweep itself, with the token of `hf auth login` or HF_TOKEN on the node"
_LOCKED: Final = "quantsweep gives every server a key of its own"
_OTHERWISE: Final = (
    "put it into a file that only you can read, or into a variable that pass_on in machine.toml names, "
    "where the engine can take it from there"
)


class SecretArgumentError(RunnersError):
    """An argument holds a secret; the message names the flag, and not what it holds."""


def flag_of(argument: str) -> str:
    """`--hf-token` for `--hf_token=X`: llama.cpp takes an underscore for a hyphen."""
    name = re.split(r"[=\s]", argument, maxsplit=1)[0]
    return f"{name[:1]}{name[1:].replace('_', '-')}" if name.startswith("-") else ""


def refuse_secrets(arguments: Sequence[str]) -> None:
    """Raise `SecretArgumentError` if one of an engine's arguments is a secret, or a flag that takes one."""
    for number, argument in enumerate(arguments):
        flag = flag_of(argument)
        words = flag.lower().strip("-").split("-")
        rest = re.split(r"[=\s]", argument, maxsplit=1)[1:]
        value = rest[0].strip() if rest else next(iter(arguments[number + 1 : number + 2]), "")
        named = bool(flag) and not _WORDS.isdisjoint(words) and words[-1] not in _PLACES
        if named and value and not _HARMLESS.fullmatch(value):
            raise _refusal(flag, words)
        if holds_secret(argument):
            previous = flag_of(arguments[number - 1]) if number else ""
            raise _refusal(flag or previous or f"argument {number + 1}", words)


def _refusal(flag: str, words: list[str]) -> SecretArgumentError:
    hint = _OTHERWISE
    if {"hf", "hft"} & set(words):
        hint = _FETCHED
    elif words[:2] == ["api", "key"]:
        hint = _LOCKED
    return SecretArgumentError(
        f"{flag} holds a secret, which the plan and every row would show", hint=f"take it out: {hint}"
    )
