"""A cell on this node: fetch the file, load it once, answer and grade job after job, unload. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from quants.errors import QuantsError
from runners import orders, row
from runners.chat import (
    CancelledError,
    ChatError,
    ChatRequest,
    ChatResult,
    Event,
    Message,
)
from runners.engines.base import EngineError, Served
from runners.errors import RunnersError
from runners.grading import Answer, Grader
from runners.outcomes import Outcome
from runners.spool import Spool, state_dir
from runners.timing import measure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiles.sampler import Sampler
    from profiles.samples import Phase as SamplerPhase
    from profiles.samples import Samples
    from profiles.types import Device

PROGRESS_EVERY_S = 0.25
GRADER_CLOSE_S = 15.0
LOG_TAIL_BYTES = 256 * 1024
WORDS_ON_CANCEL = "the sweep was stopped"


class _Ended(Exception):  # noqa: N818 - control flow inside this module, nothing anybody catches elsewhere
    """The cell cannot go on."""

    def __init__(self, how: str, outcome: str = "", reason: str = "") -> None:
        super().__init__(reason)
        self.how, self.outcome, self.reason = how, outcome, reason


class _TokenMeter:
    """Turns stream events into a progress report a few times a second, cheaply."""

    def __init__(self, report: Callable[[int, float], None], first_token: Callable[[], None]) -> None:
        self._report, self._first_token = report, first_token
        self._tokens = 0
        self._first_s: float | None = None
        self._next_s = 0.0

    def __call__(self, event: Event) -> None:
        if event.kind not in {"reasoning", "text", "tool"}:
            return
        if self._first_s is None:
            self._first_s = event.at_s
            self._first_token()
            self._next_s = event.at_s + PROGRESS_EVERY_S
        self._tokens += event.tokens or 1
        if event.at_s >= self._next_s:
            self._next_s = event.at_s + PROGRESS_EVERY_S
            self._report(self._tokens, self._tokens / (event.at_s - self._first_s))


class CellRun:
    """One lease. `run` blocks until it is over; `assign`, `close` and `cancel` may be called from any thread.

    Every event goes to `emit`, rows only after they are spooled. The last event is always `CellEnded`.
    """

    def __init__(
        self,
        order: orders.CellOrder,
        *,
        node: orders.NodeFacts,
        device: Device | None,
        emit: Callable[[orders.CellEvent], None],
        neighbours: Callable[[], list[str]] = list,
    ) -> None:
        self.order = order
        self._node, self._device, self._emit, self._neighbours = node, device, emit, neighbours
        self._jobs: queue.SimpleQueue[orders.JobOrder | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._log_path = state_dir() / "logs" / order.run_id / f"{order.cell_id}-{order.lease_id}.log"
        self._sampler: Sampler | None = None
        self._load_samples: Samples | None = None
        self._reloads = 0
        self._cold = True

    # --- called by the agent ----------------------------------------------------------------------------------

    def assign(self, job: orders.JobOrder) -> None:
        """One more job, after those that are there."""
        self._jobs.put(job)

    def close(self) -> None:
        """No more jobs come."""
        self._jobs.put(None)

    def cancel(self) -> None:
        """Drop what is being done and end."""
        self._cancelled.set()
        self._jobs.put(None)

    def run(self) -> None:
        """Serves the cell until it is closed, cancelled, or cannot go on."""
        served: Served | None = None
        grader: Grader | None = None
        ended = _Ended("done")
        try:
            model = self._fetch()
            grader = self._open_grader()
            served = self._load(model)
            while (job := self._next()) is not None:
                if not served.is_alive():
                    served = self._reload(model, served)
                self._answer(served, grader, job)
            grader.drain()
            if self._cancelled.is_set():
                ended = _Ended("cancelled", reason=WORDS_ON_CANCEL)
        except _Ended as why:
            ended = why
        except RunnersError as error:  # a row could not be kept: none may be lost, so no more are made
            ended = _Ended("failed", Outcome.GRADER_CRASH, str(error))
        except Exception as error:  # an agent must outlive a bug in one cell, and the driver must hear of it
            reason = f"{type(error).__name__}: {error}"
            ended = _Ended("failed", Outcome.SERVER_CRASH, reason)
            self._note_traceback()
        finally:
            self._emit(orders.PhaseChanged(lease_id=self.order.lease_id, phase="unloading"))
            if grader is not None:
                grader.close(GRADER_CLOSE_S)
            self._stop(served)
        self._emit(
            orders.CellEnded(
                lease_id=self.order.lease_id,
                how=ended.how,  # type: ignore[arg-type]  # only the literals above are raised
                outcome=ended.outcome,
                reason=ended.reason,
                log=self._log_tail(),
            )
        )

    # --- steps ------------------------------------------------------------------------------------------------

    def _phase(self, phase: orders.Phase, job: orders.JobOrder | None = None, **more: Any) -> None:
        where: dict[str, Any] = {"number": job.number, "total": job.total} if job else {}
        self._emit(orders.PhaseChanged(lease_id=self.order.lease_id, phase=phase, **where, **more))

    def _fetch(self) -> Path:
        from quants.cache import fetch

        self._phase("fetching")
        said = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal said
            if total and time.monotonic() - said > PROGRESS_EVERY_S:
                said = time.monotonic()
                self._phase("fetching", fraction=done / total)

        try:
            return fetch(self.order.artifact, progress=progress, cancelled=self._cancelled.is_set)
        except QuantsError as error:
            if self._cancelled.is_set():
                raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
            raise _Ended("failed", Outcome.ARTIFACT, str(error)) from None

    def _open_grader(self) -> Grader:
        from runners.sandbox import open_sandbox

        try:
            sandbox = open_sandbox()
        except RunnersError as error:
            raise _Ended("failed", Outcome.SANDBOX_START, str(error)) from None
        return Grader(
            sandbox,
            lease_id=self.order.lease_id,
            scoring=self.order.scoring,
            spool=Spool.of_run(self.order.run_id),
            emit=self._emit,
            note_traceback=self._note_traceback,
        )

    def _load(self, model: Path) -> Served:
        from profiles.sampler import Sampler, take_baseline
        from runners.engines import get_engine

        self._phase("loading")
        devices = [] if self._device is None else [self._device]
        baseline = take_baseline(devices)

        def sample(pid: int) -> None:
            self._stop_sampler()
            self._sampler = Sampler(pid, devices, baseline=baseline).start()

        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            served = get_engine(self.order.engine.kind, binary=self.order.engine.binary).load(
                model,
                self.order.engine,
                log_path=self._log_path,
                device=self.order.engine_device,
                cancelled=self._cancelled,
                on_spawn=sample,
            )
        except EngineError as error:
            if self._cancelled.is_set():
                raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
            raise _Ended("failed", Outcome.SERVER_START, str(error)) from None
        self._cold = served.warm_up is None
        self._load_samples = self._window("idle")
        self._emit(orders.ModelLoaded(lease_id=self.order.lease_id, load_s=served.load_s))
        return served

    def _reload(self, model: Path, served: Served) -> Served:
        self._stop(served)
        self._reloads += 1
        if self._reloads > self.order.reloads:
            raise _Ended("failed", Outcome.SERVER_CRASH, f"the engine died {self._reloads} times in this lease")
        return self._load(model)

    def _stop_sampler(self) -> None:
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()

    def _stop(self, served: Served | None) -> None:
        self._stop_sampler()
        if served is not None:
            served.stop()

    def _next(self) -> orders.JobOrder | None:
        if self._jobs.empty():
            self._phase("waiting")
        job = self._jobs.get()
        return None if self._cancelled.is_set() else job

    def _answer(self, served: Served, grader: Grader, job: orders.JobOrder) -> None:
        from runners.exams import get_exam

        exam = get_exam(job.exam)
        started, started_s = datetime.now(UTC), time.monotonic()
        shared = set(self._neighbours())
        if grader.busy:
            shared.add("grading")
        identity = row.identity_columns(self.order, job, self._node)
        columns = identity | row.server_columns(served, cold=self._cold)
        self._cold = False
        request = ChatRequest(
            messages=tuple(Message(role=m["role"], content=m["content"]) for m in exam.messages()),
            sampling=self.order.sampling,
            seed=job.seed,
            timeout_s=self.order.generation_timeout_s,
        )
        meter = _TokenMeter(
            lambda tokens, rate: self._phase("generating", job, tokens=tokens, tokens_per_s=rate),
            first_token=self._decoding,
        )
        self._phase("generating", job)
        self._window("prefill")
        result: ChatResult | None
        failure: ChatError | None = None
        try:
            result = served.chat(request, cancelled=self._cancelled, on_event=meter)
        except CancelledError:
            raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
        except ChatError as error:
            if self._cancelled.is_set():
                raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
            failure, result = error, error.partial
        samples = self._window("idle")
        reasons: dict[str, str] = {}
        columns |= row.sample_columns(self._load_samples, samples, reasons)
        if result is not None:
            columns |= row.timing_columns(measure(result), reasons) | row.reply_columns(result)
        columns["shared_with"] = row.compact_json(sorted(shared | set(self._neighbours())))

        answer = Answer(
            job=job,
            exam=exam,
            identity=identity,
            columns=columns,
            reasons=reasons,
            result=result,
            failure=failure,
            started=started,
            started_s=started_s,
        )
        self._phase("grading", job)
        grader.submit(answer)
        if not self.order.overlap_grading:
            grader.wait()

    def _window(self, phase: SamplerPhase) -> Samples | None:
        """The figures since the last call; the next window begins in `phase`. None for an engine that is not ours."""
        return None if self._sampler is None else self._sampler.reset(phase)

    def _decoding(self) -> None:
        if self._sampler is not None:
            self._sampler.mark("decode")

    # --- logs -------------------------------------------------------------------------------------------------

    def _note_traceback(self) -> None:
        import traceback

        with contextlib.suppress(OSError), self._log_path.open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc())

    def _log_tail(self) -> str:
        """The end of the engine's log, for the run folder; the file on this node is removed."""
        try:
            with self._log_path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        with contextlib.suppress(OSError):
            self._log_path.unlink()
            self._log_path.parent.rmdir()
        return text
