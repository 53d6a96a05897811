"""Every regular expression of the project takes time in proportion to what it is applied to.

The patterns are taken from the modules themselves, so that a new one is held to this too. Each is applied, as its
module applies it, to repetitions of what it knows: its own words, a character of each of its classes, and pairs of
them. Four times the text may take a good four times as long, not sixteen times.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import time
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.exams.todo.reading import judge_lists, read_reply
from tests.test_structure import MODULES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

Apply = Callable[[str], object]
Make = Callable[[int], str]

SLOW = bool(os.environ.get("QUANTSWEEP_SLOW"))
SHORT, LONG = 4_000, 16_000
# Of the short text, only those shapes are looked at more closely that take so long: a linear pattern takes a fifth.
SUSPICIOUS_S = 0.003
# Below this nobody notices; over the long text a quadratic pattern takes ten times as long and more.
NOTICED_S = 0.06
GROWTH = 9
FRAGMENTS = 40 if SLOW else 5
# What a parsed pattern is made of; there is no public name for it.
sre: Any = importlib.import_module("re._constants")
parse: Any = importlib.import_module("re._parser").parse
METHODS = {"fullmatch", "match", "search", "finditer", "findall", "sub", "split"}
# Those that are quadratic alone, and why they are not where they are used.
JUDGED_WITH_THEIR_MODULE = {
    "runners/exams/todo/source.py: _TOKENS": "after a quote that could not open a string, a pattern without it goes on",
}


# Modules with a function that builds patterns for names at the top, where they are found.
BUILT_AT_IMPORT = {
    "runners/engines/llama_log.py",
    "runners/extract.py",
    "runners/exams/todo/features.py",
    "runners/exams/todo/source.py",
}


def patterns_of(module: str) -> dict[str, tuple[re.Pattern[str], set[str]]]:
    """The patterns of a module by name, each with the methods by which the module applies it."""
    used: dict[str, set[str]] = {}
    found: dict[str, tuple[re.Pattern[str], set[str]]] = {}
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            continue
        target = node.func.value
        if isinstance(target, ast.Name) and target.id == "re":
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                written = next((word.value for word in node.keywords if word.arg == "flags"), None)
                flags = eval(ast.unparse(written), {"re": re}) if written is not None else 0
                found[f"line {node.lineno}:{node.col_offset}"] = (
                    re.compile(node.args[0].value, flags),
                    {node.func.attr},
                )
            continue
        for name in re.findall(r"\w+", ast.unparse(target)):
            used.setdefault(name, set()).add(node.func.attr)
    loaded = importlib.import_module(module.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for name, value in vars(loaded).items():
        for label, pattern in _within(name, value, loaded.__name__):
            words = re.findall(r"\w+", label)
            found[label] = (pattern, used.get(words[-1], set()) if "." in label else used.get(words[0], set()))
    return found


def _within(name: str, value: Any, module: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """The patterns in a value: itself, or what it holds."""
    if isinstance(value, re.Pattern):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _within(f"{name}[{key!r}]", item, module)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _within(f"{name}[{index}]", item, module)
    elif type(value).__module__ == module:
        for key, item in getattr(value, "__dict__", {}).items():
            yield from _within(f"{name}.{key}", item, module)


# A pattern is made by a module that imports `re`; the others need not be imported to be looked at.
WITH_PATTERNS = [
    module for module in MODULES if re.search(r"^\s*import re$", (ROOT / module).read_text(), re.MULTILINE)
]
ALL = {
    f"{module}: {name}": found
    for module in WITH_PATTERNS
    if not module.endswith("__main__.py")
    for name, found in patterns_of(module).items()
    if not f"{module}: {name}".startswith(tuple(JUDGED_WITH_THEIR_MODULE))
}


# Patterns that are put together where they are applied: of what.
PUT_TOGETHER = {
    ("runners/exams/todo/listing.py", "re.escape(title)"): "a title of ours",
    ("runners/exams/todo/listing.py", r"f'(?<!\\w){re.escape(title)}(?!\\w)'"): "a title of ours",
}


def functions_in(module: str) -> Iterator[ast.AST]:
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (inner for statement in node.body for inner in ast.walk(statement))


def test_re_is_imported_under_its_own_name() -> None:
    """So that `WITH_PATTERNS` misses none."""
    other = re.compile(r"^\s*(from re import|import re as|import .*\bre\b.*,|import .*, *re\b)", re.MULTILINE)
    assert not [module for module in MODULES if other.search((ROOT / module).read_text())]


@pytest.mark.parametrize("module", WITH_PATTERNS)
def test_no_pattern_escapes_this(module: str) -> None:
    """A pattern stands at the top of its module, or is written out where it is applied; then it is in `ALL`."""
    for node in functions_in(module):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re"):
            continue
        if node.func.attr in METHODS and not isinstance(node.args[0], ast.Constant):
            assert (module, ast.unparse(node.args[0])) in PUT_TOGETHER
        if node.func.attr == "compile" and module not in BUILT_AT_IMPORT:
            assert (module, ast.unparse(node.args[0])) in PUT_TOGETHER


def fragments_of(pattern: re.Pattern[str]) -> list[str]:
    """What a pattern knows: its words, and a character of each class; then what many patterns stumble over."""
    words: dict[str, None] = {}
    characters: dict[str, None] = {}

    def walk(parsed: Any) -> None:
        word = ""
        for operation, argument in [*parsed, (None, None)]:
            if operation is sre.LITERAL:
                word += chr(argument)
                continue
            if word:
                words[word] = None
                word = ""
            if operation is sre.NOT_LITERAL:
                characters[chr(argument)] = None
            elif operation is sre.IN:
                for kind, value in argument:
                    characters.update(dict.fromkeys(_members(kind, value)))
            elif operation in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
                walk(argument[2])
            elif operation in {sre.SUBPATTERN, sre.ASSERT, sre.ASSERT_NOT}:
                walk(argument[-1])
            elif operation is sre.ATOMIC_GROUP:
                walk(argument)
            elif operation is sre.BRANCH:
                for branch in argument[1]:
                    walk(branch)

    walk(parse(pattern.pattern, pattern.flags))
    longest = sorted(words, key=len, reverse=True)
    known = [*longest[: FRAGMENTS // 2], *characters]
    return list(dict.fromkeys([*known[:FRAGMENTS], "a", " ", "1", "\n", "-", "\\"]))


def _members(kind: Any, value: Any) -> str:
    if kind is sre.LITERAL:
        return chr(value)
    if kind is sre.RANGE:
        return chr(value[0])
    return {sre.CATEGORY_SPACE: " \n", sre.CATEGORY_DIGIT: "1", sre.CATEGORY_WORD: "a"}.get(value, "a -")


def appliers_of(pattern: re.Pattern[str], methods: set[str]) -> list[Apply]:
    """The ways in which the module applies the pattern; where that cannot be seen, all of them."""
    found: list[Apply] = []
    if not methods or methods & {"finditer", "findall", "sub", "split"}:
        found.append(lambda text: sum(1 for _ in pattern.finditer(text)))
    elif "search" in methods:
        found.append(pattern.search)
    if not methods or "match" in methods:
        found.append(pattern.match)
    if not methods or "fullmatch" in methods:
        found.append(pattern.fullmatch)
    return found


def repeated(fragment: str, before: str = "", behind: str = "") -> Make:
    """Texts of about any length that repeat `fragment`."""

    def make(length: int) -> str:
        return f"{before}{fragment * (length // len(fragment))}{behind}"

    return make


def shapes_of(fragments: list[str]) -> Iterator[tuple[str, Make]]:
    """Repetitions of each fragment and of each pair, alone, behind another fragment, and before one, of any length."""
    for one, other in product(fragments, fragments):
        if one == other:
            yield f"{one!r} repeated", repeated(one)
        else:
            yield f"{one!r} {other!r} repeated", repeated(one + other)
            yield f"{other!r}, {one!r} repeated, a sign", repeated(one, other, "\0")
            yield f"{one!r} repeated, {other!r}", repeated(one, "", other)


def cpu_s(action: Apply, text: str) -> float:
    """CPU seconds of this process; what others do on the machine does not count."""
    start = time.process_time()
    action(text)
    return time.process_time() - start


def too_slow(action: Apply, make: Make, *, suspicious_s: float = SUSPICIOUS_S) -> str:
    """What is wrong with the time that `action` takes, in words; empty where nothing is."""
    short = make(SHORT)
    if cpu_s(action, short) < suspicious_s:
        return ""
    short_s = min(cpu_s(action, short) for _ in range(3))
    if short_s < suspicious_s:
        return ""
    long = make(LONG)
    long_s = min(cpu_s(action, long) for _ in range(2))
    if long_s < NOTICED_S or long_s < GROWTH * short_s:
        return ""
    return f"{long_s:.2f} s for {LONG:,} characters, {short_s:.3f} s for {SHORT:,}"


@pytest.mark.parametrize("name", ALL)
def test_pattern_is_linear(name: str) -> None:
    pattern, methods = ALL[name]
    for action in appliers_of(pattern, methods):
        for label, make in shapes_of(fragments_of(pattern)):
            why = too_slow(action, make)
            assert not why, f"{name} ({pattern.pattern[:80]!r}) on {label}: {why}"


def test_a_quadratic_pattern_is_found() -> None:
    pattern = re.compile(r"^\s*except\b", re.MULTILINE)
    assert "\n" in fragments_of(pattern)
    assert too_slow(pattern.search, repeated("\n"))


# What has held a node up for seconds, and more of the kind.
FRAGMENTS_OF_REPLIES = [
    *("-", "import ", "import\t", "from a import ", "{::::", "{:<", "{a}", "<think>", "</think>", "<think></think>"),
    *("<think>\n</think>\n", "[THINK][/THINK] ", "<thinking></thinking>", "\n", " \n", "```\n", "```", "~~~ ", "`"),
    *("```a.py\n", "```\r", "#START a.py#\n", "#END#\n", "# ", "##", "'\\'", '"\\"', "\\'", '"""', "'''a", "'a'\n"),
    *(
        "choices=[",
        "choices = ('add', ",
        "CREATE TABLE ",
        "SET ",
        "datetime ",
        "time.",
        "def a(\n",
        "def f",
        "x.",
        "a b",
    ),
    *(
        "done:",
        "done = ",
        "status : a ",
        "(",
        "[",
        "{",
        "=",
        "\\\n",
        "\u00e9",
        "\x0b",
        "\r",
        "\t",
        "if __name__ ==",
        "try ",
    ),
    *("except", "[ ]", "%1", "\\x1b", "*", '"-" ', "a * ", "case ", '"add" ', '"add":a ', "strftime('", "sqlite3 "),
]
BEFORE = [
    "",
    "import sqlite3\n",
    "```python\nimport sqlite3\n",
    'import sqlite3\nx = "',
    "import sqlite3\nx = '''",
    "<think>",
]
BEHIND = ["", "\\", '"', "\n```", "\0", "</think>\nimport os"]
FRAGMENTS_OF_LISTS = [
    *(
        "jan",
        "JAN ",
        "12 jan",
        "1",
        "1 ",
        "2026-01-01",
        "2026-01-01T",
        "10:00 ",
        "10:00:00.1",
        "1700000000.",
        "an ",
        "1 s ",
    ),
    *(
        "1 hour ",
        "id ",
        "id: 1 ",
        "#",
        "# 1",
        "[",
        "( ",
        "a",
        "abc123",
        "-",
        "─",
        "=",
        " ",
        "\n",
        "\n ",
        "\x1b[",
        "\x1b[1;",
    ),
    *(
        "Buy apples",
        "Buy apples\n",
        "\nBuy apples",
        "Wash fence 1\n",
        "_",
        "|",
        "\t",
        "\r",
        "%",
        "/",
        ".",
        ",",
        "just now",
    ),
]
TITLES = ["Buy apples", "Wash fence"]


def judge_one(output: str) -> object:
    return judge_lists(TITLES, [f"1. Buy apples\n2. Wash fence\n{output}"] * 3)


@pytest.mark.parametrize("before", BEFORE if SLOW else BEFORE[1:5:2])
def test_reading_a_reply_is_linear(before: str) -> None:
    for fragment, behind in product(FRAGMENTS_OF_REPLIES, BEHIND if SLOW else BEHIND[:1]):
        why = too_slow(read_reply, repeated(fragment, before, behind), suspicious_s=0.02)
        assert not why, f"{before!r}, {fragment!r} repeated, {behind!r}: {why}"


def test_reading_a_list_is_linear() -> None:
    for fragment in FRAGMENTS_OF_LISTS:
        why = too_slow(judge_one, repeated(fragment), suspicious_s=0.05)
        assert not why, f"{fragment!r} repeated: {why}"


@given(
    st.sampled_from(BEFORE),
    st.lists(st.sampled_from(FRAGMENTS_OF_REPLIES) | st.text(max_size=3), min_size=1, max_size=4).map("".join),
    st.sampled_from(BEHIND),
)
@settings(max_examples=2_000 if SLOW else 40, deadline=None)
def test_any_repetition_is_read_in_linear_time(before: str, fragment: str, behind: str) -> None:
    why = too_slow(read_reply, repeated(fragment or "a", before, behind), suspicious_s=0.02)
    assert not why, f"{before!r}, {fragment!r} repeated, {behind!r}: {why}"
