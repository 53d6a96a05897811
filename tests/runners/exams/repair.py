"""An exam of two turns for tests: a program is asked for, run in the box, and its error sent back, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.chat import ChatError, Message
from runners.exams.base import Grade, Item, Specimen, Task, Transcript
from runners.outcomes import Outcome
from runners.sandbox.python import python_runtime

if TYPE_CHECKING:
    from runners.exams.base import Chat
    from runners.exams.box import Box

WORD = "pelican"


@dataclass
class RepairExam:
    """/2: a point for a program that prints the word, and one if it needed no second turn.

    `forgiving` grades what is there when the budget ends the second turn.
    """

    name: str = "repair"
    prompt_version: str = "1"
    grader_version: str = "1"
    score_max: float = 2.0
    scorings: tuple[str, ...] = ("only",)
    language: str = "python"
    needs: frozenset[str] = frozenset()
    forgiving: bool = False

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(name, (Message(role="user", content=f"Write a Python program that prints {WORD}{end}."),))
            for name, end in (("plain", ""), ("loud", "!"))
        )

    def specimens(self) -> list[Specimen]:
        return [
            Specimen("right", "reference", f"print('{WORD}')"),
            Specimen("loud", "reference", f"print('{WORD}!')", task="loud"),
            Specimen("quiet", "mutant", "pass", loses=("prints",)),
        ]

    def solve(self, task: Task, chat: Chat, box: Box) -> Transcript:
        first = chat.ask(task.messages, most_tokens=30)
        said = self._run(first.text, box)
        if WORD not in said:
            told = (*task.messages, Message(role="assistant", content=first.text), Message(role="user", content=said))
            try:
                chat.ask(told)
            except ChatError:
                if not self.forgiving:
                    raise
        return chat.transcript()

    def grade(self, task: Task, transcript: Transcript, box: Box) -> Grade:
        word = WORD + "!" * (task.name == "loud")
        prints = self._run(transcript.reply.text, box).strip() == word
        at_once = prints and len(transcript.turns) == 1
        items = (Item("prints", float(prints), 1.0, prints), Item("at once", float(at_once), 1.0, at_once))
        outcome = Outcome.PASSED if at_once else Outcome.WRONG
        return Grade({"only": prints + float(at_once)}, 2.0, outcome, items, "", "whole_reply", box.isolation)

    def _run(self, program: str, box: Box) -> str:
        runtime = python_runtime(box.sandbox)
        box.write("program.py", program.encode(errors="replace"))
        done = box.run([runtime.executable, "program.py"], view=runtime.view)
        return (done.stdout or done.stderr or done.status.encode()).decode(errors="replace")[-500:]


def load() -> RepairExam:
    """The exam."""
    return RepairExam()
