"""Reasoning that a server left inside the answer, told apart from it afterwards.

A server that does not know how a model marks its reasoning sends it as content: `<think>`, the reasoning, `</think>`,
the answer; where the template has opened the mark already, without the first of these. A reply that was cut off inside
its reasoning has no answer at all.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runners.chat import ChatResult, Event

_MARKS: Final = ("think", "thinking", "reasoning")
_OPEN: Final = re.compile(rf"\s{{0,64}}<({'|'.join(_MARKS)})>")
_CLOSE: Final = re.compile(rf"</({'|'.join(_MARKS)})>")
_WARNING: Final = "reasoning came inside the content, and was told apart by its mark"


def told_apart(result: ChatResult) -> ChatResult:
    """The reply with its spilled reasoning where reasoning belongs; as it is, if there is none or the server knew."""
    if result.reasoning:
        return result
    opened = _OPEN.match(result.text)
    closed = _CLOSE.search(result.text, opened.end() if opened else 0)
    if opened and closed and opened[1] != closed[1]:
        return result
    if closed is None and opened is None:
        return result
    begin = opened.end() if opened else 0
    end, after = (closed.start(), closed.end()) if closed else (len(result.text), len(result.text))
    answer = result.text[after:].lstrip()
    boundary = len(result.text) - len(answer)
    return replace(
        result,
        text=answer,
        reasoning=result.text[begin:end].strip(),
        events=_marked(result.events, len(result.text[:boundary].encode(errors="replace"))),
        warnings=(*result.warnings, _WARNING),
    )


def _marked(events: tuple[Event, ...], spilled_bytes: int) -> tuple[Event, ...]:
    """The events, those of text that end within the first `spilled_bytes` of it as reasoning."""
    found = []
    seen = 0
    for event in events:
        changed = event
        if event.kind == "text":
            seen += event.size_bytes
            if seen <= spilled_bytes:
                changed = event._replace(kind="reasoning")
        found.append(changed)
    return tuple(found)
