"""The ten features of the todo exam, by rules on the text: one published program does not parse and still has seven.

A rule looks at code and at strings that the code uses. Comments, docstrings and prose show nothing. The published rules
are not known; these give the published programs their published counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runners.exams.todo.source import Source, read_source

if TYPE_CHECKING:
    from collections.abc import Callable

_SQL_TIME = r"CURRENT_TIMESTAMP|CURRENT_DATE|(?:date)?time\(\s*'now'|strftime\(\s*'[^']*'\s*,\s*'now'"
_CODE_TIME = (
    r"\bdatetime\b.*\.(?:now|utcnow|today)\(|\.(?:now|utcnow|today)\(|"
    r"\btime\.(?:time|strftime|ctime|asctime|localtime|gmtime)\("
)
_DONE_WORD = r"(?:is_?)?(?:completed?|done|finished|status)(?:_?at)?"
_SQL_DONE = rf"\bCREATE\s+TABLE\b[^;]*\b{_DONE_WORD}\b|\bSET\s+[\"`\[]?{_DONE_WORD}\b"
_CODE_LINE = re.compile(
    r"^[ \t]*(?:import[ \t]+[\w., ]+|from[ \t]+[\w.]+[ \t]+import\b[^\n]*|(?:async[ \t]+)?def[ \t]+\w+[ \t]*\([^\n]*)$",
    re.MULTILINE,
)
_FIELD = r"\{[^{}\n]+\}"
_PRETTY = (
    r"\{[^{}\n]*:[^{}\n]*[<>^]\s*[\d{]",  # columns: {title:<40}
    r"%-?\d+[sd]",  # columns: %-5s
    r"(?:\\033|\\x1b|\\u001b)\[",  # colours
    r"\[[ xX✓✔]\]",  # boxes to tick
    r"[-=_*─═━~#+]{5,}",  # rules
    r"[\u2190-\u21ff\u2500-\u2bff\U0001f300-\U0001faff]",  # ticks, boxes, pictures
)
_PRETTY_CODE = (
    r"\.(?:ljust|rjust|center)\(|\bimport\s+(?:rich|tabulate|prettytable|colorama|texttable)\b|\bfrom\s+rich\b"
)
_REPEATED_RULE = r"""(["'])[-=_*─═━~#+. ]{1,4}\1\s*\*\s*\w|\b\w+\s*\*\s*(["'])[-=_*─═━~#+]{1,4}\2"""


def _sqlite(source: Source) -> bool:
    imported = re.search(r"\bimport\s+sqlite3\b|\bfrom\s+sqlite3\s+import\b|\bimport\b[^\n]*\bsqlite3\b", source.code)
    return bool(imported and re.search(r"\bconnect\s*\(", source.code))


def _command(name: str) -> Callable[[Source], bool]:
    """A function for the command, or the command's name where code compares or registers it.

    `completed` is not `complete`: names are taken apart at underscores and capitals. A quoted word alone is prose.
    """
    word = rf"""(?:"{name}"|'{name}')"""
    registered = re.compile(
        rf"=\s*{word}|{word}\s*==|\b(?!(?:print|input)\()\w+\(\s*{word}|\bcase\s+{word}|{word}\s*:\s*[\w.]+\s*(?:[,}}(]|$)|"
        rf"\bchoices\s*=\s*[\[({{][^\])}}]*{word}",
        re.IGNORECASE | re.MULTILINE,
    )

    def present(source: Source) -> bool:
        if registered.search(source.text):
            return True
        functions = re.findall(r"\bdef\s+(\w+)", source.code)
        return any(name in re.findall(r"[a-z]+", _apart(function)) for function in functions)

    return present


def _apart(name: str) -> str:
    """`addTodo` and `add_todo` as `add_todo`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _timestamp(source: Source) -> bool:
    in_sql = any(re.search(_SQL_TIME, text, re.IGNORECASE) for text in source.strings)
    return in_sql or bool(re.search(_CODE_TIME, source.code))


def _completion(source: Source) -> bool:
    in_sql = any(re.search(_SQL_DONE, text, re.IGNORECASE) for text in source.strings)
    return in_sql or bool(re.search(rf"\b{_DONE_WORD}\s*(?::\s*\w+\s*)?=[^=]|\b{_DONE_WORD}\s*=\s*\?", source.text))


def _errors(source: Source) -> bool:
    return bool(re.search(r"\btry\s*:", source.code) and re.search(r"^\s*except\b", source.code, re.MULTILINE))


def _main(source: Source) -> bool:
    return bool(re.search(r"""\bif\s+__name__\s*==\s*(["'])__main__\1\s*:""", source.text))


def _pretty(source: Source) -> bool:
    if re.search(_PRETTY_CODE, source.code) or re.search(_REPEATED_RULE, source.text):
        return True
    if any(re.search(pattern, text) for text in source.strings for pattern in _PRETTY):
        return True
    # One line made of several fields, such as f"{id}. {title} ({created})".
    return any(len(re.findall(_FIELD, text)) > 1 for text in source.strings if "SELECT" not in text.upper())


FEATURES: dict[str, Callable[[Source], bool]] = {
    "sqlite": _sqlite,
    "add": _command("add"),
    "list": _command("list"),
    "complete": _command("complete"),
    "delete": _command("delete"),
    "timestamp": _timestamp,
    "completion tracking": _completion,
    "error handling": _errors,
    "__main__": _main,
    "pretty output": _pretty,
}


def has_code(program: str) -> bool:
    """Whether there is a single line of Python in it that no prose has: an import, or the head of a function."""
    return _CODE_LINE.search(read_source(program).code) is not None


def features(program: str) -> dict[str, bool]:
    """Which of the ten features `program` shows, in the order of the exam."""
    source = read_source(program)
    return {name: rule(source) for name, rule in FEATURES.items()}
