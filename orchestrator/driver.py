"""The driver: one single-threaded loop that turns what agents say into events, and instructions into deeds.

    poll replies, node list, signals -> events -> SweepState.apply -> instructions -> leases, commits, journal

Nothing durable lives here or in Ray: the store has the rows, the journal has the history, and a driver killed at any
point is replaced by starting the same command again.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from orchestrator import events as ev
from orchestrator.cluster import reason_of
from orchestrator.errors import SweepError
from orchestrator.file_names import log_name
from orchestrator.nodes import offer_slots, to_cell_order
from orchestrator.terminal import block
from results.store import RunStore, StoreError
from runners.orders import CellEnded, CellEvent, JobOrder, ModelLoaded, NodeFacts, PhaseChanged, RowReady
from runners.outcomes import Outcome
from runners.row import unrun_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.agent import AgentHandle, Hello
    from orchestrator.cluster import Cluster, RayNode
    from orchestrator.journal import Journal
    from orchestrator.plan import Job, Plan
    from orchestrator.progress import Progress
    from orchestrator.rundir import RunDir
    from orchestrator.state import SweepState
    from profiles.types import NodeProfile

POLL_S = 1.0
"""How long an agent's poll waits for news."""
TICK_S = 0.5
"""How long the loop waits for anything; a signal is seen this late at most."""
MEMBERSHIP_S = 1.0
"""How often Ray is asked which nodes are alive."""
SILENT_S = 10.0
"""A poll that takes this much longer than it should: the node is not leased until it answers."""
GRACE_S = 60.0
"""How long a sweep waits for a node that could serve what is left."""
AGENT_RESTARTS = 3
"""How often the agent of a node that lives may die before the node is left alone."""
STOP_S = 30.0
"""How long a sweep that stops waits for its leases to end cleanly."""


@dataclass(slots=True)
class _Node:
    """A node and its agent. `pending` is the call that is under way: its hello, then poll after poll."""

    ray_node: RayNode
    agent: AgentHandle
    pending: Any
    asked_s: float
    profile: NodeProfile | None = None
    seen: int = 0
    silent: bool = False


@dataclass(slots=True)
class DriverReport:
    """How a run ended. `refused` says why a node takes no part, `unplaced` why a cell was not run."""

    interrupted: bool = False
    trouble: SweepError | StoreError | None = None
    unplaced: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class Driver:
    """Runs one plan on one cluster until every job is done, or nothing can do the rest, or it is stopped."""

    def __init__(
        self,
        plan: Plan,
        *,
        run_id: str,
        folder: RunDir,
        store: RunStore,
        journal: Journal,
        state: SweepState,
        cluster: Cluster,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._run_id, self._folder = plan, run_id, folder
        self._store, self._journal, self._state = store, journal, state
        self._cluster, self._progress, self._clock = cluster, progress, clock
        self._jobs = {job.job_id: job for job in plan.jobs}
        self._cells = {cell.cell_id: cell for cell in plan.cells}
        self._numbers = {
            job.job_id: number for cell in plan.cells for number, job in enumerate(plan.jobs_of(cell.cell_id), 1)
        }
        self._nodes: dict[str, _Node] = {}
        self._deaths: dict[str, int] = {}
        self._offered: dict[tuple[str, int], tuple[dict[str, Any], str]] = {}
        self._lease_nodes: dict[str, str] = {}
        self._membership_due_s = 0.0
        self._hopeless_since_s: float | None = None
        self._stop_deadline_s: float | None = None
        self._signals = 0
        self.report = DriverReport()

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> DriverReport:
        """Returns when every job has its final row, or the run cannot or shall not go on."""
        import ray

        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._over():
                self._watch_membership()
                waiting = {node.pending: node_id for node_id, node in self._nodes.items()}
                if not waiting:
                    time.sleep(TICK_S / 10)
                    continue
                refs = list(waiting)
                if ray.wait(refs, num_returns=1, timeout=TICK_S)[0]:
                    refs, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
                else:
                    refs = []
                for ref in refs:
                    self._receive(waiting[ref], ref)
                self._watch_silence()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._dismiss()
        self.report.unplaced = {} if self.report.interrupted else self._state.unplaced()
        return self.report

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 2:
            raise KeyboardInterrupt

    def _over(self) -> bool:
        if self._signals and not self._state.stopping:
            self.report.interrupted = True
            self._progress.say("stopping: finished results are kept, engines are being ended")
            self._stop()
        if self._state.complete or self._state.stopping:
            # Every lease is ending by itself now; what it says last, its log, is worth a moment.
            self._stop_deadline_s = self._stop_deadline_s or self._clock() + STOP_S
            return self._state.idle or self._clock() > self._stop_deadline_s
        return self._hopeless()

    def _hopeless(self) -> bool:
        """Whether nothing runs, nothing can, and no node that could has come for a while."""
        joining = any(node.profile is None for node in self._nodes.values())
        if not self._state.idle or joining or not self._membership_due_s:
            self._hopeless_since_s = None
            return False
        now = self._clock()
        if self._hopeless_since_s is None:
            self._hopeless_since_s = now
            if not self._cluster.local:
                self._progress.say(f"no node can serve what is left; waiting {GRACE_S:.0f} s for one")
        return now - self._hopeless_since_s >= (0 if self._cluster.local and self._nodes else GRACE_S)

    def _stop(self) -> None:
        self._stop_deadline_s = self._clock() + STOP_S
        self._apply(ev.StopRequested())

    # --- nodes ------------------------------------------------------------------------------------------------

    def _watch_membership(self) -> None:
        now = self._clock()
        if now < self._membership_due_s or self._state.stopping:
            return
        self._membership_due_s = now + MEMBERSHIP_S
        alive = {node.node_id: node for node in self._cluster.nodes()}
        for node_id in [node_id for node_id in self._nodes if node_id not in alive]:
            self._lose(node_id, "Ray says that the node is dead")
        for node_id, node in alive.items():
            if node_id not in self._nodes and self._deaths.get(node_id, 0) <= AGENT_RESTARTS:
                if node_id in self.report.refused:
                    continue
                agent = self._cluster.start_agent(node, self._run_id)
                self._nodes[node_id] = _Node(node, agent, agent.hello.remote(), now)

    def _watch_silence(self) -> None:
        now = self._clock()
        for node_id, node in self._nodes.items():
            if node.profile is not None and not node.silent and now - node.asked_s > POLL_S + SILENT_S:
                node.silent = True
                self._progress.say(f"{node.ray_node.hostname} does not answer; nothing new goes there")
                self._apply(ev.NodeSilent(node_id))

    def _lose(self, node_id: str, reason: str) -> None:
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        self._deaths[node_id] = self._deaths.get(node_id, 0) + 1
        self._cluster.stop_agent(node.agent)
        self._journal.append("node_lost", node_id=node_id, reason=reason)
        self._progress.node_lost(node_id)
        self._progress.say(f"{node.ray_node.hostname} is lost: {reason}")
        self._apply(ev.NodeLost(node_id, reason))

    def _dismiss(self) -> None:
        """Ends every agent, and waits as long as it takes them to end their engines."""
        import ray

        farewells = [node.agent.shutdown.remote() for node in self._nodes.values()]
        with suppress(Exception):  # what is gone needs no farewell
            ray.wait(farewells, num_returns=len(farewells), timeout=STOP_S)
        for node in self._nodes.values():
            self._cluster.stop_agent(node.agent)

    # --- what agents say --------------------------------------------------------------------------------------

    def _receive(self, node_id: str, ref: Any) -> None:
        import ray

        node = self._nodes.get(node_id)
        if node is None or node.pending is not ref:
            return
        try:
            reply = ray.get(ref)
        except ray.exceptions.ActorUnavailableError:
            # It may or may not be alive: ask again, lease nothing to it meanwhile.
            if not node.silent:
                node.silent = True
                self._apply(ev.NodeSilent(node_id))
            node.pending, node.asked_s = node.agent.poll.remote(node.seen, POLL_S), self._clock()
            return
        except ray.exceptions.RayError as error:
            self._lose(node_id, reason_of(error))
            return
        if node.silent:
            node.silent = False
            self._apply(ev.NodeBack(node_id))
        if node.profile is None:
            if not self._welcome(node_id, node, reply):
                return
        else:
            for number, event in reply:
                node.seen = number
                self._hear(node_id, event)
        if node_id in self._nodes:
            node.pending, node.asked_s = node.agent.poll.remote(node.seen, POLL_S), self._clock()

    def _welcome(self, node_id: str, node: _Node, hello: Hello) -> bool:
        reason = hello.no_sandbox
        if hello.version != version("quantsweep"):
            reason = f"it has quantsweep {hello.version}, this is {version('quantsweep')}"
        if reason is not None:
            self._refuse(node_id, node, reason)
            return False
        node.profile = hello.profile
        if hello.niceness > 0:
            self._progress.say(
                f"warning: Ray runs its workers on {hello.profile.hostname} at niceness {hello.niceness}, so other "
                "processes slow the engine down; start the cluster's nodes with RAY_worker_niceness=0"
            )
        slots, verdicts = offer_slots(node_id, hello.profile, self._plan.cells)
        self._journal.append("node_joined", node_id=node_id, hostname=hello.profile.hostname)
        self._progress.node_joined(node_id, hello.profile)
        for spooled in hello.spooled:
            self._hear(node_id, spooled)
        self._apply(ev.NodeJoined(node_id, slots, verdicts))
        return True

    def _refuse(self, node_id: str, node: _Node, reason: str) -> None:
        """Leaves a node out; when it is this machine and there is no other, that is the end of the run."""
        self.report.refused[node_id] = reason
        self._progress.say(f"{node.ray_node.hostname} takes no part: {reason}")
        self._cluster.stop_agent(node.agent)
        del self._nodes[node_id]
        if self._cluster.local:
            self.report.trouble = SweepError(f"nothing can be graded on this machine: {reason}")
            self._stop()

    def _hear(self, node_id: str, event: CellEvent) -> None:
        match event:
            case PhaseChanged():
                self._progress.phase(event)
            case ModelLoaded():
                self._progress.loaded(event)
                self._apply(ev.LeaseReady(event.lease_id, event.load_s))
            case RowReady():
                row = event.row
                if row["job_id"] not in self._jobs:
                    return
                self._offered[row["job_id"], row["attempt"]] = (row, node_id)
                self._apply(
                    ev.AttemptOffered(
                        job_id=row["job_id"],
                        attempt=row["attempt"],
                        outcome=row["outcome"],
                        outcome_class=row["outcome_class"],
                        duration_s=event.duration_s,
                        hardware_class=row["hardware_class"],
                        lease_id=event.lease_id,
                    )
                )
            case CellEnded():
                self._keep_log(event)
                self._journal.append("lease_ended", lease_id=event.lease_id, how=event.how, reason=event.reason)
                if event.how == "failed":
                    self._progress.say(f"lease {event.lease_id} failed: {event.reason}")
                self._progress.ended(event.lease_id)
                self._lease_nodes.pop(event.lease_id, None)
                self._apply(ev.LeaseEnded(event.lease_id, event.how, event.outcome, event.reason))

    def _keep_log(self, event: CellEnded) -> None:
        if event.log:
            with suppress(OSError):  # a log is worth having, and not worth losing a sweep for
                self._folder.logs.mkdir(exist_ok=True)
                cell_id = self._state.leases().get(event.lease_id, ("", None))[0]
                label = self._cells[cell_id].label if cell_id else "unknown"
                path = self._folder.logs / log_name(event.lease_id, label)
                path.write_text(block(event.log), encoding="utf-8", errors="replace")

    # --- deeds ------------------------------------------------------------------------------------------------

    def _apply(self, event: ev.Event) -> None:
        for instruction in self._state.apply(event):
            try:
                self._do(instruction)
            except (StoreError, SweepError) as trouble:
                if self.report.trouble is None:
                    self.report.trouble = trouble
                    self._stop()

    def _do(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.StartLease():
                self._start(instruction)
            case ev.AssignJob():
                self._assign(instruction)
            case ev.CloseLease():
                if (agent := self._agent_of(instruction.lease_id)) is not None:
                    agent.close.remote(instruction.lease_id)
            case ev.CancelLease():
                if (agent := self._agent_of(instruction.lease_id)) is not None:
                    agent.cancel.remote(instruction.lease_id)
            case ev.Commit():
                self._commit(instruction)
            case ev.CommitUnrun():
                self._commit_unrun(instruction)

    def _agent_of(self, lease_id: str) -> AgentHandle | None:
        node = self._nodes.get(self._lease_nodes.get(lease_id, ""))
        return None if node is None else node.agent

    def _start(self, lease: ev.StartLease) -> None:
        node = self._nodes[lease.node_id]
        if node.profile is None:
            raise LookupError(lease.node_id)
        cell = self._cells[lease.cell_id]
        order = to_cell_order(self._plan, cell, lease, run_id=self._run_id, profile=node.profile)
        self._journal.append("lease_started", **_plain(lease))
        self._lease_nodes[lease.lease_id] = lease.node_id
        self._progress.started(lease.lease_id, lease.node_id, lease.device_id, cell.label)
        node.agent.start.remote(order)

    def _assign(self, order: ev.AssignJob) -> None:
        job = self._jobs[order.job_id]
        self._journal.append("assigned", **_plain(order))
        if (agent := self._agent_of(order.lease_id)) is not None:
            agent.assign.remote(order.lease_id, self._job_order(job, order.attempt))

    def _job_order(self, job: Job, attempt: int) -> JobOrder:
        return JobOrder(
            job_id=job.job_id,
            attempt=attempt,
            exam=job.exam,
            exam_version=job.exam_version,
            seed=job.seed,
            number=self._numbers[job.job_id],
            total=len(self._plan.jobs_of(job.cell_id)),
        )

    def _commit(self, order: ev.Commit) -> None:
        row, node_id = self._offered[order.job_id, order.attempt]
        self._write({**row, "final": order.final}, order)
        del self._offered[order.job_id, order.attempt]
        if (node := self._nodes.get(node_id)) is not None:
            node.agent.committed.remote(order.job_id, order.attempt)

    def _commit_unrun(self, order: ev.CommitUnrun) -> None:
        job = self._jobs[order.job_id]
        cell = self._cells[job.cell_id]
        node = self._nodes.get(order.node_id)
        profile = node.profile if node else None
        lease = ev.StartLease("", cell.cell_id, order.node_id, order.device_id)
        cell_order = to_cell_order(self._plan, cell, lease, run_id=self._run_id, profile=profile)
        row = unrun_row(
            cell_order,
            self._job_order(job, order.attempt),
            NodeFacts(hostname=profile.hostname if profile else order.node_id[:12]),
            outcome=Outcome(order.outcome),
            error=order.reason,
            at=datetime.now(UTC),
        )
        self._journal.append("failed_unrun", **_plain(order))
        self._write({**row, "final": True}, ev.Commit(order.job_id, order.attempt, final=True))

    def _write(self, row: dict[str, Any], order: ev.Commit) -> None:
        is_new = self._store.commit(row)
        self._journal.append("committed", durable=True, **_plain(order), outcome=row["outcome"], new=is_new)
        self._progress.committed(row)


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
