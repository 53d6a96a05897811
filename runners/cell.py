"""A cell on this node: fetch the file, load it once, answer and grade job after job, unload. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from quants.errors import QuantsError
from quants.models import EndpointModel
from runners import orders, row
from runners.asking import PROGRESS_EVERY_S, WORDS_ON_CANCEL, Asker
from runners.bandwidth import with_bandwidth
from runners.bounded import Closing, HungError, within
from runners.chat import (
    CancelledError,
    ChatError,
    RefusedError,
)
from runners.cost import cost_columns
from runners.devicecheck import gpu_buffer_bytes
from runners.devicelock import lock_keys, take
from runners.engines.base import EngineError, LoadError, Served
from runners.engines.settings import EndpointSettings
from runners.errors import RunnersError
from runners.exams.box import Box
from runners.grading import Answer, Grader
from runners.hosted import UNLOAD_S, HostedModel
from runners.modelfile import ModelChangedError
from runners.outcomes import Outcome, OutcomeClass, outcome_class
from runners.pacing import Pacing
from runners.patience import Patience
from runners.process import log_path
from runners.solving import Session, solve
from runners.spool import Spool, state_dir
from runners.texts import text_columns
from runners.turns import measure_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from profiles.types import Device
    from runners.devicelock import DeviceLock
    from runners.engines.base import RefusedBy
    from runners.exams.base import Exam

GRADER_CLOSE_S = 15.0
"""What a lease that ends gives a grading that is under way; its row is not lost but made again."""
CANCEL_S = 15.0
"""How soon a fetch has to end that nobody wants any more."""
LOCK_CLOSE_S = 5.0
LOG_TAIL_BYTES = 256 * 1024


class _Ended(Exception):  # noqa: N818 - control flow inside this module, nothing anybody catches elsewhere
    """The cell cannot go on."""

    def __init__(self, how: str, outcome: str = "", reason: str = "", *, refused_by: RefusedBy = "") -> None:
        super().__init__(reason)
        self.how, self.outcome, self.reason, self.refused_by = how, outcome, reason, refused_by


def _close_grader(grader: Grader) -> None:
    if not grader.close(GRADER_CLOSE_S):
        raise HungError(f"a grading was still under way after {GRADER_CLOSE_S:g} s, and its result is dropped")


class CellRun:
    """One lease. `run` blocks until it is over; `assign`, `close` and `cancel` may be called from any thread.

    Every event goes to `emit`, rows only after they are spooled. The last event is always `CellEnded`, and there is
    exactly one, whatever fails.
    """

    def __init__(
        self,
        order: orders.CellOrder,
        *,
        node: orders.NodeFacts,
        devices: Sequence[Device],
        emit: Callable[[orders.CellEvent], None],
        neighbours: Callable[[], list[str]] = list,
    ) -> None:
        self.order = order
        self._node, self._devices, self._emit, self._neighbours = node, devices, emit, neighbours
        self._jobs: queue.SimpleQueue[orders.JobOrder | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._log_path = log_path(state_dir() / "logs" / order.run_id, f"{order.cell.cell_id}-{order.lease_id}")
        self._closing = Closing()
        self._locks: list[DeviceLock] = []
        self._hosted = HostedModel(
            order, devices=devices, log_path=self._log_path, cancelled=self._cancelled, note=self._note
        )
        self._exams: dict[str, Exam] = {}
        self._patience = Patience(order.reloads)
        engine = order.cell.engine
        self._pacing = Pacing(engine.pause_s if isinstance(engine, EndpointSettings) else 0.0)

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
        """Serves the cell until it is closed, cancelled, or cannot go on. Never raises."""
        ended = _Ended("failed", Outcome.SERVER_CRASH, "the lease ended without saying why")
        try:
            self._serve()
            ended = _Ended("cancelled", reason=WORDS_ON_CANCEL) if self._cancelled.is_set() else _Ended("done")
        except _Ended as why:
            ended = why
        except RunnersError as error:  # a row could not be kept: none may be lost, so no more are made
            ended = _Ended("failed", Outcome.GRADER_CRASH, str(error))
        except BaseException as error:  # an agent must outlive a bug in one cell, and the driver must hear of it
            self._note_traceback()
            ended = _Ended("failed", Outcome.SERVER_CRASH, f"{type(error).__name__}: {error}")
        finally:
            self._end(ended)

    def _serve(self) -> None:
        self._exams = self._open_exams()
        model = self._fetch()
        grader = self._open_grader()
        if self._take_device():
            model = self._fetch()  # it may have changed while we waited
        place = with_bandwidth(self.order.cell, self.order.place, alone=not self._neighbours())
        self.order = replace(self.order, place=place)
        served = self._load(model)
        while (job := self._next()) is not None:
            if not served.is_alive():
                served = self._reload()
            self._answer(served, grader, job)
        grader.drain()

    def _end(self, ended: _Ended) -> None:
        """Takes everything down, and says so: whatever fails on the way is in the log."""
        with contextlib.suppress(BaseException):  # it is only for show
            self._phase("unloading")
        self._closing.add("the engine", 2 * UNLOAD_S, self._hosted.unload)
        trouble = self._closing.close()
        log = ""
        with contextlib.suppress(BaseException):  # worth having, and not worth losing the event for
            said = [f"while the lease ended: {line}" for line in trouble]
            log = "\n".join([self._log_tail(), *said]).strip("\n")
        event = orders.CellEnded(
            lease_id=self.order.lease_id,
            how=ended.how,  # type: ignore[arg-type]  # only the literals above are raised
            outcome=ended.outcome,
            reason=ended.reason,
            log=log,
            refused_by=ended.refused_by,
        )
        try:
            self._emit(event)
        except BaseException:  # without it the driver waits for ever: once more, without what may have been too much
            self._emit(replace(event, log=""))

    # --- steps ------------------------------------------------------------------------------------------------

    def _phase(self, phase: orders.Phase, job: orders.JobOrder | None = None, **more: Any) -> None:
        where: dict[str, Any] = {"number": job.number, "total": job.total} if job else {}
        self._emit(orders.PhaseChanged(lease_id=self.order.lease_id, phase=phase, **where, **more))

    def _fetch(self) -> Path | EndpointModel:
        """The first file of the model, verified; the model itself where somebody else serves it."""
        from quants.cache import fetch

        model = self.order.cell.model
        if isinstance(model, EndpointModel):
            return model
        self._phase("fetching")
        said = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal said
            if total and time.monotonic() - said > PROGRESS_EVERY_S:
                said = time.monotonic()
                self._phase("fetching", fraction=done / total)

        def bring() -> Path:
            return fetch(model.artifact, progress=progress, cancelled=self._cancelled.is_set)

        try:
            # A disk of the network may hang in a read, where no wish to stop is heard.
            return within(CANCEL_S, "fetching the model", bring, once_cancelled=self._cancelled.is_set)
        except (QuantsError, HungError) as error:
            if self._cancelled.is_set():
                raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
            raise _Ended("failed", Outcome.ARTIFACT, str(error)) from None

    def _open_exams(self) -> dict[str, Exam]:
        """The exams that came with the order."""
        if not self.order.exams:
            return {}
        from runners.exams.folder.exam import unpack_exam

        try:
            return {name: unpack_exam(packed) for name, packed in self.order.exams.items()}
        except RunnersError as error:
            raise _Ended("failed", Outcome.GRADER_CRASH, str(error), refused_by="place") from None

    def _open_grader(self) -> Grader:
        from runners.sandbox import open_sandbox

        try:
            sandbox = open_sandbox()
        except (RunnersError, OSError) as error:  # OSError: no room for its trial run
            raise _Ended("failed", Outcome.SANDBOX_START, str(error)) from None
        grader = Grader(
            sandbox,
            lease_id=self.order.lease_id,
            scoring=self.order.scoring,
            spool=Spool.of_run(self.order.run_id),
            emit=self._emit,
            note_traceback=self._note_traceback,
            cancelled=self._cancelled,
        )
        self._closing.add("the grader", GRADER_CLOSE_S + 1, lambda: _close_grader(grader))
        return grader

    def _take_device(self) -> bool:
        """Waits until the devices are ours, one after the other; whether one had to be waited for."""
        said: list[str] = []

        def waiting(holder: str) -> None:
            said.append(holder)
            self._phase("waiting for device", holder=holder)

        what = self.order.cell.label
        for key in lock_keys(self.order.place.devices, self._devices):
            try:
                lock = take(key, sweep=self.order.sweep, what=what, cancelled=self._cancelled, waiting=waiting)
            except RunnersError as error:
                raise _Ended("failed", Outcome.SERVER_START, str(error)) from None
            if lock is None:
                raise _Ended("cancelled", reason=WORDS_ON_CANCEL)
            self._locks.append(lock)
            self._closing.add(f"the lock of {key}", LOCK_CLOSE_S, lock.release)
        return bool(said)

    def _load(self, model: Path | EndpointModel) -> Served:
        self._phase("loading")
        try:
            if isinstance(model, EndpointModel):
                served = self._hosted.connect(model)
            else:
                held = tuple(lock.descriptor for lock in self._locks if lock.descriptor is not None)
                served = self._hosted.load(self.order.cell.artifact, model, held=held)
        except (EngineError, ModelChangedError) as error:
            if self._cancelled.is_set():
                raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
            refused_by: RefusedBy = error.refused_by if isinstance(error, LoadError) else ""
            raise _Ended("failed", error.outcome, str(error), refused_by=refused_by) from None
        self._emit(orders.ModelLoaded(lease_id=self.order.lease_id, load_s=served.load_s))
        return served

    def _reload(self) -> Served:
        """The engine anew, from files that are verified anew: what took the old one down may be their change."""
        began_s = time.monotonic()
        if why := self._patience.give_up():
            raise _Ended("failed", self._patience.outcome, why)
        self._hosted.unload()
        served = self._load(self._fetch())
        self._patience.lost(time.monotonic() - began_s)
        return served

    def _next(self) -> orders.JobOrder | None:
        if self._jobs.empty():
            self._phase("waiting")
        job = self._jobs.get()
        return None if self._cancelled.is_set() else job

    def _answer(self, served: Served, grader: Grader, job: orders.JobOrder) -> None:
        from runners.exams import get_exam

        exam = get_exam(job.exam, self._exams)
        task = next(task for task in exam.tasks() if task.name == job.task)
        started, started_s = datetime.now(UTC), time.monotonic()
        shared = set(self._neighbours())
        if grader.busy:
            shared.add("grading")
        identity = row.identity_columns(
            self.order.sweep,
            self.order.cell,
            job,
            run_id=self.order.run_id,
            scoring=self.order.scoring.get(job.exam),
            node=self._node,
            place=self.order.place,
        )
        columns = (
            identity | {"grader_version": exam.grader_version} | row.server_columns(served, cold=self._hosted.cold)
        )
        if self._hosted.cold:
            self._hosted.cold = False

        asker = Asker(
            served,
            self._pacing,
            source=self.order.cell.model.source,
            cancelled=self._cancelled,
            phase=lambda name, **more: self._phase(name, job, **more),
            first_token=self._hosted.decoding,
        )
        session = Session(
            asker,
            sampling=self.order.cell.sampling,
            seed=job.seed,
            timeout_s=self.order.generation_timeout_s,
        )
        self._phase("generating", job)
        self._hosted.window("prefill")
        box = Box(grader.sandbox)
        try:
            solved = solve(exam, task, session, box)
        except CancelledError:
            raise _Ended("cancelled", reason=WORDS_ON_CANCEL) from None
        finally:
            self._close_box(box)
        if self._cancelled.is_set() and solved.failure is not None:
            raise _Ended("cancelled", reason=WORDS_ON_CANCEL)
        result, failure = solved.results[-1] if solved.results else None, solved.failure
        engine_failure = solved.engine_failure
        if (changed := self._hosted.written_to()) is not None:
            hint = "leave model files alone while a sweep uses them"
            failure = ModelChangedError(f"{changed} was written to while it was served", hint=hint, partial=result)
            engine_failure = failure
        if isinstance(engine_failure, RefusedError) and engine_failure.ends:
            by: RefusedBy = "place" if engine_failure.ends == "cell" else ""
            raise _Ended("failed", Outcome.SERVER_START, str(engine_failure), refused_by=by)
        self._judge(served, engine_failure, time.monotonic() - started_s)
        samples = self._hosted.window("idle")
        reasons = row.unknown_of_node(self._node) | row.unknown_of_model(self.order.cell.model)
        columns |= text_columns(task, served, reasons)
        columns |= row.sample_columns(
            self._hosted.load_samples,
            samples,
            reasons,
            on_gpu_bytes=gpu_buffer_bytes(served.buffers),
            reported_vram_bytes=getattr(served, "reported_vram_bytes", None),
        )
        if result is not None:
            columns |= row.timing_columns(measure_turns(solved.results), reasons)
            columns |= row.reply_columns(
                result, provided=isinstance(self.order.cell.model, EndpointModel)
            ) | row.turn_columns(solved, reasons)
            columns |= cost_columns(self.order.cell.engine, solved.results, reasons)
            depth = columns["prompt_tokens"]  # of all turns; the cache was as deep as the mean of them
            depth = None if depth is None else depth // len(solved.results)
            columns |= row.ceiling_columns(
                self.order.cell,
                self.order.place,
                prompt_tokens=depth,
                rate=columns["decode_tps"],
                reasons=reasons,
            )
        columns["shared_with"] = row.compact_json(sorted(shared | set(self._neighbours())))

        answer = Answer(
            job=job,
            exam=exam,
            identity=identity,
            columns=columns,
            reasons=reasons,
            task=task,
            transcript=solved.transcript,
            result=result,
            failure=failure,
            started=started,
            started_s=started_s,
        )
        self._phase("grading", job)
        grader.submit(answer)
        if not self.order.overlap_grading:
            grader.wait()

    def _judge(self, served: Served, failure: ChatError | None, took_s: float) -> None:
        """Whether the engine can be asked again after this."""
        if failure is None or outcome_class(failure.outcome) is not OutcomeClass.INFRASTRUCTURE:
            self._patience.answered()
            return
        self._patience.lost(took_s, failure.outcome)
        if not isinstance(failure, RefusedError) or self._patience.refused():
            served.kill()  # it may live, and cannot be trusted with the next job

    def _close_box(self, box: Box) -> None:
        """Removes what a solve left; what stays behind is in the log and costs nobody an answer."""
        try:
            box.close()
        except Exception:
            self._note_traceback()

    # --- logs -------------------------------------------------------------------------------------------------

    def _note_traceback(self) -> None:
        import traceback

        self._note(traceback.format_exc())

    def _note(self, text: str) -> None:
        with contextlib.suppress(Exception), self._log_path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)

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
