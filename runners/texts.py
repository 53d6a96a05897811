"""The texts that led to an answer, as columns of its row: the prompt and the chat template, each with its sha256.

A template is the model's, and as hostile as the model: here it is text and no more, and the row cuts what is too long
for it (`runners.rowcheck`). A sha256 is of all of a text.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.engines.base import Served
    from runners.exams.base import Task

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def text_columns(task: Task, served: Served, reasons: dict[str, str]) -> dict[str, Any]:
    """What was asked, and what turned it into what the model read; why one is not known goes into `reasons`."""
    prompt = _LONE_SURROGATE.sub("\ufffd", prompt_text(task))
    columns: dict[str, Any] = {"prompt": prompt, "prompt_sha256": _sha256(prompt)}
    if served.chat_template is None:
        reasons["chat_template"] = "the server did not say it"
        return columns
    template = _LONE_SURROGATE.sub("\ufffd", served.chat_template)
    return {**columns, "chat_template": template, "chat_template_sha256": _sha256(template)}


def prompt_text(task: Task) -> str:
    """The messages of a task as one text: one alone as it is, several each under its role."""
    if len(task.messages) == 1 and task.messages[0].role == "user":
        return task.messages[0].content
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in task.messages)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
