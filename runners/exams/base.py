"""What an exam is: tasks, how a model is asked about one, and a grader that runs what it answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from runners.chat import Message
from runners.errors import RunnersError
from runners.files import check_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.chat import ChatResult, ToolCall
    from runners.exams.box import Box
    from runners.files import GradedFile
    from runners.outcomes import Outcome


class UnknownExam(RunnersError):  # noqa: N818 - named for what the user asked for
    """No exam has that name."""


class NeedMissing(RunnersError):  # noqa: N818 - reads as the state of the machine it reports
    """This machine lacks what an exam needs; `hint` holds the command that mends it."""


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        text: The answer, as the engine gave it.
        reasoning: Reasoning that the engine already told apart, or None.
        finish_reason: The engine's word (`stop`, `length`, ...), or None where it gave none.
        tool_calls: What it called, in order. Names and arguments are the model's: they may be of no tool, and no JSON
            (`ToolCall.parsed`).
    """

    text: str
    reasoning: str | None = None
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    def as_message(self) -> Message:
        """The reply as the conversation goes on with it; reasoning is left out."""
        return Message(role="assistant", content=self.text, tool_calls=self.tool_calls)


@dataclass(frozen=True)
class Task:
    """One thing that an exam asks for; a job is one task with one seed.

    Attributes:
        name: Part of the job's identity. The task of an exam that has no other is called `main`.
        messages: What the model gets first, whoever it is.
    """

    name: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Turn:
    """One request of a solve: the messages that were sent, all of them, and what came back."""

    asked: tuple[Message, ...]
    reply: Reply


@dataclass(frozen=True)
class Transcript:
    """How a task was solved: what was said, in order. A grade is made from this alone."""

    turns: tuple[Turn, ...]

    @property
    def reply(self) -> Reply:
        """The last reply; an empty one where there was none."""
        return self.turns[-1].reply if self.turns else Reply("")

    @classmethod
    def of(cls, task: Task, reply: Reply) -> Transcript:
        """Of a task that was asked once."""
        return cls((Turn(task.messages, reply),))


class Chat(Protocol):
    """The model that solves a task."""

    def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        *,
        must_call: bool = False,
        most_tokens: int | None = None,
    ) -> ChatResult:
        """Sends the whole conversation so far, and returns the reply with its timing.

        Args:
            messages: All of them: after a reply that calls tools, `Reply.as_message`, and one of role `tool` for each
                call with its result.
            tools: What the model may call, in the form of OpenAI's API; equal in every turn, as a rule.
            must_call: Whether the reply has to be a call, as far as the engine can hold the model to that.
            most_tokens: A cap for this reply alone.

        The sweep's limits hold over the whole solve: the time for generating, and the tokens of all replies together.

        Raises:
            ToolFormatError: The reply is neither text nor calls in the format of the model's template. It may be
                caught, the model be told so, and asked again; with no reply at all (`partial`) the template knows no
                tools, and asking again is of no use.
            ChatError: It did not come to an end. One of class `budget` may be caught, and the rest be graded; any other
                is the infrastructure's, and ends the attempt whatever the exam makes of it.
        """
        ...

    def transcript(self) -> Transcript:
        """What was said so far."""
        ...


def ask_once(task: Task, chat: Chat) -> Transcript:
    """Solves a task with one request."""
    chat.ask(task.messages)
    return chat.transcript()


@dataclass(frozen=True)
class Item:
    """One thing an exam looks at.

    `scoring` names the scoring it belongs to; empty for all of them.
    """

    name: str
    points: float
    points_max: float
    passed: bool
    note: str = ""
    scoring: str = ""


@dataclass(frozen=True)
class Grade:
    """What a grader found.

    Attributes:
        scores: Points by scoring; the keys are the exam's `scorings`.
        score_max: The most that any scoring gives.
        outcome: Of class `model` or `budget`; the rest is raised by the grader.
        items: What the points are made of.
        log: What a person reads to understand the grade.
        extraction_method: How the program was found in the reply (runners.extract).
        isolation: What held the program (Sandbox.isolation); empty where nothing was run.
        outcomes: The outcome by scoring; `outcome` is that of the first.
        files: What the grading left to be looked at (a picture, a log), kept in the run folder. What a model's program
            made has any size: leave out what is beyond the limits, for a refusal is the grader's failure, not a zero.

    Raises:
        FileRefusedError: There are more, or larger, files than a row may bring (`runners.files`).
    """

    scores: dict[str, float]
    score_max: float
    outcome: Outcome
    items: tuple[Item, ...]
    log: str
    extraction_method: str
    isolation: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    files: tuple[GradedFile, ...] = ()

    def __post_init__(self) -> None:
        check_together(self.files)


@dataclass(frozen=True)
class Specimen:
    """An answer of which it is known what a right grader makes of it.

    Attributes:
        name: What it is called in a report.
        kind: `reference` scores full marks, or what `bounds` says of a scoring; `mutant` loses `loses` and with them
            full marks; `cheat` gets at most `bounds`; `published` gets exactly `bounds`.
        text: The reply.
        loses: Names of items that it must not pass.
        bounds: Points by scoring.
        task: Name of the task that it answers; empty for the exam's first.
    """

    name: str
    kind: Literal["reference", "mutant", "cheat", "published"]
    text: str
    loses: tuple[str, ...] = ()
    bounds: dict[str, float] = field(default_factory=dict)
    task: str = ""

    def task_of(self, exam: Exam) -> Task:
        """The task that it answers."""
        return next(task for task in exam.tasks() if self.task in {"", task.name})


class Exam(Protocol):
    """Tasks, how they are solved, and their grader."""

    @property
    def name(self) -> str:
        """What a spec calls it."""
        ...

    @property
    def prompt_version(self) -> str:
        """Changes with the messages, and with whatever else decides what is generated; part of the job id."""
        ...

    @property
    def grader_version(self) -> str:
        """Changes with anything that can change a score.

        `tests/runners/exams/` has a fingerprint of what that is in ours, so that it cannot change unnoticed.
        """
        ...

    @property
    def score_max(self) -> float:
        """Full marks."""
        ...

    @property
    def scorings(self) -> tuple[str, ...]:
        """Names of the ways to score; the first is the default."""
        ...

    @property
    def language(self) -> str:
        """What the answer is written in."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What a machine must have to solve and grade it: names of `profiles.probe.needs`."""
        ...

    def tasks(self) -> tuple[Task, ...]:
        """One or more, in the order in which they are asked."""
        ...

    def solve(self, task: Task, chat: Chat, box: Box, /) -> Transcript:
        """Asks the model, once or in several turns between which the box may run what it wrote (`ask_once`).

        Raises:
            ChatError: As `chat` raised it.
            SandboxFailed, SandboxUnavailable: As for `grade`.
        """
        ...

    def specimens(self) -> list[Specimen]:
        """The answers that prove the grader (runners.exams.check)."""
        ...

    def grade(self, task: Task, transcript: Transcript, box: Box, /) -> Grade:
        """Run what the model wrote and score it.

        Args:
            task: What it was asked.
            transcript: What was said.
            box: Where the program runs: empty, and for this grading alone.

        Raises:
            SandboxFailed, SandboxUnavailable: The sandbox could not be started, or lacks what the exam runs on
                (outcome `sandbox_start`, no score).
        """
        ...
