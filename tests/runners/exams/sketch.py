"""An exam for tests whose grade leaves files: the reply, and a picture that is the same for every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.chat import Message
from runners.exams.base import Grade, Item, Specimen, Task, Transcript, ask_once
from runners.files import GradedFile
from runners.outcomes import Outcome

if TYPE_CHECKING:
    from runners.exams.base import Chat
    from runners.exams.box import Box

PICTURE = GradedFile("picture.svg", "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>")


@dataclass
class SketchExam:
    """/1: a point for an answer with a letter in it."""

    name: str = "sketch"
    prompt_version: str = "1"
    grader_version: str = "1"
    score_max: float = 1.0
    scorings: tuple[str, ...] = ("only",)
    language: str = "python"
    needs: frozenset[str] = frozenset()

    def tasks(self) -> tuple[Task, ...]:
        return (Task("main", (Message(role="user", content="Draw a pelican."),)),)

    def specimens(self) -> list[Specimen]:
        return [Specimen("drawn", "reference", "a pelican"), Specimen("none", "mutant", "", loses=("drawn",))]

    def solve(self, task: Task, chat: Chat, _box: Box) -> Transcript:
        return ask_once(task, chat)

    def grade(self, _task: Task, transcript: Transcript, _box: Box) -> Grade:
        reply = transcript.reply.text
        drawn = any(map(str.isalpha, reply))
        said = f"grader {self.grader_version}\n{reply}".encode(errors="replace")
        return Grade(
            {"only": float(drawn)},
            1.0,
            Outcome.PASSED if drawn else Outcome.WRONG,
            (Item("drawn", float(drawn), 1.0, drawn),),
            "",
            "whole_reply",
            "",
            files=(GradedFile("reply.txt", "text/plain", said), PICTURE),
        )


def load() -> SketchExam:
    """The exam."""
    return SketchExam()
