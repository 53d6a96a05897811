"""A cell on this node: what its rows say when all goes well, and when each part of it fails for real."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from quants.models import FileModel
from quants.sources.resolve import resolve, select
from results.rows import validate_row
from runners import stall
from runners.cell import CellRun
from runners.chat import Sampling
from runners.devicelock import take
from runners.engines.settings import EmbeddedSettings
from runners.orders import CellEnded, CellOrder, JobOrder, ModelLoaded, NodeFacts, PhaseChanged, Place, RowReady
from runners.spool import Spool
from runners.work import Cell
from tests.runners.tiny_gguf import CHATML

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runners.orders import CellEvent

JOB = JobOrder(job_id="v1-a", attempt=1, exam="todo", prompt_version="1", seed=1, number=1, total=2)


def order_for(model: Path, *, max_tokens: int = 40, context: int = 1024, **more: Any) -> CellOrder:
    artifact = select(resolve(str(model), base_dir=model.parent), "all")[0]
    settings = EmbeddedSettings(context=context, threads=1)
    sampling = Sampling(temperature=0.8, max_tokens=max_tokens)
    return CellOrder(
        **{
            "run_id": "run",
            "sweep": "test",
            "lease_id": "L1",
            "cell": Cell("c1", FileModel("tiny", artifact), "", settings, sampling),
            "place": Place(devices=("cpu",), engine_device="CPU", hardware_class="test"),
            "scoring": {"todo": "strict"},
            "generation_timeout_s": 60.0,
            **more,
        }
    )


class Lease:
    """A cell running in a thread, its events in a queue, as an agent has it."""

    def __init__(self, order: CellOrder) -> None:
        self.events: queue.Queue[CellEvent] = queue.Queue()
        self.seen: list[CellEvent] = []
        self.cell = CellRun(order, node=NodeFacts(hostname="box"), devices=(), emit=self.events.put)
        self.thread = threading.Thread(target=self.cell.run)
        self.thread.start()

    def wait_for(self, kind: type[Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            self.seen.append(event)
            if isinstance(event, kind):
                return event
        raise AssertionError(f"no {kind.__name__} came; seen: {self.seen}")

    def finish(self) -> CellEnded:
        ended = self.wait_for(CellEnded)
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert isinstance(ended, CellEnded)
        return ended


@pytest.fixture
def leases() -> Iterator[list[Lease]]:
    started: list[Lease] = []
    yield started
    for lease in started:
        lease.cell.cancel()
        lease.thread.join(20)


def servers() -> list[psutil.Process]:
    """The llama.cpp servers below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "embedded_child" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def engine_pid() -> int:
    """The engine itself, which its supervisor has started."""
    (process,) = [each for each in servers() if "supervisor" not in " ".join(each.cmdline())]
    return process.pid


def row_of(ready: RowReady) -> dict[str, Any]:
    """The row as the driver would complete it; it has to fit the table."""
    row = {**ready.row, "final": True}
    validate_row(row)
    return row


def test_jobs_of_a_cell_share_one_load_and_leave_nothing(tiny_model: Path, leases: list[Lease]) -> None:
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    lease.cell.assign(JOB)
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-b", seed=2, number=2))
    lease.cell.close()
    first, second = row_of(lease.wait_for(RowReady)), row_of(lease.wait_for(RowReady))
    assert first["load_s"] == second["load_s"] > 0
    assert (first["cold"], first["shared_with"], first["cached_tokens"]) == (False, "[]", 0)
    assert first["outcome"] == "max_tokens"
    assert first["outcome_class"] == "budget"
    assert first["answer_tokens"] == 40
    assert first["peak_ram_bytes"] > 5_000_000
    told = first["foreign_cpu_share"] is not None or "foreign_cpu_share" in json.loads(first["null_reasons"])
    assert told  # a request of a few tokens may be too short for it
    assert first["buffer_model_bytes"] > 0
    assert first["chat_template"] == CHATML
    for name in ("prompt", "chat_template"):
        assert first[f"{name}_sha256"] == hashlib.sha256(first[name].encode()).hexdigest()
    assert first["ttft_any_s"] <= first["e2e_s"]
    assert json.loads(first["scores"]).keys() == {"published", "strict"}
    spooled = {kept.row["job_id"] for kept in Spool.of_run("run").rows()}
    assert spooled == {"v1-a", "v1-b"}
    ended = lease.finish()
    assert ended.how == "done"
    assert "model buffer size" in ended.log
    assert not servers()
    loads = [event for event in lease.seen if isinstance(event, ModelLoaded)]
    assert len(loads) == 1


def generating_on_a_stopped_engine(lease: Lease) -> int:
    """The engine's pid, while it has the first job and cannot be done with it."""
    lease.wait_for(ModelLoaded)
    pid = engine_pid()
    os.kill(pid, signal.SIGSTOP)
    lease.cell.assign(JOB)
    while lease.wait_for(PhaseChanged).phase != "generating":
        pass
    return pid


def test_a_server_that_is_killed_costs_one_attempt_and_is_started_again(tiny_model: Path, leases: list[Lease]) -> None:
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    os.kill(generating_on_a_stopped_engine(lease), signal.SIGKILL)
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("server_crash", "infrastructure", None)
    assert row["error"]
    lease.cell.assign(dataclasses.replace(JOB, attempt=2))
    lease.cell.close()
    again = row_of(lease.wait_for(RowReady))
    assert (again["attempt"], again["outcome"]) == (2, "max_tokens")
    assert lease.finish().how == "done"
    assert not servers()


def test_time_that_runs_out_is_scored_zero_and_marked(tiny_model: Path, leases: list[Lease]) -> None:
    lease = Lease(order_for(tiny_model, max_tokens=900, generation_timeout_s=0.05))
    leases.append(lease)
    lease.cell.assign(JOB)
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("generation_timeout", "budget", 0.0)
    lease.cell.close()
    assert lease.finish().how == "done"


def test_a_context_that_fills_up_is_the_budgets(tiny_model: Path, leases: list[Lease]) -> None:
    lease = Lease(order_for(tiny_model, max_tokens=900, context=512))
    leases.append(lease)
    lease.cell.assign(JOB)
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["outcome_class"]) == ("context_overflow", "budget")
    lease.cell.close()
    lease.finish()


def test_a_file_that_changed_is_refused_before_it_is_loaded(
    tiny_model: Path, tmp_path: Path, leases: list[Lease]
) -> None:
    copy = tmp_path / "copy-F32.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    order = order_for(copy)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    lease = Lease(order)
    leases.append(lease)
    ended = lease.finish()
    assert (ended.how, ended.outcome) == ("failed", "artifact")
    assert "copy-F32.gguf" in ended.reason


def test_a_model_that_does_not_load_ends_the_lease_with_the_reason(
    tiny_model: Path, tmp_path: Path, leases: list[Lease]
) -> None:
    copy = tmp_path / "odd-F32.gguf"
    copy.write_bytes(tiny_model.read_bytes().replace(b"general.architecture", b"general.architectvre"))
    order = order_for(tiny_model)
    artifact = order.cell.artifact
    import hashlib

    file = dataclasses.replace(artifact.files[0], path=copy.name, sha256=hashlib.sha256(copy.read_bytes()).hexdigest())
    model = FileModel("odd", dataclasses.replace(artifact, files=(file,), root=str(tmp_path)))
    lease = Lease(dataclasses.replace(order, cell=dataclasses.replace(order.cell, model=model)))
    leases.append(lease)
    ended = lease.finish()
    assert (ended.how, ended.outcome) == ("failed", "unsupported_model")
    assert ended.reason
    assert not servers()


def test_a_grader_that_crashes_is_nobodys_zero(
    tiny_model: Path, leases: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runners.exams import get_exam

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(type(get_exam("todo")), "grade", broken)
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    lease.cell.assign(JOB)
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["score"]) == ("grader_crash", None)
    assert row["error"] == "the grader failed: ZeroDivisionError: a bug of ours"
    assert row["reply"]
    lease.cell.close()
    lease.finish()


def test_cancelling_ends_a_generation_at_once(tiny_model: Path, leases: list[Lease]) -> None:
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    generating_on_a_stopped_engine(lease)
    lease.cell.cancel()
    ended = lease.finish()
    assert ended.how == "cancelled"
    assert not [event for event in lease.seen if isinstance(event, RowReady)]
    assert not servers()


def test_what_grading_overlaps_is_in_the_row(tiny_model: Path, leases: list[Lease]) -> None:
    lease = Lease(order_for(tiny_model, max_tokens=200, overlap_grading=True))
    leases.append(lease)
    for number in range(3):
        lease.cell.assign(dataclasses.replace(JOB, job_id=f"v1-{number}", seed=number))
    lease.cell.close()
    rows = [row_of(lease.wait_for(RowReady)) for _ in range(3)]
    assert rows[0]["shared_with"] == "[]"
    assert {row["job_id"] for row in rows} == {"v1-0", "v1-1", "v1-2"}
    assert any(row["shared_with"] == '["grading"]' for row in rows[1:])
    lease.finish()


def test_measured_and_predicted_memory_stand_side_by_side(tiny_model: Path, leases: list[Lease]) -> None:
    place = Place(devices=("cpu",), engine_device="CPU", hardware_class="test", predicted_bytes=123)
    lease = Lease(order_for(tiny_model, place=place))
    leases.append(lease)
    lease.cell.assign(JOB)
    row = row_of(lease.wait_for(RowReady))
    assert row["predicted_bytes"] == 123
    assert row["peak_ram_anon_bytes"] > 0
    assert row["peak_ram_file_bytes"] > 0
    assert row["peak_ram_source"]
    assert row["peak_gtt_bytes"] is None
    assert "peak_gtt_bytes" in json.loads(row["null_reasons"])
    lease.cell.close()
    lease.finish()


def test_a_device_that_another_sweep_has_is_waited_for_and_says_so(tiny_model: Path, leases: list[Lease]) -> None:
    theirs = take("cpu", sweep="theirs", what="big Q8_0", cancelled=threading.Event(), waiting=pytest.fail)
    assert theirs is not None
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    lease.cell.assign(JOB)
    lease.cell.close()
    while (event := lease.wait_for(PhaseChanged)).phase != "waiting for device":
        pass
    assert event.holder is not None
    assert event.holder.startswith("big Q8_0 of sweep theirs (")
    began = time.monotonic()
    time.sleep(0.5)
    assert not servers()
    theirs.release()
    loaded = lease.wait_for(ModelLoaded)
    assert loaded.load_s < time.monotonic() - began - 0.5
    assert row_of(lease.wait_for(RowReady))["outcome"] == "max_tokens"
    assert lease.finish().how == "done"


def test_waiting_for_a_device_can_be_cancelled(tiny_model: Path, leases: list[Lease]) -> None:
    theirs = take("cpu", sweep="theirs", what="m", cancelled=threading.Event(), waiting=pytest.fail)
    assert theirs is not None
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    while lease.wait_for(PhaseChanged).phase != "waiting for device":
        pass
    lease.cell.cancel()
    assert lease.finish().how == "cancelled"
    theirs.release()


def copied(tiny_model: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy-F32.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    return copy


def test_a_file_that_is_written_to_while_it_is_served_spoils_its_answers(
    tiny_model: Path, tmp_path: Path, leases: list[Lease]
) -> None:
    copy = copied(tiny_model, tmp_path)
    lease = Lease(order_for(copy))
    leases.append(lease)
    lease.cell.assign(JOB)
    assert row_of(lease.wait_for(RowReady))["outcome"] == "max_tokens"
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-b"))
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("artifact", "infrastructure", None)
    assert "was written to while it was served" in row["error"]
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-c"))
    ended = lease.finish()
    assert (ended.how, ended.outcome) == ("failed", "artifact")
    assert "is not the file that was pinned" in ended.reason
    assert not servers()


@pytest.mark.parametrize("change", ["another", "deleted", "torn"])
def test_a_reload_takes_no_other_file_than_the_one_that_was_pinned(
    tiny_model: Path, tmp_path: Path, leases: list[Lease], change: str
) -> None:
    """The engine died, and what lies in the file's place now would load as well: a different model, without a word."""
    copy = copied(tiny_model, tmp_path)
    lease = Lease(order_for(copy))
    leases.append(lease)
    lease.cell.assign(JOB)
    lease.wait_for(RowReady)
    data = bytearray(copy.read_bytes())
    copy.unlink()
    if change != "deleted":
        data[-1] ^= 1
        copy.write_bytes(data if change == "another" else data[:-100])
    os.kill(engine_pid(), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while servers():
        assert time.monotonic() < deadline
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-b"))
    ended = lease.wait_for(CellEnded)
    assert (ended.how, ended.outcome) == ("failed", "artifact")
    assert [event.row["job_id"] for event in lease.seen if isinstance(event, RowReady)] == ["v1-a"]
    assert not servers()


def test_deaths_count_in_a_row_and_an_answer_forgives_them(tiny_model: Path, leases: list[Lease]) -> None:
    """Nine crashes in a long cell lost all its untried jobs; now only those that were running when it died."""
    lease = Lease(order_for(tiny_model, max_tokens=600, context=4096, reloads=1))
    leases.append(lease)
    lease.wait_for(ModelLoaded)
    for number in range(4):
        killed, fine = f"v1-k{number}", f"v1-f{number}"
        server = engine_pid()
        os.kill(server, signal.SIGSTOP)  # so that the answer is not there before the kill is
        lease.cell.assign(dataclasses.replace(JOB, job_id=killed))
        while lease.wait_for(PhaseChanged).phase != "generating":
            pass
        os.kill(server, signal.SIGKILL)
        assert row_of(lease.wait_for(RowReady))["outcome"] == "server_crash"
        lease.cell.assign(dataclasses.replace(JOB, job_id=fine, seed=number))
        assert row_of(lease.wait_for(RowReady))["outcome"] == "max_tokens"
    lease.cell.close()
    ended = lease.finish()
    assert ended.how == "done"


def test_an_engine_that_is_stopped_is_no_zero_where_a_reply_has_little_time(
    tiny_model: Path, leases: list[Lease]
) -> None:
    """With a limit below the looks' own patience, and in the last half minute of any, it was one; so was the next."""
    lease = Lease(order_for(tiny_model, generation_timeout_s=3.0))
    leases.append(lease)
    hung = generating_on_a_stopped_engine(lease)
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("stalled", "infrastructure", None)
    assert "is stopped (signal or debugger) and was silent for" in row["error"]
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-b"))
    lease.cell.close()
    assert row_of(lease.wait_for(RowReady))["outcome"] != "stalled"
    ended = lease.finish()
    assert ended.how == "done"
    assert not psutil.pid_exists(hung)


def test_a_hung_engine_is_nobodys_zero_and_the_next_job_gets_another(
    tiny_model: Path, leases: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIGSTOP gave generation_timeout, scored 0, job after job, from the same hung process."""
    for name in ("LOOK_AFTER_S", "LOOK_EVERY_S", "STOPPED_S"):
        monkeypatch.setattr(stall, name, 0.3)
    lease = Lease(order_for(tiny_model))
    leases.append(lease)
    lease.wait_for(ModelLoaded)
    hung = engine_pid()
    os.kill(hung, signal.SIGSTOP)
    lease.cell.assign(JOB)
    lease.cell.assign(dataclasses.replace(JOB, job_id="v1-b"))
    lease.cell.close()
    row = row_of(lease.wait_for(RowReady))
    assert (row["outcome"], row["outcome_class"], row["score"]) == ("stalled", "infrastructure", None)
    assert "is stopped" in row["error"]
    assert row["grader_log"]  # the end of the engine's own log
    again = row_of(lease.wait_for(RowReady))
    assert (again["job_id"], again["outcome_class"]) == ("v1-b", "budget")
    assert not psutil.pid_exists(hung)
    ended = lease.finish()
    assert ended.how == "done"
    assert not servers()
