"""An exam for tests that hands the model a tool: it is to look something up, and say what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runners.chat import Message, ToolFormatError
from runners.exams.base import Grade, Item, Specimen, Task, Transcript
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from runners.exams.base import Chat
    from runners.exams.box import Box

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "enum": ["pelican", "stork"]}},
            "required": ["word"],
        },
    },
}
MOST_TOKENS = 150
"""Of a turn: more than one call takes, so that the first of them is whole."""
TOLD = "That was no call in the format of your template. Try again."


@dataclass
class ErrandExam:
    """/2: a point for a call that can be read, and one for an answer after it.

    `patient` asks again after a call that the server could not read.
    """

    name: str = "errand"
    prompt_version: str = "1"
    grader_version: str = "1"
    score_max: float = 2.0
    scorings: tuple[str, ...] = ("only",)
    language: str = "text"
    needs: frozenset[str] = frozenset()
    patient: bool = False

    def tasks(self) -> tuple[Task, ...]:
        return (Task("main", (Message(role="user", content="What is a pelican?"),)),)

    def specimens(self) -> list[Specimen]:
        return []

    def solve(self, task: Task, chat: Chat, _box: Box) -> Transcript:
        said = [*task.messages]
        for _ in range(4):
            try:
                chat.ask(said, [TOOL], most_tokens=MOST_TOKENS)
            except ToolFormatError:
                if not self.patient:
                    raise
                said += [chat.transcript().reply.as_message(), Message(role="user", content=TOLD)]
                continue
            reply = chat.transcript().reply
            if not reply.tool_calls:
                break
            said.append(reply.as_message())
            for call in reply.tool_calls:
                found = "a large water bird" if call.parsed() == {"word": "pelican"} else "these are no arguments"
                said.append(Message(role="tool", content=found, tool_call_id=call.id))
        return chat.transcript()

    def grade(self, _task: Task, transcript: Transcript, _box: Box) -> Grade:
        calls = [call for turn in transcript.turns for call in turn.reply.tool_calls]
        called = any(call.name == "look_up" and call.parsed() for call in calls)
        answered = called and bool(transcript.reply.text)
        items = (Item("called", float(called), 1.0, called), Item("answered", float(answered), 1.0, answered))
        outcome = Outcome.PASSED if answered else Outcome.WRONG
        return Grade({"only": float(called + answered)}, 2.0, outcome, items, "", "whole_reply", "")


def load() -> ErrandExam:
    """The exam."""
    return ErrandExam()
