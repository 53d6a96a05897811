"""What an exam is: the messages a model gets, and a grader that runs what it answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from runners.errors import RunnersError

if TYPE_CHECKING:
    from pathlib import Path

    from runners.outcomes import Outcome
    from runners.sandbox.base import Sandbox


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
    """

    text: str
    reasoning: str | None = None
    finish_reason: str | None = None


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
    """

    scores: dict[str, float]
    score_max: float
    outcome: Outcome
    items: tuple[Item, ...]
    log: str
    extraction_method: str
    isolation: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True)
class Specimen:
    """An answer of which it is known what a right grader makes of it.

    Attributes:
        name: What it is called in a report.
        kind: `reference` scores full marks; `mutant` loses `loses` and with them full marks; `cheat` gets at most
            `bounds`; `published` gets exactly `bounds`.
        text: The reply.
        loses: Names of items that it must not pass.
        bounds: Points by scoring.
    """

    name: str
    kind: Literal["reference", "mutant", "cheat", "published"]
    text: str
    loses: tuple[str, ...] = ()
    bounds: dict[str, float] = field(default_factory=dict)


class Exam(Protocol):
    """One prompt and its grader.

    Attributes:
        name: What a spec calls it.
        prompt_version: Changes with the messages, and with whatever else decides what is generated; part of the job id.
        grader_version: Changes with anything that can change a score. `tests/runners/exams/` has a fingerprint of what
            that is, so that it cannot change unnoticed.
        score_max: Full marks.
        scorings: Names of the ways to score; the first is the default.
        language: What the answer is written in.
        needs: What a machine must have to solve and grade it: names of `profiles.probe.needs`.
    """

    name: str
    prompt_version: str
    grader_version: str
    score_max: float
    scorings: tuple[str, ...]
    language: str
    needs: frozenset[str]

    def messages(self) -> list[dict[str, str]]:
        """The chat messages, as every model gets them."""
        ...

    def specimens(self) -> list[Specimen]:
        """The answers that prove the grader (runners.exams.check)."""
        ...

    def grade(self, reply: Reply, sandbox: Sandbox, workdir: Path) -> Grade:
        """Run what `reply` holds in `sandbox` and score it.

        Args:
            reply: What the model answered.
            sandbox: Where the program runs.
            workdir: An empty folder for this grading alone; the caller removes it.

        Raises:
            SandboxFailed, SandboxUnavailable: The sandbox could not be started, or lacks what the exam runs on
                (outcome `sandbox_start`, no score).
        """
        ...
