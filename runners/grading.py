"""Grades replies on a thread of its own and hands finished rows over: spooled first, told to the driver then."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners import row
from runners.chat import ChatError, ChatResult, GenerationTimeoutError, ServerCrashError
from runners.errors import RunnersError
from runners.exams.base import Exam, Grade, Reply
from runners.orders import JobOrder, RowReady
from runners.outcomes import Outcome
from runners.sandbox.cleanup import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.sandbox.base import Sandbox
    from runners.spool import Spool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request: a result, or a failure that may hold a part of one.

    `columns` is the row so far, `reasons` why some of it is null. `started_s` is `time.monotonic()`.
    """

    job: JobOrder
    exam: Exam
    columns: dict[str, Any]
    reasons: dict[str, str]
    result: ChatResult | None
    failure: ChatError | None
    started: datetime
    started_s: float


class Grader:
    """One reply at a time, in the order they came. Used by one thread, which never waits for a disk.

    A grade is waited for where nothing may run beside a generation; writing its row down is not: it takes
    milliseconds, and the next request need not stand in line for an fsync.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        lease_id: str,
        scoring: dict[str, str],
        spool: Spool,
        emit: Callable[[RowReady], None],
        note_traceback: Callable[[], None],
    ) -> None:
        self._sandbox, self._lease_id, self._scoring = sandbox, lease_id, scoring
        self._spool, self._emit, self._note_traceback = spool, emit, note_traceback
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"grade-{lease_id}")
        self._graded: Future[None] | None = None
        self._written: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a reply is being graded now."""
        return self._graded is not None and not self._graded.done()

    def submit(self, answer: Answer) -> None:
        """Begins to grade `answer`, after the one before it is graded."""
        self.wait()
        self._graded = self._thread.submit(self._grade, answer)
        self._written = self._thread.submit(self._hand_over, answer)

    def wait(self) -> None:
        """Returns when nothing is being graded.

        Raises:
            RunnersError: an earlier row could not be kept on this node, so no more should be made.
        """
        if self._graded is not None:
            self._graded.result()
        if self._written is not None and self._written.done():
            self._written.result()

    def drain(self) -> None:
        """Returns when every row is handed over; raises as `wait`."""
        if self._written is not None:
            self._written.result()

    def close(self) -> None:
        """Ends the thread, when what it has is done."""
        self._thread.shutdown()

    def _grade(self, answer: Answer) -> None:
        """Completes the answer's columns; a bug in a grader is the infrastructure's failure, never the model's."""
        failure, result, columns = answer.failure, answer.result, answer.columns
        if failure is not None or result is None:
            outcome = Outcome(failure.outcome) if failure else Outcome.TRANSPORT
            columns |= row.unscored_columns(outcome, str(failure), score_max=answer.exam.score_max)
            if isinstance(failure, ServerCrashError):
                columns["grader_log"] = failure.log_tail
            elif isinstance(failure, GenerationTimeoutError):
                columns["grader_log"] = "Not graded: the answer was not finished."
            return
        columns |= self._score(answer.exam, answer.job, result)
        if result.context_full and columns["outcome"] == Outcome.MAX_TOKENS:
            error = f"the answer filled the context of {columns['context']} tokens"
            columns |= row.outcome_columns(Outcome.CONTEXT_OVERFLOW, error)

    def _score(self, exam: Exam, job: JobOrder, result: ChatResult) -> dict[str, Any]:
        began = time.monotonic()
        workdir = Path(tempfile.mkdtemp(prefix="quantsweep-grade-"))
        try:
            reply = Reply(text=result.text, reasoning=result.reasoning or None, finish_reason=result.finish_reason)
            grade: Grade = exam.grade(reply, self._sandbox, workdir)
        except RunnersError as error:
            outcome = Outcome(getattr(error, "outcome", Outcome.GRADER_CRASH))
            return row.unscored_columns(outcome, str(error), score_max=exam.score_max)
        except Exception as error:  # see above
            self._note_traceback()
            reason = f"the grader failed: {type(error).__name__}: {error}"
            return row.unscored_columns(Outcome.GRADER_CRASH, reason, score_max=exam.score_max)
        finally:
            remove_tree(workdir)
        return row.grade_columns(grade, self._scoring[job.exam], time.monotonic() - began)

    def _hand_over(self, answer: Answer) -> None:
        """Spools the row, then says that it is there."""
        ended = datetime.now(UTC)
        finished = row.finish(answer.columns, answer.reasons, started=answer.started, ended=ended)
        duration_s = time.monotonic() - answer.started_s
        self._spool.put(finished, duration_s)
        self._emit(RowReady(row=finished, lease_id=self._lease_id, duration_s=duration_s))
