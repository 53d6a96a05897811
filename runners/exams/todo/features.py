"""The ten features of the todo exam, by rules on the text: one published program does not parse and still has seven.

A rule looks at code and at strings that the code uses. Comments, docstrings and prose show nothing. The published rules
are not known; these give the published programs their published counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .source import Source

# Every pattern here is applied to whatever a model wrote, and none may take more than time in proportion to it. A run
# that another attempt would go through again is possessive or atomic, or `finditer` takes it whole to be looked into.
_SQLITE = re.compile(
    r"\bimport\s+sqlite3\b|\bfrom\s+sqlite3\s+import\b|^(?>[^\n]*?\bimport\b)[^\n]*?\bsqlite3\b", re.MULTILINE
)
_CONNECT = re.compile(r"\bconnect\s*\(")
_SQL_TIME = re.compile(
    r"CURRENT_TIME|CURRENT_DATE|(?:date)?time\(\s*['\"]now['\"]|strftime\(\s*'[^']*'\s*,\s*'now'|\bunixepoch\(",
    re.IGNORECASE,
)
_CODE_TIME = re.compile(
    r"\.(?:now|utcnow|today)\(|\btime\.(?:time|strftime|ctime|asctime|localtime|gmtime)\(|\bstrftime\("
)
_DONE_WORD = r"(?:is_?|date_?)?(?:completed?|completion|done|finished|status|state)(?:_?(?:at|on|date|time))?"
_SQL_TABLE = re.compile(r"\bCREATE\s+TABLE\b(?P<columns>[^;]*+)", re.IGNORECASE)
_SQL_COLUMN = re.compile(rf"\b{_DONE_WORD}\b", re.IGNORECASE)
_SQL_SET = re.compile(rf"\bSET\s+[\"`\[]?{_DONE_WORD}\b", re.IGNORECASE)
_CODE_DONE = re.compile(rf"\b{_DONE_WORD}(?:[\"']\])?\s*(?::\s*\w+\s*)?=[^=]|\b{_DONE_WORD}\s*=\s*\?")
_TRY = re.compile(r"\btry\s*:")
_EXCEPT = re.compile(r"^[^\S\n]*+except\b", re.MULTILINE)
_MAIN = re.compile(r"""\bif\s+__name__\s*==\s*(["'])__main__\1\s*:""")
_CODE_LINE = re.compile(
    r"^[ \t]*+(?:import(?:[ \t]++[\w.,][\w., ]*+|[ \t]+[ ])"
    r"|from[ \t]++[\w.]++[ \t]++import\b[^\n]*+|(?:async[ \t]++)?def[ \t]++\w++[ \t]*+\([^\n]*+)$",
    re.MULTILINE,
)
_FIELD = re.compile(r"\{[^{}\n]*+\}|%[sdi]")
_PRETTY = tuple(
    re.compile(pattern)
    for pattern in (
        r"\{[^{}\n:]*+:[^{}\n]*[<>^]\s*[\d{]",  # columns: {title:<40}
        r"%-?\d++[sd]",  # columns: %-5s
        r"(?:\\033|\\x1b|\\u001b)\[",  # colours
        r"\[[ xX✓✔]\]",  # boxes to tick
        r"[-=_*─═━~#+]{5}",  # rules
        r"[\u2190-\u21ff\u2500-\u2bff\U0001f300-\U0001faff]",  # ticks, boxes, pictures
    )
)
_PRETTY_CODE = re.compile(
    r"\.(?:ljust|rjust|center)\(|\bsep\s*=|\bimport\s+(?:rich|tabulate|prettytable|colorama|texttable)\b|\bfrom\s+rich\b"
)
_REPEATED_RULE = re.compile(r"""(["'])[-=_*─═━~#+. ]{1,4}\1\s*\*\s*\w|\b\w++\s*\*\s*(["'])[-=_*─═━~#+]{1,4}\2""")
# A collection that begins with a word: `choices=["add", ...]`, `in ("add", "a")`, `case ["add", *rest]`; no call.
_CHOICES = re.compile(r"""(?:(?<!\w)|\bin\s?)[\[({]\s*+(?=["']\w)(?P<among>[^\])}]*+)""")
# Whatever follows `case` on its line, but for the prose after the pattern.
_CASE = re.compile(r"^[ \t]*+case\b(?P<among>[^:\n]*+)", re.MULTILINE)


def _sqlite(source: Source) -> bool:
    return bool(_SQLITE.search(source.code) and _CONNECT.search(source.code))


def _registered(name: str) -> re.Pattern[str]:
    """The command's name where code compares or registers it. A quoted word alone is prose."""
    word = rf"""(?:"{name}"|'{name}')"""
    return re.compile(
        rf"=\s*{word}|{word}\s*==|\b(?!(?:print|input)\()\w++\(\s*{word}"
        rf"|{word}\s*:\s*[\w.]++\s*(?:[,}}(]|$)",
        re.IGNORECASE | re.MULTILINE,
    )


_COMMANDS = ("add", "list", "complete", "delete")
_REGISTERED = {name: _registered(name) for name in _COMMANDS}
_QUOTED = {name: re.compile(rf"""(?:"{name}"|'{name}')""", re.IGNORECASE) for name in _COMMANDS}


def _command(name: str) -> Callable[[Source], bool]:
    """A function for the command, or the command's name where code registers it.

    `completed` is not `complete`: names are taken apart at underscores and capitals.
    """

    def present(source: Source) -> bool:
        return bool(
            _REGISTERED[name].search(source.text)
            or any(
                _QUOTED[name].search(source.text, *found.span("among"))
                for pattern in (_CHOICES, _CASE)
                for found in pattern.finditer(source.text)
            )
            or name in source.function_words
        )

    return present


def _timestamp(source: Source) -> bool:
    if any(_SQL_TIME.search(text) for text in source.strings) or _CODE_TIME.search(source.code):
        return True
    return any(_CODE_TIME.search(field) for text in source.strings for field in _FIELD.findall(text))


def _completion(source: Source) -> bool:
    return any(map(_completion_in_sql, source.strings)) or bool(_CODE_DONE.search(source.text))


def _completion_in_sql(text: str) -> bool:
    tables = _SQL_TABLE.finditer(text)
    return any(_SQL_COLUMN.search(text, *table.span("columns")) for table in tables) or bool(_SQL_SET.search(text))


def _errors(source: Source) -> bool:
    return bool(_TRY.search(source.code) and _EXCEPT.search(source.code))


def _main(source: Source) -> bool:
    return bool(_MAIN.search(source.text))


def _pretty(source: Source) -> bool:
    if _PRETTY_CODE.search(source.code) or _REPEATED_RULE.search(source.text):
        return True
    if any(pattern.search(text) for text in source.strings for pattern in _PRETTY):
        return True
    # One line made of several fields, such as f"{id}. {title} ({created})" or "%d. %s (%s)".
    return any(len(_FIELD.findall(text)) > 1 for text in source.strings if "SELECT" not in text.upper())


FEATURES: dict[str, Callable[[Source], bool]] = {
    "sqlite": _sqlite,
    **{name: _command(name) for name in _COMMANDS},
    "timestamp": _timestamp,
    "completion tracking": _completion,
    "error handling": _errors,
    "__main__": _main,
    "pretty output": _pretty,
}


def has_code(source: Source) -> bool:
    """Whether there is a single line of Python in it that no prose has: an import, or the head of a function."""
    return _CODE_LINE.search(source.code) is not None


def features(source: Source) -> dict[str, bool]:
    """Which of the ten features a program shows, in the order of the exam."""
    return {name: rule(source) for name, rule in FEATURES.items()}
