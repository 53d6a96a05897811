"""Reads the results of tests out of what a command printed; runs in the process of runners.textwork.

TAP (https://testanything.org/tap-version-14-specification.html): `ok 1 - name`, `not ok 2 - name`; what is skipped or
to be done has not passed. JSON lines: `{"test": "name", "passed": true}`. Every other line is passed over.
"""

from __future__ import annotations

import json
import re

_TAP = re.compile(r"(?P<no>not )?ok(?:[ \t]++[0-9]{1,9})?+(?:[ \t]++-)?+(?:[ \t]++(?P<rest>[^\n]*+))?+")
_DIRECTIVE = re.compile(r"(?:skip|todo)", re.IGNORECASE)
_MOST_LINES = 20_000
_LINE_CHARS = 1000


def read_results(output: str, form: str, word: str) -> list[tuple[str, bool]]:
    """Name and whether it passed, in the order in which they were printed.

    Args:
        output: What the command printed.
        form: `tap` or `jsonl`.
        word: A result counts only with it: behind a `#` at the end of a line of TAP, as `word` of an object of JSON;
            empty where none is needed.
    """
    read = _tap if form == "tap" else _json
    found = (read(line.rstrip("\r")[:_LINE_CHARS], word) for line in output.split("\n", _MOST_LINES)[:_MOST_LINES])
    return [each for each in found if each is not None]


def ends_with_word(output: str, word: str) -> bool:
    """Whether the last line that is not blank is `word`."""
    return output.rstrip().rpartition("\n")[2].strip() == word


def _tap(line: str, word: str) -> tuple[str, bool] | None:
    found = _TAP.fullmatch(line)
    if found is None:
        return None
    name, _, remark = (found["rest"] or "").partition("#")
    remark = remark.strip()
    if word:
        said, _, last = remark.rpartition("#") if "#" in remark else ("", "", remark)
        if last.strip() != word:
            return None
        remark = said.strip()
    return name.strip(), found["no"] is None and _DIRECTIVE.match(remark) is None


def _json(line: str, word: str) -> tuple[str, bool] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("test"), str) or (word and found.get("word") != word):
        return None
    return found["test"].strip(), found.get("passed") is True
