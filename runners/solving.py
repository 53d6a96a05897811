"""A task solved as its exam solves it: the turns that were asked, within the sweep's limits, and what failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runners.chat import (
    CancelledError,
    ChatError,
    ChatRequest,
    ChatResult,
    GenerationTimeoutError,
    Sampling,
    ToolFormatError,
)
from runners.errors import RunnersError
from runners.exams.base import Reply, Transcript, Turn
from runners.outcomes import Outcome, OutcomeClass, outcome_class
from runners.sandbox.base import SandboxFailed, SandboxUnavailable
from runners.timing import TOKEN_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runners.chat import Message
    from runners.exams.base import Exam, Task
    from runners.exams.box import Box

MOST_TURNS = 500
"""More than any exam asks; an exam that goes on without end is ended here."""


class TokensSpentError(ChatError):
    """The tokens of the whole solve (`Sampling.max_tokens`) were used up by earlier turns."""

    outcome = Outcome.MAX_TOKENS


class SolveCrashError(ChatError):
    """The exam itself failed between two turns: nobody's zero."""

    outcome = Outcome.GRADER_CRASH


class SolveSandboxError(SolveCrashError):
    """The sandbox could not be had between two turns."""

    outcome = Outcome.SANDBOX_START


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What came of a solve.

    Attributes:
        results: Of every turn, in order; the last may be a part of one.
        turns: What was said in them.
        transcript: What is to be graded; None where nothing is.
        failure: Why nothing is graded.
        engine_failure: What failed in the last request, whether or not the exam made something of it.
    """

    results: tuple[ChatResult, ...]
    turns: tuple[Turn, ...]
    transcript: Transcript | None
    failure: ChatError | None
    engine_failure: ChatError | None


class Session:
    """The chat of one solve (`runners.exams.base.Chat`)."""

    def __init__(
        self, request: Callable[[ChatRequest], ChatResult], *, sampling: Sampling, seed: int, timeout_s: float
    ) -> None:
        self._request, self._sampling, self._seed = request, sampling, seed
        self._left_s, self._left_tokens = timeout_s, sampling.max_tokens
        self.results: list[ChatResult] = []
        self.turns: list[Turn] = []
        self.failure: ChatError | None = None
        self.broken: BaseException | None = None

    def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        *,
        must_call: bool = False,
        most_tokens: int | None = None,
    ) -> ChatResult:
        """See `Chat.ask`."""
        if self.failure is not None:
            raise self.failure
        try:
            request = replace(self._next(tuple(messages), most_tokens), tools=tuple(tools), must_call=must_call)
            result = self._request(request)
        except ChatError as error:
            if not isinstance(error, ToolFormatError) or error.partial is None:
                self.failure = error
            if error.partial is not None:
                self._take(tuple(messages), error.partial)
            raise
        except BaseException as error:
            self.broken = error
            raise
        self._take(tuple(messages), result)
        return result

    def transcript(self) -> Transcript:
        """See `Chat.transcript`."""
        return Transcript(tuple(self.turns))

    def _next(self, messages: tuple[Message, ...], most_tokens: int | None) -> ChatRequest:
        """The next request, with what is left of the limits; the first one has all of them."""
        if len(self.results) >= MOST_TURNS:
            raise TokensSpentError(f"no task is solved within {MOST_TURNS} turns")
        if self._left_s <= 0:
            raise GenerationTimeoutError("the time for the whole solve was used up by earlier turns")
        if self._left_tokens is not None and self._left_tokens <= 0:
            raise TokensSpentError("the tokens for the whole solve were used up by earlier turns")
        caps = [cap for cap in (self._left_tokens, most_tokens) if cap is not None]
        sampling = replace(self._sampling, max_tokens=min(caps, default=None))
        return ChatRequest(messages=messages, sampling=sampling, seed=self._seed, timeout_s=self._left_s)

    def _take(self, messages: tuple[Message, ...], result: ChatResult) -> None:
        self.results.append(result)
        self.turns.append(Turn(messages, reply_of(result)))
        self._left_s -= max(0.0, result.ended_s - result.started_s - result.missed_s)
        if self._left_tokens is not None:
            self._left_tokens -= _generated(result)


def reply_of(result: ChatResult) -> Reply:
    """The reply as exams see it."""
    return Reply(result.text, result.reasoning or None, result.finish_reason, result.tool_calls)


def _generated(result: ChatResult) -> int:
    if result.usage is not None and result.usage.completion_tokens is not None:
        return result.usage.completion_tokens
    if result.timings is not None and result.timings.predicted_n is not None:
        return result.timings.predicted_n
    return sum(event.tokens or 1 for event in result.events if event.kind in TOKEN_KINDS)


def solve(exam: Exam, task: Task, session: Session, box: Box) -> Solved:
    """Has `exam` solve `task`. A failure of the engine stays one, whatever the exam makes of it.

    Raises:
        CancelledError: Nobody wants to know any more.
        Exception: What the engine's client raised that is no `ChatError`.
    """
    transcript, failure = None, None
    try:
        transcript = exam.solve(task, session, box)
    except CancelledError:
        raise
    except ChatError as error:
        failure = error
    except Exception as error:
        if session.broken is not None:
            raise
        no_sandbox = isinstance(error, SandboxFailed | SandboxUnavailable)
        kind = SolveSandboxError if no_sandbox else SolveCrashError
        said = str(error) if isinstance(error, RunnersError) else f"{type(error).__name__}: {error}"
        failure = kind(f"the task could not be solved: {said}")
    if isinstance(session.failure, CancelledError):
        raise session.failure
    # Of the classes of failures that a session keeps, budget's alone leaves something to be graded.
    lost = session.failure is not None and outcome_class(session.failure.outcome) is not OutcomeClass.BUDGET
    if lost or (transcript is None and failure is None):
        transcript, failure = None, session.failure or SolveCrashError("the exam brought no transcript")
    return Solved(
        results=tuple(session.results),
        turns=tuple(session.turns),
        transcript=transcript,
        failure=failure,
        engine_failure=session.failure,
    )
