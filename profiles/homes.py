"""Paths that begin with `~`: what a person wrote, with the home folder that it names in place of it."""

from __future__ import annotations

from pathlib import Path

from profiles.errors import ProfilesError


class UnknownHomeError(ProfilesError):
    """A path begins with the home folder of a user that this machine does not know."""


def expanded(text: str) -> Path:
    """`text` as a path, `~` and `~user` replaced; `UnknownHomeError` where this machine knows no such folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        name = text.partition("/")[0]
        raise UnknownHomeError(f"{text}: this machine knows no home folder {name}; give the whole path") from None
