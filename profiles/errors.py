"""The errors of this room whose text is meant for a person."""

from __future__ import annotations


class ProfilesError(Exception):
    """Something that the user gave about a machine or a card is wrong; the text says what, where and what to do."""


class OverrideError(ProfilesError):
    """The file that says what a probe cannot know about this machine is wrong."""


class UnknownCardError(ProfilesError):
    """The catalogue has no such card; the text names the nearest ones."""
