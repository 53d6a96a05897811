"""Grades replies on a thread of its own and hands finished rows over: spooled first, told to the driver then."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from runners import row, textwork
from runners.bounded import HungError, within
from runners.chat import ChatError, ChatResult, GenerationTimeoutError
from runners.errors import RunnersError
from runners.files import contents_of, named_in
from runners.orders import JobOrder, RowReady
from runners.outcomes import Outcome
from runners.rowcheck import sound
from runners.scoring import grade_of
from runners.selfcheck import SelfChecks
from runners.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.exams.base import Exam, Task, Transcript
    from runners.sandbox.base import Sandbox
    from runners.spool import Spool

CANCEL_LOOK_S = 0.2
GRADING_S = 1800.0
"""How long one reply may be graded. Exams end what they run much earlier: beyond this the grader itself hangs."""

SPOOL_S = 120.0
"""How long a row may take to reach this node's disk: beyond this the disk hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one solve: a transcript to be graded, or a failure; `result` is of its last request, None if none.

    `identity` says which attempt it is, `columns` is the row so far, `reasons` why some of it is null. `started_s` is
    `time.monotonic()`.
    """

    job: JobOrder
    exam: Exam
    task: Task
    transcript: Transcript | None
    identity: dict[str, Any]
    columns: dict[str, Any]
    reasons: dict[str, str]
    result: ChatResult | None
    failure: ChatError | None
    started: datetime
    started_s: float


class _Graded(NamedTuple):
    """The columns that say how an attempt ended, and what the files that they name hold, by sha256."""

    columns: dict[str, Any]
    files: dict[str, bytes]


@dataclass(slots=True)
class _Task:
    """An answer on its way through the grader's thread. Whoever takes `claim` hands its row over, and nobody else."""

    answer: Answer
    graded: Future[None] = field(default_factory=Future)
    written: Future[None] = field(default_factory=Future)
    claim: threading.Lock = field(default_factory=threading.Lock)


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
        cancelled: threading.Event | None = None,
        grading_s: float = GRADING_S,
        spool_s: float = SPOOL_S,
    ) -> None:
        self.sandbox, self._lease_id, self._scoring = sandbox, lease_id, scoring
        self._spool, self._emit, self._note_traceback = spool, emit, note_traceback
        self._cancelled = cancelled or threading.Event()
        self._checks = SelfChecks(sandbox, note_traceback)
        self._grading_s, self._spool_s = grading_s, spool_s
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._last: _Task | None = None
        self._unkept: BaseException | None = None
        # A daemon: one that hangs in a sandbox must not keep a process from ending.
        self._thread = threading.Thread(target=self._work, name=f"grade-{lease_id}", daemon=True)
        self._thread.start()
        textwork.warm()

    @property
    def busy(self) -> bool:
        """Whether a reply is being graded now."""
        return self._last is not None and not self._last.graded.done()

    def submit(self, answer: Answer) -> None:
        """Begins to grade `answer`, after the one before it is graded; raises as `wait`."""
        self.wait()
        self._last = _Task(answer)
        self._tasks.put(self._last)

    def wait(self) -> None:
        """Returns when nothing is being graded, or nobody wants to know any more (`cancelled`).

        Raises:
            RunnersError: an earlier row could not be kept on this node, or the grader hangs; no more should be made.
        """
        task = self._last
        if task is None:
            return
        if not self._done(task.graded):
            self._abandon(task)
        if self._unkept is not None:
            raise self._unkept

    def drain(self) -> None:
        """Returns when every row is handed over; raises as `wait`."""
        if self._last is None:
            return
        self.wait()
        if not self._done(self._last.written):
            raise RunnersError(f"a row was not written within {self._grading_s:g} s")
        if self._unkept is not None:
            raise self._unkept

    def close(self, timeout_s: float) -> bool:
        """Ends the thread when what it has is done; whether that was within `timeout_s`."""
        self._tasks.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _done(self, future: Future[None]) -> bool:
        """Waits for it; False if it hangs. True as well if the lease was cancelled meanwhile."""
        deadline = time.monotonic() + self._grading_s
        while not self._cancelled.is_set():
            if futures.wait([future], min(CANCEL_LOOK_S, max(0.0, deadline - time.monotonic()))).done:
                return True
            if time.monotonic() >= deadline:
                return False
        return True

    def _abandon(self, task: _Task) -> None:
        """The grader hangs: what it was given is nobody's zero, and is tried again."""
        if not task.claim.acquire(blocking=False):
            return  # it came to an end just now
        reason = f"grading {task.answer.job.exam} did not end within {self._grading_s:g} s"
        self._deliver(task.answer, self._ungraded(task.answer, Outcome.GRADER_CRASH, reason))
        raise RunnersError(f"{reason}, and its thread could not be ended", "Start the sweep again on this machine.")

    # --- in the grader's thread -------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                graded = self._grade(task.answer)
            except BaseException as error:  # a bug in a grader is never the model's, and never ends this thread
                graded = self._ungraded(task.answer, Outcome.GRADER_CRASH, self._crash(error))
            if not task.claim.acquire(blocking=False):
                return  # given up by whoever waited, who has handed a row over
            task.graded.set_result(None)
            try:
                self._deliver(task.answer, graded)
            except BaseException as error:  # raised again where it can end the lease, at the next answer at the latest
                self._unkept = error
            task.written.set_result(None)

    def _grade(self, answer: Answer) -> _Graded:
        failure, result, transcript = answer.failure, answer.result, answer.transcript
        if failure is not None or result is None or transcript is None:
            outcome = Outcome(failure.outcome) if failure else Outcome.TRANSPORT
            graded = self._ungraded(answer, outcome, str(failure))
            if tail := getattr(failure, "log_tail", ""):
                graded.columns["grader_log"] = tail
            elif isinstance(failure, GenerationTimeoutError):
                graded.columns["grader_log"] = "Not graded: the answer was not finished."
            return graded
        graded = self._score(answer, transcript)
        columns = graded.columns
        if result.context_full and columns["outcome"] == Outcome.MAX_TOKENS:
            error = f"the answer filled the context of {answer.columns['context']} tokens"
            if changed := json.loads(answer.columns.get("deviations") or "[]"):
                error = f"{error} ({'; '.join(changed)})"
            columns.update(row.outcome_columns(Outcome.CONTEXT_OVERFLOW, error))
        elif result.cut_short and columns["outcome"] == Outcome.MAX_TOKENS:
            columns["error"] = result.cut_short
        return graded

    def _score(self, answer: Answer, transcript: Transcript) -> _Graded:
        """The grade, beside what this machine is found to make of the exam: looked at here, where no timing runs."""
        check = self._checks.of(answer.exam)
        graded = self._scored(answer, transcript)
        graded.columns["exam_check"] = check
        return graded

    def _scored(self, answer: Answer, transcript: Transcript) -> _Graded:
        began = time.monotonic()
        try:
            grade = grade_of(answer.exam, answer.task, transcript, self.sandbox, self._note_traceback)
            columns = row.grade_columns(grade, self._scoring[answer.job.exam], time.monotonic() - began)
            return _Graded(columns, contents_of(grade.files))
        except RunnersError as error:
            return self._ungraded(answer, Outcome(getattr(error, "outcome", Outcome.GRADER_CRASH)), str(error))
        except OSError as error:  # no room, no inodes, no temporary folder: say which
            self._note_traceback()
            reason = f"this machine could not grade: {error.strerror or error} ({error.filename or 'no file'})"
            return self._ungraded(answer, Outcome.GRADER_CRASH, reason)

    def _crash(self, error: BaseException) -> str:
        with contextlib.suppress(Exception):  # it formats the error, whose methods are the grader's
            self._note_traceback()
        return f"the grader failed: {told(error)}"

    def _ungraded(self, answer: Answer, outcome: Outcome, reason: str) -> _Graded:
        return _Graded(row.unscored_columns(outcome, reason, score_max=answer.exam.score_max), {})

    def _deliver(self, answer: Answer, graded: _Graded) -> None:
        """Spools the row, then says that it is there.

        Raises:
            RunnersError: it could not be spooled. It is told all the same: as long as the driver lives it commits it,
                and if the driver dies as well the job is only run again.
        """
        ended = datetime.now(UTC)
        columns = {**answer.columns, **graded.columns}
        finished = row.finish(columns, answer.reasons, started=answer.started, ended=ended)
        whole = sound(finished, {**answer.identity, "started_at": answer.started.isoformat()})
        files = {file.sha256: graded.files[file.sha256] for file in named_in(whole)}
        duration_s = time.monotonic() - answer.started_s
        unkept: Exception | None = None
        try:
            within(self._spool_s, "writing a row to the spool", lambda: self._spool.put(whole, duration_s, files))
        except (RunnersError, HungError) as error:
            unkept = error
        self._emit(RowReady(row=whole, lease_id=self._lease_id, duration_s=duration_s, files=files))
        if unkept is not None:
            raise RunnersError(str(unkept)) from unkept
