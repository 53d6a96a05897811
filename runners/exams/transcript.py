"""A transcript as the row keeps it, and back again: what a grade is made from, and made anew from (`regrade`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runners.chat import Message, ToolCall
from runners.exams.base import Reply, Transcript, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runners.exams.base import Task


def transcript_json(turns: Sequence[Turn]) -> str:
    """The turns as JSON: of the messages of each only those that the turns before did not send."""
    said: list[dict[str, Any]] = []
    known: tuple[Message, ...] = ()
    for turn in turns:
        same = 0
        while same < min(len(known), len(turn.asked)) and known[same] == turn.asked[same]:
            same += 1
        asked = [message.to_json() for message in turn.asked[same:]]
        said.append({"kept": same, "asked": asked, "reply": _reply_json(turn.reply)})
        known = turn.asked
    return json.dumps({"turns": said}, ensure_ascii=False, separators=(",", ":"))


def _reply_json(reply: Reply) -> dict[str, Any]:
    fields = asdict(reply)
    if not reply.tool_calls:
        del fields["tool_calls"]
    return fields


def transcript_of(row: Mapping[str, Any], task: Task) -> Transcript:
    """The transcript that a row keeps.

    Raises:
        ValueError: it was not kept, or is damaged.
    """
    said_it_all = (row.get("turns") or 1) == 1 and row["finish_reason"] != "tool_calls"
    if said_it_all and row.get("transcript") is None:
        if row["reply"] is None:
            raise ValueError("its answer was not kept")
        return Transcript.of(task, Reply(row["reply"], row["reasoning"], row["finish_reason"]))
    if row.get("transcript") is None:
        raise ValueError("its transcript was not kept")
    try:
        turns: list[Turn] = []
        known: tuple[Message, ...] = ()
        for said in json.loads(row["transcript"])["turns"]:
            known = (*known[: said["kept"]], *map(Message.from_json, said["asked"]))
            calls = tuple(ToolCall(**call) for call in said["reply"].get("tool_calls", ()))
            turns.append(Turn(known, Reply(**{**said["reply"], "tool_calls": calls})))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its transcript cannot be read: {type(error).__name__}") from None
    return Transcript(tuple(turns))
