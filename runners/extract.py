"""Takes the program out of a reply, says how it was found, and never repairs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SUFFIXES = {
    "python": (".py",),
    "go": (".go",),
    "html": (".html", ".htm"),
    "javascript": (".js", ".mjs", ".cjs"),
    "c": (".c", ".h"),
    "c++": (".cpp", ".cc", ".cxx", ".c++", ".hpp", ".h"),
    "rust": (".rs",),
}
_LABELS = {
    "python": {"python", "py", "python3", "py3"},
    "go": {"go", "golang"},
    "html": {"html", "htm", "html5"},
    "javascript": {"javascript", "js", "mjs", "node"},
    "c": {"c"},
    "c++": {"c++", "cpp", "cc", "cxx"},
    "rust": {"rust", "rs"},
}

# Every pattern here is applied to whatever a model wrote. None may look at a character more often than a fixed number
# of times: runs are possessive (`*+`), and no pattern begins again inside what an earlier attempt has gone through.
_TICKS = re.compile(r"(?P<indent>[ \t]*+)(?P<ticks>`{3,}+|~{3,}+)")
_START = re.compile(r"[ \t]*+#++[ \t]*+START[ \t]++(?P<name>[^\s#]++)[ \t]*+#++[ \t]*+")
_END = re.compile(r"[ \t]*+#++[ \t]*+END\b[^\r\n]*+")
_LINE = re.compile(r"[^\n]*+\n|[^\n]++")
_PATH_RUN = re.compile(r"[\w./+-]++")
_SUFFIX = re.compile(r"(?<=[\w+-])\.[A-Za-z][A-Za-z0-9]{0,4}+")
_TITLE_CHARS = 300
_LABEL_END = re.compile(r"[\s:,]")
# What a line begins with that may open or close a fence, or bear a marker; every other line is passed over.
_FENCE_LINE = re.compile(r"^[^\S\n]*+(?:`{3}|~{3})", re.MULTILINE)
_MARK_LINE = re.compile(r"^[^\S\n]*+(?:`{3}|~{3}|#)", re.MULTILINE)


class _Tags:
    """The tags around one form of reasoning, and the lines that matter while they are looked for."""

    def __init__(self, opening: str, closing: str) -> None:
        self.opening, self.closing = opening, closing
        begin = rf"[^\S\n]*+(?:`{{3}}|~{{3}}|(?P<tag>{re.escape(opening)}))"
        self.here = re.compile(begin)
        self.at_line_start = re.compile(rf"^{begin}", re.MULTILINE)
        self.anywhere = re.compile(rf"^{begin}|{re.escape(closing)}", re.MULTILINE)


_REASONING = (_Tags("<think>", "</think>"), _Tags("<thinking>", "</thinking>"), _Tags("[THINK]", "[/THINK]"))


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
class _Fence:
    """The line that opens a fenced block."""

    indent: str
    ticks: str
    info: str


@dataclass(frozen=True)
class _Block:
    """One fenced or marked part of a reply.

    `label` is the fence's first word, in lower case; `title` the line of text before the fence.
    """

    code: str
    label: str
    path: str | None
    closed: bool
    title: str = ""


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


def extract_files(
    reply: str, *, language: str, filenames: Sequence[str], marker: str | None = None
) -> dict[str, Extraction]:
    """Find several files in `reply`; each of `filenames` has its entry, as `extract_code` would describe it.

    Of the first kind that holds a file the last counts: text between `#START file#` markers, fences labelled with its
    path, fences below a line (or with a first comment) that names it and no other. Where no file is found in any of
    these ways, and there are as many fences of the language as files, they are the files in their order.

    Args:
        reply: The answer, as the engine gave it.
        language: The language asked for.
        filenames: The files wanted, by the last part of their paths; more than one.
        marker: Text that each must hold, or None for any.
    """
    answer, reasoning_chars = _without_reasoning(reply)
    if answer is None:
        nothing = Extraction(None, "unclosed_think", truncated=True, reasoning_chars=reasoning_chars)
        return dict.fromkeys(filenames, nothing)
    marked, fenced = list(_marked(answer)), list(_fences(answer))
    labels = {*_LABELS.get(language, {language}), ""}
    kinds: list[tuple[str, list[tuple[str | None, _Block]]]] = [
        ("start_marker", [(_last_part(block.path), block) for block in marked]),
        ("named_fence", [(_last_part(block.path), block) for block in fenced]),
        ("titled_fence", [(_named_in(block, filenames), block) for block in fenced if block.label in labels]),
    ]
    missing = Extraction(None, "no_candidate" if answer.strip() else "empty", reasoning_chars=reasoning_chars)
    found = dict.fromkeys(filenames, missing)
    for method, blocks in reversed(kinds):
        for name, block in blocks:
            if name in found and block.code.strip() and (marker is None or marker in block.code):
                found[name] = Extraction(block.code, method, not block.closed, block.path, reasoning_chars)
    if all(each.code is None for each in found.values()):
        inside = [b for b in fenced if b.label in labels and b.label and (marker is None or marker in b.code)]
        if len(inside) == len(filenames):
            pairs = zip(filenames, inside, strict=True)
            return {
                name: Extraction(block.code, "language_fence", not block.closed, block.path, reasoning_chars)
                for name, block in pairs
            }
    return found


def _last_part(path: str | None) -> str | None:
    return None if path is None else path.rsplit("/", 1)[-1]


def _named_in(block: _Block, filenames: Sequence[str]) -> str | None:
    """The one file that a fence's title names, else its first line if that is a comment."""
    first = block.code.lstrip().partition("\n")[0][:_TITLE_CHARS]
    for line in (block.title, first if first.startswith(("//", "/*", "#")) else ""):
        named = [name for name in filenames if name in line]
        if len(named) == 1:
            return named[0]
    return None


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


def _lines_with(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int, str]]:
    """The lines that `pattern` finds something in: where they begin and end, and they themselves without their end."""
    position = 0
    while (found := pattern.search(text, position)) is not None:
        start = max(position, text.rfind("\n", position, found.start()) + 1)
        position = text.find("\n", found.end()) + 1 or len(text)
        yield start, position, text[start:position].rstrip("\r\n")


def _marked(answer: str) -> Iterator[_Block]:
    """Text after each `#START file#` line, up to `#END`, the next marker or the end.

    Inside a fence the fence's end ends it too, so that the closing backticks are not part of the program; a fence
    between the markers is taken off.
    """
    if "START" not in answer:
        return
    path: str | None = None
    begin = 0
    fence = ""
    for line_start, line_end, bare in _lines_with(_MARK_LINE, answer):
        start = _START.fullmatch(bare)
        ends = start or _END.fullmatch(bare) or (fence and _closes(bare, fence))
        if path is not None and ends:
            yield _marked_block(answer[begin:line_start], path, closed=True)
            path = None
        if start:
            path, begin = start["name"], line_end
        fence = _fence_after(bare, fence)
    if path is not None:
        yield _marked_block(answer[begin:], path, closed=False)


def _marked_block(text: str, path: str, *, closed: bool) -> _Block:
    fenced = list(_fences(text))
    return _Block(fenced[-1].code if fenced else text, "", path, closed=closed)


def _fences(answer: str) -> Iterator[_Block]:
    """Every fenced block, by CommonMark's rules but for the indentation, which may be any."""
    opened: _Fence | None = None
    begin = 0
    title = ""
    for line_start, line_end, bare in _lines_with(_FENCE_LINE, answer):
        if opened is None:
            opened, begin = _opens(bare), line_end
            title = answer[max(0, line_start - _TITLE_CHARS) : line_start].strip().rpartition("\n")[2]
        elif _closes(bare, opened.ticks):
            yield _block(opened, answer[begin:line_start], title, closed=True)
            opened = None
    if opened is not None:
        yield _block(opened, answer[begin:], title, closed=False)


def _block(opened: _Fence, inside: str, title: str, *, closed: bool) -> _Block:
    info = opened.info.strip().strip("{}")
    label = _LABEL_END.split(info, maxsplit=1)[0].lower().lstrip(".")
    if opened.indent:
        inside = "".join(_unindented(line, opened.indent) for line in _lines(inside))
    return _Block(inside, label, _path_in(info), closed, title)


def _path_in(info: str) -> str | None:
    """The first word with a suffix in it, up to the last suffix: `todo.py` in `python title="todo.py"`."""
    for run in _PATH_RUN.finditer(info):
        end = None
        for suffix in _SUFFIX.finditer(info, run.start(), run.end()):
            end = suffix.end()
        if end is not None:
            return info[run.start() : end]
    return None


def _unindented(line: str, indent: str) -> str:
    """`line` without the indentation that its fence has (CommonMark 0.31, section 4.5)."""
    kept = line.lstrip(" \t")
    return line[min(len(indent), len(line) - len(kept)) :]


def _opens(bare: str) -> _Fence | None:
    found = _TICKS.match(bare)
    if found is None or "\r" in bare:
        return None
    info = bare[found.end() :]
    if found["ticks"][0] == "`" and "`" in info:
        return None
    return _Fence(found["indent"], found["ticks"], info)


def _closes(bare: str, ticks: str) -> bool:
    stripped = bare.strip()
    return len(stripped) >= len(ticks) and not stripped.strip(ticks[0])


def _fence_after(bare: str, fence: str) -> str:
    """The ticks of the fence that is open after this line; empty outside."""
    if fence:
        return "" if _closes(bare, fence) else fence
    opened = _opens(bare)
    return opened.ticks if opened else ""


def _without_reasoning(reply: str) -> tuple[str | None, int]:
    """`reply` without its reasoning (None where that has no end), and how many characters that was.

    An opening tag counts at the start of a line outside a fence, so that a program which mentions it stays whole. A
    closing tag without an opening one, at either end of a line, ends reasoning that the chat template had opened.
    """
    answer = reply
    for tags in _REASONING:
        answer = _after_orphan(answer, tags)
        kept, unclosed_at = _without_thoughts(answer, tags)
        if unclosed_at is not None:
            return None, len(reply) - unclosed_at
        answer = kept
    return answer, len(reply) - len(answer)


def _after_orphan(answer: str, tags: _Tags) -> str:
    """What follows a closing tag that no opening tag precedes; `answer` itself where there is none."""
    if tags.closing not in answer:
        return answer
    fence = ""
    for line_start, _, bare in _lines_with(tags.anywhere, answer):
        stripped = bare.strip()
        if not fence and stripped.startswith(tags.opening):
            return answer
        at_an_end = stripped.startswith(tags.closing) or stripped.endswith(tags.closing)
        if stripped == tags.closing or (not fence and at_an_end):
            return answer[line_start + bare.index(tags.closing) + len(tags.closing) :]
        fence = _fence_after(bare, fence)
    return answer


def _without_thoughts(answer: str, tags: _Tags) -> tuple[str, int | None]:
    """`answer` without what stands between these tags, and where in it a thought begins that has no end, if one does.

    One pass: behind a thought that was taken out, the line goes on with what had stood before it (`indent`), and the
    next thought may follow at once.
    """
    if tags.opening not in answer:
        return answer, None
    kept: list[str] = []
    indent: list[str] = []
    begin = position = 0
    fence = ""
    while True:
        found = tags.here.match(answer, position) if indent else None
        if found is None:
            indent = []
            found = tags.at_line_start.search(answer, position)
        if found is None:
            return "".join((*kept, answer[begin:])), None
        if found["tag"] and not fence:
            start = found.start("tag")
            end = answer.find(tags.closing, start)
            kept.append(answer[begin:start])
            if end < 0:
                return answer, sum(map(len, kept))
            indent.append(answer[found.start() : start])
            begin = position = end + len(tags.closing)
            continue
        line_end = answer.find("\n", found.end()) + 1 or len(answer)
        bare = "".join(indent) + answer[found.start() : line_end].rstrip("\r\n")
        fence = _fence_after(bare, fence)
        position, indent = line_end, []
