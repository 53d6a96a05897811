"""The prompt and the chat template in a row: whose they are, how large, and what they may hold."""

from __future__ import annotations

import hashlib
import re
from types import SimpleNamespace
from typing import Any

import pytest

from results import schema
from runners.chat import Message
from runners.exams import get_exam
from runners.exams.base import Task
from runners.orders import NodeFacts
from runners.row import unknown_of_node
from runners.rowcheck import LIMITS_BYTES, problems_of, sound
from runners.texts import prompt_text, text_columns

IDENTITY: dict[str, Any] = {
    **dict.fromkeys(("sweep", "model", "quant", "variant", "exam", "node", "device", "hardware_class"), "x"),
    "job_id": "v1-a",
    "attempt": 1,
    "seed": 1,
    "started_at": "2026-11-20T10:00:00+00:00",
    "outcome": "server_crash",
    "outcome_class": "infrastructure",
}


def columns_of(template: str | None, *messages: Message) -> tuple[dict[str, Any], dict[str, str]]:
    reasons: dict[str, str] = {}
    served: Any = SimpleNamespace(chat_template=template)
    return text_columns(Task("main", messages or (Message(role="user", content="Do it."),)), served, reasons), reasons


def test_one_message_is_the_prompt_and_several_stand_under_their_roles() -> None:
    task = get_exam("todo").tasks()[0]
    assert prompt_text(task) == task.messages[0].content
    several = Task("t", (Message(role="system", content="Be brief."), Message(role="user", content="Do it.")))
    assert prompt_text(several) == "[system]\nBe brief.\n\n[user]\nDo it."


def test_a_template_that_nobody_said_is_null_with_the_reason() -> None:
    columns, reasons = columns_of(None)
    assert columns.keys() == {"prompt", "prompt_sha256"}
    assert "did not say" in reasons["chat_template"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages }}" * 100_000,
        "\ud800{{ '\ud83d' }}",
        "\x1b]0;owned\x07\x00\u202e[red]{{ cycler.__init__.__globals__.os.popen('id') }}",
    ],
)
def test_a_hostile_template_is_text_of_bounded_length(template: str) -> None:
    columns, _ = columns_of(template)
    row = sound({**IDENTITY, **columns}, IDENTITY)
    assert not problems_of(row)
    kept, whole = row["chat_template"], re.sub("[\ud800-\udfff]", "\ufffd", template)
    assert row["chat_template_sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    assert len(kept.encode()) <= LIMITS_BYTES["chat_template"]
    assert kept == whole or "[quantsweep left out" in kept


def test_what_a_node_cannot_tell_of_itself_has_its_reason() -> None:
    assert (
        unknown_of_node(NodeFacts(hostname="h")).keys()
        == {"governor", "platform_profile"}
        <= schema.COLUMNS_BY_NAME.keys()
    )
    assert unknown_of_node(NodeFacts(hostname="h", governor="performance", platform_profile="balanced")) == {}
