"""Reads Go files out of a reply, and puts files into one; run where a text may be made to take long (`textwork`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from runners.extract import Extraction, extract_code, extract_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPLY_CHARS = 1_000_000
"""So much of a reply is looked at: a quarter of a million tokens."""


class FilesRead(TypedDict):
    """What a reply holds of the files that were asked for.

    Attributes:
        files: Text by name, of those that are there.
        methods: How each was found, or why it was not (`Extraction.method`).
        truncated: Whether one that was found, or the reasoning before them, has no end.
    """

    files: dict[str, str]
    methods: dict[str, str]
    truncated: bool


def read_files(text: str, names: Sequence[str], marker: str) -> FilesRead:
    """The files called `names` in a reply, each with `marker` in it (`package main`)."""
    names = list(names)
    found: dict[str, Extraction]
    if len(names) == 1:
        one = extract_code(text, language="go", marker=marker, filename=names[0])
        # Whole files are asked for: of one that is named otherwise the last is taken all the same.
        found = {names[0]: one if one.code is not None else extract_code(text, language="go", marker=marker)}
    else:
        found = extract_files(text, language="go", filenames=names, marker=marker)
    return {
        "files": {name: each.code for name, each in found.items() if each.code is not None},
        "methods": {name: each.method for name, each in found.items()},
        "truncated": any(each.truncated for each in found.values()),
    }


def marked(files: Mapping[str, str]) -> str:
    """A reply that hands files over as the prompts ask for it; wraps the sources of specimens."""
    blocks = [f"#START {name}#\n{text.rstrip()}\n#END {name}#\n" for name, text in files.items()]
    return "\n".join(blocks)
