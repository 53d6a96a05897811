"""The agent of a node: a Ray actor that serves cells, keeps finished rows until they are committed, and answers polls.

One agent a node, owned by the driver, never restarted by Ray: a new agent finds the spool of the old one. Methods of
the group `orders` return at once and run in the order they were sent; `poll` waits in a group of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import ray

from orchestrator.agents import Hello
from orchestrator.cluster.node import node_notes
from runners.cell import CellRun
from runners.orders import CellEnded, CellEvent, CellOrder, JobOrder, NodeFacts, PhaseChanged, RowReady
from runners.outcomes import Outcome
from runners.spool import Spool

if TYPE_CHECKING:
    from profiles.types import NodeProfile

SHUTDOWN_S = 20.0


def facts_of(profile: NodeProfile) -> NodeFacts:
    """The part of a profile that every row carries."""
    return NodeFacts(
        hostname=profile.hostname,
        os=profile.os,
        cpu=profile.cpu_model,
        ram_bytes=profile.ram_total_bytes,
        governor=profile.governor,
        platform_profile=profile.platform_profile,
        drivers={device.id: device.driver for device in profile.devices if device.driver},
    )


def _no_sandbox() -> str | None:
    from runners.errors import RunnersError
    from runners.sandbox import open_sandbox

    try:
        open_sandbox()
    except RunnersError as error:
        return str(error)
    return None


class _Outbox:
    """Events in order, kept until the driver has seen them; of the phases of a lease only the latest counts."""

    def __init__(self) -> None:
        self._events: dict[int, CellEvent] = {}
        self._next = 1
        self._ready = threading.Condition()

    def put(self, event: CellEvent) -> None:
        with self._ready:
            if isinstance(event, PhaseChanged):
                stale = [
                    number
                    for number, other in self._events.items()
                    if isinstance(other, PhaseChanged) and other.lease_id == event.lease_id
                ]
                for number in stale:
                    del self._events[number]
            self._events[self._next] = event
            self._next += 1
            self._ready.notify_all()

    def take(self, seen: int, wait_s: float) -> list[tuple[int, CellEvent]]:
        """Events after number `seen`; waits up to `wait_s` seconds for the first."""
        with self._ready:
            for number in [number for number in self._events if number <= seen]:
                del self._events[number]
            self._ready.wait_for(lambda: self._events, timeout=wait_s)
            return sorted(self._events.items())


class NodeAgent:
    """Serves the cells that a driver leases to this node. `agent_class` makes the actor of it."""

    def __init__(self, run_id: str) -> None:
        from runners.leftovers import clear_leftovers

        # NVML and llama.cpp must count the cards in the same order.
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            # Ray hides every card from an actor that reserved none; an engine would inherit that.
            del os.environ["CUDA_VISIBLE_DEVICES"]
        if os.nice(0) > 0:
            # Ray starts workers at niceness 15 unless its nodes were told otherwise; only root may take it back.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, 0)
        self._run_id = run_id
        self._spool = Spool.of_run(run_id)
        self._outbox = _Outbox()
        self._runs: dict[str, tuple[CellRun, threading.Thread]] = {}
        self._lock = threading.Lock()
        self._profile: NodeProfile | None = None
        clear_leftovers()

    @ray.method(concurrency_group="orders")
    def hello(
        self,
        binaries: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        endpoints: tuple[tuple[str, str | None], ...] = (),
    ) -> Hello:
        """Probes the machine, the engine programs that the spec names, what its exams need, the keys of its endpoints,
        and lists what was left undelivered.
        """
        from profiles.probe import probe_node

        self._profile = probe_node(binaries=binaries, needs=needs, endpoints=endpoints)
        spooled = tuple(
            RowReady(row=kept.row, lease_id=None, duration_s=kept.duration_s, files=kept.files)
            for kept in self._spool.rows()
        )
        return Hello(version("quantsweep"), os.getpid(), self._profile, spooled, _no_sandbox(), node_notes())

    @ray.method(concurrency_group="orders")
    def start(self, order: CellOrder) -> None:
        """Begins a lease in a thread of its own; one that cannot be begun has ended: nobody hears what this raises."""
        try:
            self._begin(order)
        except Exception as error:
            reason = f"the lease could not be begun: {type(error).__name__}: {error}"
            ended = CellEnded(lease_id=order.lease_id, how="failed", outcome=Outcome.SERVER_START, reason=reason)
            self._emit(ended)

    def _begin(self, order: CellOrder) -> None:
        profile = self._profile
        if profile is None:
            raise RuntimeError("an agent is asked for its hello before it gets work")
        run = CellRun(
            order,
            node=facts_of(profile),
            devices=[profile.device(device_id) for device_id in order.place.devices],
            emit=self._emit,
            neighbours=lambda: self._others(order.lease_id),
        )
        thread = threading.Thread(target=run.run, name=f"lease-{order.lease_id}", daemon=True)
        with self._lock:
            self._runs[order.lease_id] = (run, thread)
        thread.start()

    @ray.method(concurrency_group="orders")
    def assign(self, lease_id: str, job: JobOrder) -> None:
        """One more job for a lease."""
        if (run := self._run(lease_id)) is not None:
            run.assign(job)

    @ray.method(concurrency_group="orders")
    def close(self, lease_id: str) -> None:
        """A lease gets no more jobs."""
        if (run := self._run(lease_id)) is not None:
            run.close()

    @ray.method(concurrency_group="orders")
    def cancel(self, lease_id: str) -> None:
        """A lease is to end now."""
        if (run := self._run(lease_id)) is not None:
            run.cancel()

    @ray.method(concurrency_group="orders")
    def committed(self, job_id: str, attempt: int) -> None:
        """The driver has this row on its disk."""
        self._spool.drop(job_id, attempt)

    @ray.method(concurrency_group="poll")
    def poll(self, seen: int, wait_s: float) -> list[tuple[int, CellEvent]]:
        """Numbered events after `seen`; an empty list after `wait_s` seconds says only that the agent is alive."""
        return self._outbox.take(seen, wait_s)

    @ray.method(concurrency_group="orders")
    def shutdown(self) -> None:
        """Ends every lease and waits until no engine is left, and nothing else of this agent's either."""
        from runners.sandbox.cgroup import leave

        with self._lock:
            runs = list(self._runs.values())
        for run, _ in runs:
            run.cancel()
        deadline = time.monotonic() + SHUTDOWN_S  # of all together: a machine may have many devices
        for _, thread in runs:
            thread.join(max(0.0, deadline - time.monotonic()))
        leave()

    def _run(self, lease_id: str) -> CellRun | None:
        with self._lock:
            found = self._runs.get(lease_id)
        return found[0] if found else None

    def _others(self, lease_id: str) -> list[str]:
        with self._lock:
            return [
                f"{run.order.cell.model.name} {run.order.cell.model.quant}".strip()
                for key, (run, _) in self._runs.items()
                if key != lease_id
            ]

    def _emit(self, event: CellEvent) -> None:
        if isinstance(event, CellEnded):
            with self._lock:
                self._runs.pop(event.lease_id, None)
        self._outbox.put(event)


AgentHandle = Any
"""A Ray actor handle of `NodeAgent`; Ray gives it no static type."""


def agent_class() -> Any:
    """The actor class: it asks Ray for no resources, is never restarted, and answers polls beside its orders."""
    options = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}
    groups = {"orders": 1, "poll": 1}
    return ray.remote(**options, concurrency_groups=groups)(NodeAgent)  # type: ignore[call-overload]  # Ray's overloads leave actors' options out
