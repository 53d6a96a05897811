"""A cluster in this process, by a clock that runs as fast as it is read: agents that answer as a test tells them to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from orchestrator.agents import AgentLostError, AgentUnavailableError, Hello
from orchestrator.cluster import RayNode
from profiles.types import Device, FoundEngine, FoundNeed, NodeProfile
from runners.orders import CellEnded, CellOrder, JobOrder, ModelLoaded, NodeFacts, RowReady
from runners.outcomes import Outcome
from runners.row import identity_columns, unrun_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CPU = Device(id="cpu", vendor="cpu", name="A CPU", kind="cpu", memory_total_bytes=64 << 30, memory_free_bytes=60 << 30)
TICK_S = 0.05


class Clock:
    """Seconds that pass when somebody looks."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += TICK_S
        return self.now_s


@dataclass(eq=False)
class Call:
    """A call that is under way: what it will bring, an error, or nothing yet."""

    answer: Any = None
    error: Exception | None = None

    @property
    def is_here(self) -> bool:
        return self.answer is not None or self.error is not None


class Method:
    """`agent.method.remote(...)`, as of a Ray actor."""

    def __init__(self, function: Callable[..., Call]) -> None:
        self.remote = function


@dataclass
class Behaviour:
    """What an agent does; a test changes it by subclassing `Agent` or by these."""

    hears: bool = True  # says hello
    answers: bool = True  # answers polls
    lost_at_hello: bool = False
    spooled: tuple[RowReady, ...] = ()
    needs: tuple[FoundNeed, ...] = ()
    device: Device = CPU
    engines: tuple[FoundEngine, ...] = ()


def graded(order: CellOrder, job: JobOrder, **changes: Any) -> dict[str, Any]:
    """A complete row of a job that scored full marks."""
    from datetime import UTC, datetime

    node = NodeFacts(hostname="box")
    identity = identity_columns(
        order.sweep, order.cell, job, run_id=order.run_id, scoring=None, node=node, place=order.place
    )
    row = unrun_row(identity, outcome=Outcome.PASSED, error="", at=datetime.now(UTC))
    scored = {"score": 100.0, "score_max": 100.0, "scoring": "strict", "error": None, "hardware_class": "hw"}
    return {**row, **scored, **changes}


class Agent:
    """Serves leases one job a poll: the model loads in no time, and each job is graded when its turn comes."""

    def __init__(self, cluster: InProcessCluster, node: RayNode, behaviour: Behaviour) -> None:
        self.cluster, self.node, self.behaviour = cluster, node, behaviour
        self.events: deque[Any] = deque()
        self.number = 0
        self.orders: dict[str, CellOrder] = {}
        self.jobs: dict[str, deque[JobOrder | None]] = {}
        self.acknowledged: list[tuple[str, int]] = []
        self.pending: Call | None = None
        self.is_lost = False
        for name in ("hello", "poll", "start", "assign", "close", "cancel", "committed", "shutdown"):
            setattr(self, name, Method(getattr(self, f"do_{name}")))

    def do_hello(self, _binaries: tuple[str, ...] = (), _needs: tuple[str, ...] = (), _endpoints: Any = ()) -> Call:
        if self.behaviour.lost_at_hello:
            return Call(error=AgentLostError("it died"))
        profile = NodeProfile(
            hostname=self.node.hostname,
            os="Linux",
            arch="x86_64",
            probed_at="2026-01-01T00:00:00Z",
            devices=(self.behaviour.device,),
            needs=self.behaviour.needs,
            engines=self.behaviour.engines,
        )
        return Call(Hello(version("quantsweep"), 1, profile, self.behaviour.spooled) if self.behaviour.hears else None)

    def do_poll(self, _seen: int, _wait_s: float) -> Call:
        self.pending = Call()
        return self.pending

    def settle(self) -> None:
        """Answers the poll that waits, with what there is, and does the next job of every lease."""
        if self.pending is None or self.pending.is_here or not self.behaviour.answers:
            return
        news = []
        while self.events:
            self.number += 1
            news.append((self.number, self.events.popleft()))
        if not news:
            for lease_id in list(self.jobs):
                self.work(lease_id)
        if self.is_lost:
            self.pending.error = AgentLostError("it died")
        elif self.behaviour.answers:
            self.pending.answer = news

    def work(self, lease_id: str) -> None:
        jobs = self.jobs[lease_id]
        if not jobs:
            return
        job = jobs.popleft()
        if job is None:
            del self.jobs[lease_id]
            self.events.append(CellEnded(lease_id=lease_id, how="done"))
        else:
            self.run_job(lease_id, job)

    def run_job(self, lease_id: str, job: JobOrder) -> None:
        row = self.row_of(self.orders[lease_id], job)
        self.events.append(RowReady(row=row, lease_id=lease_id, duration_s=1.0))

    def row_of(self, order: CellOrder, job: JobOrder) -> dict[str, Any]:
        return graded(order, job, node=self.node.hostname)

    def do_start(self, order: CellOrder) -> None:
        self.orders[order.lease_id] = order
        self.jobs[order.lease_id] = deque()
        self.events.append(ModelLoaded(lease_id=order.lease_id, load_s=1.0))

    def do_assign(self, lease_id: str, job: JobOrder) -> None:
        if lease_id in self.jobs:
            self.jobs[lease_id].append(job)

    def do_close(self, lease_id: str) -> None:
        if lease_id in self.jobs:
            self.jobs[lease_id].append(None)

    def do_cancel(self, lease_id: str) -> None:
        if self.jobs.pop(lease_id, None) is not None:
            self.events.append(CellEnded(lease_id=lease_id, how="cancelled", reason="the sweep was stopped"))

    def do_committed(self, job_id: str, attempt: int) -> None:
        self.acknowledged.append((job_id, attempt))

    def do_shutdown(self) -> Call:
        return Call(answer=True)


@dataclass(eq=False)
class InProcessCluster:
    """`hosts` maps node ids to host names; `make` is called for every agent that is started."""

    hosts: dict[str, str]
    make: Callable[[InProcessCluster, RayNode], Agent] = field(
        default=lambda cluster, node: Agent(cluster, node, Behaviour())
    )
    local: bool = True
    agents: list[Agent] = field(default_factory=list)
    gone: Exception | None = None

    def nodes(self) -> list[RayNode]:
        if self.gone is not None:
            raise self.gone
        return [RayNode(node_id, host, "127.0.0.1") for node_id, host in self.hosts.items()]

    def start_agent(self, node: RayNode, _run_id: str) -> Agent:
        self.agents.append(self.make(self, node))
        return self.agents[-1]

    def stop_agent(self, agent: Agent) -> None:
        agent.is_lost = True

    def answered(self, references: Sequence[Any], _timeout_s: float) -> list[Any]:
        for agent in self.agents:
            agent.settle()
        return [reference for reference in references if reference.is_here]

    def reply(self, reference: Call) -> Any:
        if reference.error is not None:
            raise reference.error
        return reference.answer


__all__ = ["Agent", "AgentUnavailableError", "Behaviour", "Call", "Clock", "InProcessCluster", "graded"]
