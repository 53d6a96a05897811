"""A conversation as servers take it: messages in the form of OpenAI's API, of which every other is made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.chat import Message

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def sent_message(message: Message) -> dict[str, Any]:
    """A message as servers of OpenAI's API take it.

    They parse the arguments of calls in the history, and refuse all of it, now and ever after, for one that is no JSON:
    such a call goes back without arguments. Half characters are no UTF-8, which is all that they read.
    """
    fields: dict[str, Any] = {"role": message.role, "content": whole_text(message.content)}
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": whole_text(call.id),
                "type": "function",
                "function": {
                    "name": whole_text(call.name),
                    "arguments": "{}" if call.parsed() is None else call.arguments,
                },
            }
            for call in message.tool_calls
        ]
    return fields | ({"tool_call_id": whole_text(message.tool_call_id)} if message.tool_call_id else {})


def whole_text(text: str) -> str:
    """`text` with a mark in place of each half of a character, which no UTF-8 holds."""
    return _LONE_SURROGATE.sub("\ufffd", text)
