"""The driver: one single-threaded loop that turns what agents say into events, and instructions into deeds.

    poll replies, node list, timers, signals -> events -> SweepState.apply -> instructions -> leases, commits, journal

Nothing durable lives here or in Ray: the store has the rows, the journal has the history, and a driver killed at any
point is replaced by starting the same command again.
"""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from orchestrator import events as ev
from orchestrator.commits import Commits, plain
from orchestrator.errors import SweepError, in_one_line
from orchestrator.file_names import log_name
from orchestrator.members import Members
from orchestrator.misfits import Misfits
from orchestrator.needs import lacking, names_of, needs_of, not_given
from orchestrator.nodes import named_binaries, named_endpoints, offer_of, remarks, to_cell_order
from orchestrator.terminal import block
from results.seed_notes import news
from results.store import StoreError
from runners.orders import CellEnded, CellEvent, ModelLoaded, PhaseChanged, RowReady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.agents import AgentCluster, Hello
    from orchestrator.journal import Journal
    from orchestrator.members import Member, News
    from orchestrator.plan import Plan
    from orchestrator.progress import Progress
    from orchestrator.rundir import RunDir
    from orchestrator.state import SweepState
    from results.store import RunStore
    from runners.exams.folder.exam import FolderExam

TICK_S = 0.5
"""How long the loop waits for anything; a signal is seen this late at most."""
GRACE_S = 60.0
"""How long a sweep waits for a node that could serve what is left."""
FAREWELL_S = 5.0
"""How long agents may take to end their engines when the cluster is gone, and some of them with it."""
STOP_S = 30.0
"""How long a sweep that stops waits for its leases to end cleanly, and then for its agents to end."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class DriverReport:
    """How a run ended: why cells were not run, and why others were left out, which nobody had named."""

    interrupted: bool = False
    trouble: SweepError | StoreError | None = None
    unplaced: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)


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
        cluster: AgentCluster,
        progress: Progress,
        named: frozenset[str] = frozenset(),
        exams: Mapping[str, FolderExam] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._run_id, self._folder = plan, run_id, folder
        self._journal, self._state = journal, state
        self._cluster, self._progress, self._clock = cluster, progress, clock
        self._needs = needs_of(plan.scoring, exams)
        self._exams = {name: exam.content.pack() for name, exam in (exams or {}).items()}
        self._members = Members(
            cluster,
            run_id,
            progress.say,
            clock,
            named_binaries(plan.cells),
            names_of(self._needs),
            named_endpoints(plan.cells),
        )
        self._commits = Commits(
            plan,
            run_id=run_id,
            folder=folder,
            store=store,
            journal=journal,
            progress=progress,
            acknowledge=self._acknowledge,
        )
        self._lease_nodes: dict[str, str] = {}
        self._quarantines: list[tuple[float, ev.QuarantineOver]] = []
        self._hopeless_since_s: float | None = None
        self._stop_deadline_s: float | None = None
        self._cluster_is_gone = False
        self._noted: set[tuple[str, str]] = set()
        self._misfits = Misfits(plan.cells, named)
        self._sizes_judged = False
        self._is_new = not cluster.local and state.jobs_done == 0
        self._signals = 0
        self._told: dict[tuple[str, str, str], str] = {}
        if state.seeding is not None:  # what an earlier start has said is not said again
            news(state.seeding.notes(changed=True), state.seeding.rule, self._told)
        self.report = DriverReport()

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> DriverReport:
        """Returns when every job has its final row, or the run cannot or shall not go on."""
        with self._signals_counted():
            try:
                while not self._over():
                    self._look_around()
                    for news in self._members.news(TICK_S):
                        self._receive(news)
            finally:
                # Agents live on for a while without the cluster's head, and those that are reached end their engines.
                self._members.dismiss(FAREWELL_S if self._cluster_is_gone else STOP_S)
        # What ended the run early says why the rest was not run; no node could have helped.
        ended_early = self.report.interrupted or self.report.trouble is not None
        self.report.left_out = self._misfits.left_out(self._state.too_big())
        unplaced = {} if ended_early else self._state.unplaced()
        self.report.unplaced = {key: why for key, why in unplaced.items() if key not in self.report.left_out}
        return self.report

    @contextmanager
    def _signals_counted(self) -> Iterator[None]:
        """Signals end the run in order; the third one at once. What was ignored before (nohup) stays ignored."""
        watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self._on_signal) for number in watched}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 2:
            raise KeyboardInterrupt

    def _over(self) -> bool:
        if self._cluster_is_gone:
            return True
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
        coming = self._members.any_coming or self._state.waits_for_quarantine()
        if not self._state.idle or coming or not self._members.was_asked:
            self._hopeless_since_s = None
            return False
        now = self._clock()
        left = self._state.unplaced().keys()
        done_without = left and left <= self._misfits.left_out(self._state.too_big()).keys()
        waits = 0.0 if self._cluster.local or done_without else GRACE_S
        if self._hopeless_since_s is None:
            self._hopeless_since_s = now
            if waits:
                self._progress.say(f"no node can serve what is left; waiting {waits:.0f} s for one")
        return now - self._hopeless_since_s >= waits

    def _stop(self) -> None:
        self._stop_deadline_s = self._clock() + STOP_S
        self._apply(ev.StopRequested())

    def _fail(self, trouble: SweepError | StoreError) -> None:
        """Ends the run for a reason that a person has to see; the first one counts."""
        if self.report.trouble is None:
            self.report.trouble = trouble
            self._stop()

    # --- nodes ------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Who came, who is gone, who does not answer, and whose quarantine is over."""
        if not self._state.stopping:
            try:
                for news in self._members.look():
                    self._receive(news)
            except SweepError as gone:
                self._cluster_is_gone = True
                self.report.trouble = self.report.trouble or gone
                return
        for news in self._members.overdue():
            self._receive(news)
        for member in self._members.silent():
            self._fall_silent(member)
        self._judge_sizes()
        now = self._clock()
        due = [over for due_s, over in self._quarantines if due_s <= now]
        self._quarantines = [(due_s, over) for due_s, over in self._quarantines if due_s > now]
        for over in due:
            self._progress.say(f"{over.hostname}/{over.place_id}: its quarantine is over; it is tried again")
            self._apply(over)

    def _judge_sizes(self) -> None:
        """Says, once every node that is there has said what it has, which cells fit none of them."""
        if self._sizes_judged or self._state.stopping or self._members.any_coming or not self._members.was_asked:
            return
        self._sizes_judged = True
        too_big = self._state.too_big()
        is_new, self._is_new = self._is_new, False
        if is_new and (wrong := self._misfits.error(too_big)) is not None:
            self._fail(wrong)  # as a sweep of this machine alone is refused; one that was begun does what it can
            return
        for cell_id, reasons in self._misfits.left_out(too_big).items():
            if ("", cell_id) not in self._noted:
                self._noted.add(("", cell_id))
                label = self._commits.cells[cell_id].label
                self._progress.say(f"{label} is left out unless a larger node joins: {'; '.join(reasons)}")

    def _fall_silent(self, member: Member) -> None:
        self._progress.say(f"{member.node.hostname} does not answer; nothing new goes there")
        self._apply(ev.NodeSilent(member.node_id))

    def _lose(self, member: Member, reason: str) -> None:
        self._journal.append("node_lost", node_id=member.node_id, hostname=member.node.hostname, reason=reason)
        self._progress.node_lost(member.node_id)
        self._progress.say(f"{member.node.hostname} is lost: {reason}")
        self._members.forget(member)
        self._apply(ev.NodeLost(member.node_id, reason))
        self._sizes_judged = False

    # --- what agents say --------------------------------------------------------------------------------------

    def _receive(self, news: News) -> None:
        member = news.member
        if self._members.get(member.node_id) is not member:
            return
        if news.lost is not None:
            self._lose(member, news.lost)
            return
        if news.reply is None:
            # It may or may not be alive: ask again, lease nothing to it meanwhile.
            if not member.silent and member.profile is not None:
                member.silent = True
                self._fall_silent(member)
            if member.profile is None:
                self._lose(member, "its agent could not be reached")
            else:
                waited_since_s = member.asked_s
                self._members.ask(member)
                member.asked_s = waited_since_s
            return
        if member.silent:
            member.silent = False
            self._apply(ev.NodeBack(member.node_id))
        if member.profile is None:
            if not self._welcome(member, news.reply):
                return
        else:
            for number, event in news.reply:
                member.seen = number
                self._hear(member, event)
        self._members.ask(member)

    def _welcome(self, member: Member, hello: Hello) -> bool:
        reason = hello.no_sandbox
        if hello.version != version("quantsweep"):
            reason = f"it has quantsweep {hello.version}, this is {version('quantsweep')}"
        if reason is not None:
            self._refuse(member, reason)
            return False
        member.profile = hello.profile
        missing = lacking(hello.profile, self._needs)
        said = (*hello.notes, *remarks(hello.profile, self._plan.cells), *not_given(missing, self._needs))
        for note in said:
            if (member.node_id, note) not in self._noted:
                self._noted.add((member.node_id, note))
                self._progress.say(f"warning: {hello.profile.hostname}: {note}")
        offer = offer_of(member.node_id, hello.profile, self._plan.cells)
        self._journal.append("node_joined", node_id=member.node_id, hostname=hello.profile.hostname)
        self._progress.node_joined(member.node_id, hello.profile)
        for spooled in hello.spooled:
            self._hear(member, spooled)
        self._apply(
            ev.NodeJoined(
                member.node_id, offer.slots, offer.verdicts, offer.classes, offer.unserved, missing, offer.programs
            )
        )
        self._sizes_judged = False
        return True

    def _refuse(self, member: Member, reason: str) -> None:
        """Leaves a node out; when it is this machine and there is no other, that is the end of the run."""
        self._members.refuse(member, reason)
        if self._cluster.local:
            self._fail(SweepError(f"nothing can be graded on this machine: {reason}"))

    def _hear(self, member: Member, event: CellEvent) -> None:
        match event:
            case PhaseChanged():
                self._progress.phase(event)
            case ModelLoaded():
                self._progress.loaded(event)
                self._apply(ev.LeaseReady(event.lease_id, event.load_s))
            case RowReady():
                hostname = member.profile.hostname if member.profile else member.node.hostname
                offered = self._commits.take(event, node_id=member.node_id, hostname=hostname)
                if offered is not None:
                    if offered.outcome_class != "infrastructure":
                        self._members.went_well(member.node_id)
                    self._apply(offered)
            case CellEnded():
                self._end_lease(event)

    def _end_lease(self, event: CellEnded) -> None:
        cell_id = self._state.leases().get(event.lease_id, ("", None))[0]
        label = self._commits.cells[cell_id].label if cell_id else "unknown"
        if event.log:
            with suppress(OSError):  # a log is worth having, and not worth losing a sweep for
                self._folder.write_log(log_name(event.lease_id, label), block(event.log))
        self._journal.append("lease_ended", lease_id=event.lease_id, how=event.how, reason=event.reason)
        if event.how == "failed":
            self._progress.say(f"lease {event.lease_id} failed: {in_one_line(event.reason)}")
        self._progress.ended(event.lease_id)
        self._lease_nodes.pop(event.lease_id, None)
        self._apply(ev.LeaseEnded(event.lease_id, event.how, event.outcome, event.reason, event.refused_by))

    # --- deeds ------------------------------------------------------------------------------------------------

    def _apply(self, event: ev.Event) -> None:
        for instruction in self._state.apply(event):
            try:
                self._do(instruction)
            except (StoreError, SweepError) as trouble:
                self._fail(trouble)
        if (seeding := self._state.seeding) is not None:
            self._progress.asked_for(self._state.jobs_total)
            for line in news(seeding.notes(changed=True), seeding.rule, self._told):
                self._progress.say(line)

    def _do(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.StartLease():
                self._start(instruction)
            case ev.AssignJob():
                self._journal.append("assigned", **plain(instruction))
                if (agent := self._agent_of(instruction.lease_id)) is not None:
                    order = self._commits.job_order(instruction.job_id, instruction.attempt)
                    agent.assign.remote(instruction.lease_id, order)
            case ev.CloseLease():
                if (agent := self._agent_of(instruction.lease_id)) is not None:
                    agent.close.remote(instruction.lease_id)
            case ev.CancelLease():
                if (agent := self._agent_of(instruction.lease_id)) is not None:
                    agent.cancel.remote(instruction.lease_id)
            case ev.Commit():
                self._commits.commit(instruction)
            case ev.CommitUnrun():
                self._commits.commit_unrun(instruction)
            case ev.Drop():
                self._commits.drop(instruction)
            case ev.Blame():
                self._journal.append("blamed", **plain(instruction))
            case ev.Quarantine():
                self._quarantine(instruction)

    def _agent_of(self, lease_id: str) -> Any:
        member = self._members.get(self._lease_nodes.get(lease_id, ""))
        return None if member is None else member.agent

    def _acknowledge(self, node_id: str, job_id: str, attempt: int) -> None:
        if (member := self._members.get(node_id)) is not None:
            member.agent.committed.remote(job_id, attempt)

    def _start(self, lease: ev.StartLease) -> None:
        member = self._members.get(lease.node_id)
        if member is None or member.profile is None:
            return  # lost in this very moment: the news of that is the next event
        cell = self._commits.cells[lease.cell_id]
        order = to_cell_order(self._plan, cell, lease, run_id=self._run_id, profile=member.profile, exams=self._exams)
        self._journal.append("lease_started", **plain(lease))
        self._lease_nodes[lease.lease_id] = lease.node_id
        self._progress.started(lease.lease_id, lease.node_id, lease.place_id, cell.label)
        member.agent.start.remote(order)

    def _quarantine(self, order: ev.Quarantine) -> None:
        self._quarantines.append((self._clock() + order.seconds, ev.QuarantineOver(order.hostname, order.place_id)))
        self._progress.say(
            f"{order.hostname}/{order.place_id}: several cells failed there one after the other; nothing is started "
            f"there for {order.seconds:.0f} s. The last failure: {in_one_line(order.reason)}"
        )
