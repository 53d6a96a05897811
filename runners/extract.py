"""Takes the program out of a reply, says how it was found, and never repairs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIXES = {
    "python": (".py",),
    "go": (".go",),
    "html": (".html", ".htm"),
    "javascript": (".js", ".mjs", ".cjs"),
    "c": (".c", ".h"),
    "rust": (".rs",),
}
_LABELS = {
    "python": {"python", "py", "python3", "py3"},
    "go": {"go", "golang"},
    "html": {"html", "htm", "html5"},
    "javascript": {"javascript", "js"},
    "c": {"c"},
    "rust": {"rust", "rs"},
}
_REASONING = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<ticks>`{3,}|~{3,})(?P<info>[^\r\n]*)")
_START = re.compile(r"[ \t]*#+[ \t]*START[ \t]+(?P<name>[^\s#]+)[ \t]*#+[ \t]*")
_END = re.compile(r"[ \t]*#+[ \t]*END\b[^\r\n]*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_PATH = re.compile(r"[\w./+-]*[\w+-]\.[A-Za-z][A-Za-z0-9]{0,4}")


@dataclass(frozen=True)
class Extraction:
    """What a reply holds.

    Attributes:
        code: The program as the model wrote it, or None where the reply holds none.
        method: How it was found: `start_marker`, `named_fence`, `language_fence`, `fence`, `open_fence` or
            `whole_reply`; or why there is none: `empty`, `unclosed_think`, `no_candidate`.
        truncated: The program, or the reasoning that should have preceded it, has no end.
        filename: The file that the reply names for it, where it names one.
        reasoning_chars: Characters of reasoning that were set aside.
    """

    code: str | None
    method: str
    truncated: bool = False
    filename: str | None = None
    reasoning_chars: int = 0


@dataclass(frozen=True)
class _Block:
    """One fenced or marked part of a reply; `label` is the fence's first word, in lower case."""

    code: str
    label: str
    path: str | None
    closed: bool


def extract_code(reply: str, *, language: str, marker: str | None = None, filename: str | None = None) -> Extraction:
    """Find the program in `reply`.

    Reasoning goes first. Then the first kind of candidate counts of which one holds `marker`, and of that kind the
    last: text between `#START file#` markers, fences labelled with a path, fences labelled with the language, other
    fences (those without a label before those with), a fence that is never closed, the whole reply without the white
    space around it.

    Args:
        reply: The answer, as the engine gave it.
        language: The language asked for, `python` for example.
        marker: Text that the program must hold (`package main`), or None for any.
        filename: The file wanted, where a reply may hold several; a path's last part decides.
    """
    answer, reasoning_chars = _without_reasoning(reply)
    if answer is None:
        return Extraction(None, "unclosed_think", truncated=True, reasoning_chars=reasoning_chars)
    if not answer.strip():
        return Extraction(None, "empty", reasoning_chars=reasoning_chars)
    for method, block in _candidates(answer, language, filename):
        if block.code.strip() and (marker is None or marker in block.code):
            return Extraction(block.code, method, not block.closed, block.path, reasoning_chars)
    return Extraction(None, "no_candidate", reasoning_chars=reasoning_chars)


def _candidates(answer: str, language: str, filename: str | None) -> Iterator[tuple[str, _Block]]:
    """Every candidate, best first: kind by kind, the last of a kind before those above it."""
    marked = [block for block in _marked(answer) if _is_wanted(block.path, language, filename)]
    fenced = list(_fences(answer))
    closed = [block for block in fenced if block.closed]
    labels = _LABELS.get(language, {language})
    kinds = (
        ("start_marker", marked),
        ("named_fence", [b for b in closed if b.path is not None and _is_wanted(b.path, language, filename)]),
        ("language_fence", [b for b in closed if b.label in labels]),
        ("fence", [b for b in closed if not b.label]),
        ("fence", closed),
        ("open_fence", [b for b in fenced if not b.closed]),
        ("whole_reply", [_Block(answer.strip(), "", None, closed=True)]),
    )
    for method, blocks in kinds:
        for block in reversed(blocks):
            yield method, block


def _is_wanted(path: str | None, language: str, filename: str | None) -> bool:
    """Whether a file of that name can be the program asked for."""
    if path is None:
        return False
    name = path.rsplit("/", 1)[-1]
    if filename is not None:
        return name == filename.rsplit("/", 1)[-1]
    suffixes = _SUFFIXES.get(language)
    return suffixes is None or name.lower().endswith(suffixes)


def _lines(text: str) -> list[str]:
    """The lines with their ends; unlike `splitlines`, a form feed inside a program ends none."""
    return _LINE.findall(text)


def _marked(answer: str) -> Iterator[_Block]:
    """Text after each `#START file#` line, up to `#END`, the next marker or the end.

    Inside a fence the fence's end ends it too, so that the closing backticks are not part of the program; a fence
    between the markers is taken off.
    """
    path: str | None = None
    inside: list[str] = []
    fence = ""
    for line in [*_lines(answer), ""]:
        bare = line.rstrip("\r\n")
        start = _START.fullmatch(bare)
        ends = not line or start or _END.fullmatch(bare) or (fence and _closes(bare, fence))
        if path is not None and ends:
            text = "".join(inside)
            fenced = list(_fences(text))
            yield _Block(fenced[-1].code if fenced else text, "", path, closed=bool(line))
            path = None
        if start:
            path, inside = start["name"], []
        elif path is not None:
            inside.append(line)
        fence = _fence_after(bare, fence)


def _fences(answer: str) -> Iterator[_Block]:
    """Every fenced block, by CommonMark's rules but for the indentation, which may be any."""
    opened: re.Match[str] | None = None
    inside: list[str] = []
    for line in _lines(answer):
        bare = line.rstrip("\r\n")
        if opened is None:
            opened = _opens(bare)
            inside = []
        elif _closes(bare, opened["ticks"]):
            yield _block(opened, inside, closed=True)
            opened = None
        else:
            inside.append(_unindented(line, opened["indent"]))
    if opened is not None:
        yield _block(opened, inside, closed=False)


def _block(opened: re.Match[str], inside: list[str], *, closed: bool) -> _Block:
    info = opened["info"].strip().strip("{}")
    words = re.split(r"[\s:,]+", info)
    label = words[0].lower().lstrip(".")
    named = _PATH.search(info)
    return _Block("".join(inside), label, named[0] if named else None, closed)


def _unindented(line: str, indent: str) -> str:
    """`line` without the indentation that its fence has (CommonMark 0.31, section 4.5)."""
    kept = line.lstrip(" \t")
    return line[min(len(indent), len(line) - len(kept)) :]


def _opens(bare: str) -> re.Match[str] | None:
    match = _FENCE.fullmatch(bare)
    if match is None or (match["ticks"][0] == "`" and "`" in match["info"]):
        return None
    return match


def _closes(bare: str, ticks: str) -> bool:
    stripped = bare.strip()
    return len(stripped) >= len(ticks) and set(stripped) == {ticks[0]}


def _fence_after(bare: str, fence: str) -> str:
    """The ticks of the fence that is open after this line; empty outside."""
    if fence:
        return "" if _closes(bare, fence) else fence
    opened = _opens(bare)
    return opened["ticks"] if opened else ""


def _without_reasoning(reply: str) -> tuple[str | None, int]:
    """`reply` without its reasoning (None where that has no end), and how many characters that was.

    An opening tag counts at the start of a line outside a fence, so that a program which mentions it stays whole. A
    closing tag without an opening one, at either end of a line, ends reasoning that the chat template had opened.
    """
    answer = reply
    for opening, closing in _REASONING:
        answer = _after_orphan(answer, opening, closing)
        while (start := _tag_at_line_start(answer, opening)) is not None:
            end = answer.find(closing, start)
            if end < 0:
                return None, len(reply) - start
            answer = answer[:start] + answer[end + len(closing) :]
    return answer, len(reply) - len(answer)


def _after_orphan(answer: str, opening: str, closing: str) -> str:
    """What follows a closing tag that no opening tag precedes; `answer` itself where there is none."""
    position, fence = 0, ""
    for line in _lines(answer):
        bare = line.rstrip("\r\n")
        if not fence and bare.lstrip().startswith(opening):
            return answer
        stripped = bare.strip()
        if stripped == closing or (not fence and (stripped.startswith(closing) or stripped.endswith(closing))):
            return answer[position + line.index(closing) + len(closing) :]
        fence = _fence_after(bare, fence)
        position += len(line)
    return answer


def _tag_at_line_start(answer: str, tag: str) -> int | None:
    position, fence = 0, ""
    for line in _lines(answer):
        bare = line.rstrip("\r\n")
        if not fence and bare.lstrip().startswith(tag):
            return position + line.index(tag)
        fence = _fence_after(bare, fence)
        position += len(line)
    return None
