"""What the program of a reply is, by the exam's language and file name; runs in the process of runners.textwork."""

from __future__ import annotations

from typing import TypedDict

from runners.extract import extract_code


class ReplyRead(TypedDict):
    """What a reply holds; see `runners.extract.Extraction`."""

    code: str | None
    method: str
    truncated: bool


def read_reply(text: str, language: str, filename: str) -> ReplyRead:
    """The program in a reply: that of the file asked for where the reply names files, else the best candidate."""
    found = extract_code(text, language=language, filename=filename)
    if found.code is not None and found.method not in {"start_marker", "named_fence"}:
        found = extract_code(text, language=language)
    return {"code": found.code, "method": found.method, "truncated": found.truncated}
