"""The state machine: what it does in named situations, and what holds in every history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import events as ev
from orchestrator.placement import Slot
from orchestrator.state import PREFETCH, CommittedAttempt, SweepState
from quants.fit import Verdict, VerdictKind

OK = Verdict(VerdictKind.FITS, "fits")
TOO_BIG = Verdict(VerdictKind.TOO_BIG, "the weights alone do not fit")


def state_of(cells: int = 1, jobs: int = 3, retries: int = 2) -> SweepState:
    names = [f"c{c}" for c in range(cells)]
    pairs = [(f"{cell}j{j}", cell) for cell in names for j in range(jobs)]
    return SweepState([(name, 10**9) for name in names], pairs, retries=retries)


def join(node: str = "n", cells: int = 1, verdict: Verdict = OK, hardware: str = "hw") -> ev.NodeJoined:
    slot = Slot((node, "cpu"), node, hardware)
    return ev.NodeJoined(node, (slot,), {f"c{c}": {"cpu": verdict} for c in range(cells)})


def offer(job: str, attempt: int, lease: str | None = None, outcome: str = "passed") -> ev.AttemptOffered:
    outcome_class = "model" if outcome == "passed" else "infrastructure"
    return ev.AttemptOffered(job, attempt, outcome, outcome_class, 1.0, "hw", lease)


def test_a_node_that_joins_is_given_a_cell_and_its_first_jobs() -> None:
    assert state_of().apply(join()) == [
        ev.StartLease("L1", "c0", "n", "cpu"),
        ev.AssignJob("L1", "c0j0", 1),
        ev.AssignJob("L1", "c0j1", 1),
    ]


def test_a_finished_job_is_committed_and_the_next_one_handed_out() -> None:
    state = state_of()
    state.apply(join())
    assert state.apply(offer("c0j0", 1, "L1")) == [
        ev.Commit("c0j0", 1, final=True),
        ev.AssignJob("L1", "c0j2", 1),
        ev.CloseLease("L1"),
    ]


def test_an_infrastructure_failure_is_kept_and_tried_again_as_often_as_allowed() -> None:
    state = state_of(jobs=1, retries=1)
    state.apply(join())
    first = state.apply(offer("c0j0", 1, "L1", "server_crash"))
    assert first == [ev.Commit("c0j0", 1, final=False)]
    assert state.apply(ev.LeaseEnded("L1", "done")) == [
        ev.StartLease("L2", "c0", "n", "cpu"),
        ev.AssignJob("L2", "c0j0", 2),
        ev.CloseLease("L2"),
    ]
    assert state.apply(offer("c0j0", 2, "L2", "server_crash")) == [ev.Commit("c0j0", 2, final=True)]
    assert state.complete


def test_a_lost_node_gives_its_jobs_back_with_new_attempt_numbers() -> None:
    state = state_of(jobs=1)
    state.apply(join("a"))
    assert state.apply(ev.NodeLost("a", "gone")) == []
    assert ev.AssignJob("L2", "c0j0", 2) in state.apply(join("b"))


def test_a_row_that_outlived_its_node_ends_the_job_and_a_second_one_is_kept_as_not_final() -> None:
    state = state_of(jobs=1)
    state.apply(join("a"))
    state.apply(ev.NodeLost("a", "gone"))
    state.apply(join("b"))
    assert state.apply(offer("c0j0", 1)) == [ev.Commit("c0j0", 1, final=True)]
    assert state.apply(offer("c0j0", 2, "L2")) == [ev.Commit("c0j0", 2, final=False)]


def test_a_cell_that_never_loads_ends_with_a_row_for_each_of_its_jobs() -> None:
    state = state_of(jobs=2, retries=1)
    state.apply(join())
    state.apply(ev.LeaseEnded("L1", "failed", "server_start", "bad magic"))
    out = state.apply(ev.LeaseEnded("L2", "failed", "server_start", "bad magic"))
    assert [(i.job_id, i.outcome, i.reason) for i in out if isinstance(i, ev.CommitUnrun)] == [
        ("c0j0", "server_start", "bad magic"),
        ("c0j1", "server_start", "bad magic"),
    ]
    assert state.complete


def test_a_cell_that_did_not_load_is_tried_on_another_device_first() -> None:
    state = state_of(jobs=1)
    state.apply(join("a"))
    state.apply(join("b"))
    (lease, (_, first)) = next(iter(state.leases().items()))
    out = state.apply(ev.LeaseEnded(lease, "failed", "server_start", "out of memory"))
    assert [i.node_id for i in out if isinstance(i, ev.StartLease)] == [{"a": "b", "b": "a"}[first[0]]]


def test_a_cell_that_fits_nowhere_is_unplaced_with_its_reasons() -> None:
    state = state_of()
    assert state.apply(join(verdict=TOO_BIG)) == []
    assert state.unplaced() == {"c0": ["n/cpu: the weights alone do not fit"]}


def test_stopping_cancels_every_lease_and_starts_none() -> None:
    state = state_of(cells=2)
    state.apply(join("a", 2))
    state.apply(join("b", 2))
    assert {type(i) for i in state.apply(ev.StopRequested())} == {ev.CancelLease}
    assert state.apply(ev.LeaseEnded("L1", "cancelled")) == []
    assert state.apply(ev.LeaseEnded("L2", "cancelled")) == []
    assert state.idle
    assert not state.complete


def test_a_silent_node_gets_nothing_until_it_answers() -> None:
    state = state_of(jobs=5)
    state.apply(join())
    state.apply(ev.NodeSilent("n"))
    assert state.apply(offer("c0j0", 1, "L1")) == [ev.Commit("c0j0", 1, final=True)]
    assert ev.AssignJob("L1", "c0j2", 1) in state.apply(ev.NodeBack("n"))


def test_an_idle_slot_of_the_same_class_shares_a_long_cell() -> None:
    state = state_of(jobs=30)
    state.apply(join("a"))
    state.apply(ev.LeaseReady("L1", 0.5))
    state.apply(offer("c0j0", 1, "L1"))
    assert [i.node_id for i in state.apply(join("b")) if isinstance(i, ev.StartLease)] == ["b"]
    state = state_of(jobs=30)
    state.apply(join("a"))
    state.apply(ev.LeaseReady("L1", 0.5))
    state.apply(offer("c0j0", 1, "L1"))
    assert state.apply(join("other", hardware="another")) == [], "timings of two classes do not mix"


def test_restoring_skips_what_is_done_and_never_reuses_an_attempt_number() -> None:
    state = state_of(jobs=3)
    state.restore(
        [CommittedAttempt("c0j0", 1, final=True, used_a_try=True)],
        [
            {"event": "lease_started", "lease_id": "L7"},
            {"event": "assigned", "job_id": "c0j0", "attempt": 1, "lease_id": "L7"},
            {"event": "assigned", "job_id": "c0j1", "attempt": 3, "lease_id": "L7"},
        ],
    )
    assert state.apply(join())[:3] == [
        ev.StartLease("L8", "c0", "n", "cpu"),
        ev.AssignJob("L8", "c0j1", 4),
        ev.AssignJob("L8", "c0j2", 1),
    ]


@dataclass
class World:
    """A driver and its nodes played by hand: carries out instructions, and remembers what a disk would."""

    cells: int
    jobs: int
    retries: int
    state: SweepState = field(init=False)
    alive: set[str] = field(default_factory=set)
    leases: dict[str, tuple[str, list[tuple[str, int]]]] = field(default_factory=dict)
    closing: set[str] = field(default_factory=set)
    rows: dict[tuple[str, int], bool] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    journal: list[dict[str, object]] = field(default_factory=list)
    spool: list[ev.AttemptOffered] = field(default_factory=list)
    given: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The driver is killed: leases die with it, the store and the journal stay."""
        self.state = state_of(self.cells, self.jobs, self.retries)
        done = {job for (job, _), final in self.rows.items() if final}
        rows = [CommittedAttempt(job, n, job in done, used_a_try=True) for job, n in self.rows]
        self.state.restore(rows, self.journal)
        self.leases.clear()
        self.closing.clear()
        for node in sorted(self.alive):
            self.tell(join(node, self.cells))

    def tell(self, event: ev.Event) -> None:
        for order in self.state.apply(event):
            match order:
                case ev.StartLease():
                    assert order.node_id in self.alive
                    places = {node for node, _ in self.leases.values()}
                    assert order.node_id not in places, "one lease a slot"
                    self.leases[order.lease_id] = (order.node_id, [])
                    self.journal.append({"event": "lease_started", "lease_id": order.lease_id})
                case ev.AssignJob():
                    assert (order.job_id, order.attempt) not in self.given, "a number is given out once"
                    self.given.add((order.job_id, order.attempt))
                    running = [job for _, jobs in self.leases.values() for job, _ in jobs]
                    assert order.job_id not in running, "one lease a job"
                    assert order.lease_id not in self.closing
                    self.leases[order.lease_id][1].append((order.job_id, order.attempt))
                    assert len(self.leases[order.lease_id][1]) <= PREFETCH
                    self.journal.append({"event": "assigned", "job_id": order.job_id, "attempt": order.attempt})
                case ev.CloseLease():
                    self.closing.add(order.lease_id)
                case ev.Commit():
                    self.keep(order.job_id, order.attempt, final=order.final)
                case ev.CommitUnrun():
                    self.journal.append({"event": "failed_unrun", "job_id": order.job_id, "attempt": order.attempt})
                    self.keep(order.job_id, order.attempt, final=True)

    def keep(self, job: str, attempt: int, *, final: bool) -> None:
        assert (job, attempt) not in self.rows
        assert not (final and any(f for (j, _), f in self.rows.items() if j == job)), "one final row a job"
        self.rows[job, attempt] = final

    def finish(self, lease: str, outcome: str, *, deliver: bool = True) -> None:
        """The first job of a lease ends; its row arrives, or stays in the spool of a node that is cut off."""
        node, jobs = self.leases[lease]
        if jobs:
            job, attempt = jobs.pop(0)
            row = offer(job, attempt, lease, outcome)
            if deliver:
                self.tell(row)
            else:
                self.spool.append(offer(job, attempt, None, outcome))
                self.lose(node)
                return
        if lease in self.closing and not self.leases[lease][1]:
            del self.leases[lease]
            self.tell(ev.LeaseEnded(lease, "done"))

    def lose(self, node: str) -> None:
        self.alive.discard(node)
        self.leases = {key: value for key, value in self.leases.items() if value[0] != node}
        self.tell(ev.NodeLost(node, "power cut"))

    def deliver_spool(self) -> None:
        pending, self.spool = self.spool, []
        for row in pending:
            if (row.job_id, row.attempt) not in self.rows:
                self.tell(row)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["join", "lose", "pass", "fail", "cut_off", "load_fails", "restart", "spool", "silent", "back"]
        ),
        st.integers(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(cells=st.integers(1, 4), jobs=st.integers(1, 5), retries=st.integers(0, 2), steps=STEPS)
def test_every_history_ends_with_each_job_final_exactly_once(
    cells: int, jobs: int, retries: int, steps: list[tuple[str, int]]
) -> None:
    world = World(cells, jobs, retries)
    for what, which in steps:
        node = f"n{which}"
        leases = sorted(world.leases)
        lease = leases[which % len(leases)] if leases else None
        match what:
            case "join" if node not in world.alive:
                world.alive.add(node)
                world.tell(join(node, cells))
            case "lose" if node in world.alive:
                world.lose(node)
            case "silent" if node in world.alive:
                world.tell(ev.NodeSilent(node))
            case "back" if node in world.alive:
                world.tell(ev.NodeBack(node))
            case "restart":
                world.restart()
            case "spool":
                world.deliver_spool()
            case "pass" | "fail" | "cut_off" if lease is not None:
                world.tell(ev.LeaseReady(lease, 1.0))
                world.finish(lease, "server_crash" if what == "fail" else "passed", deliver=what != "cut_off")
            case "load_fails" if lease is not None:
                del world.leases[lease]
                world.tell(ev.LeaseEnded(lease, "failed", "server_start", "no memory"))
    # Then the weather turns fine: a node that works, everybody answers, every spool is delivered.
    for node in sorted(world.alive):
        world.tell(ev.NodeBack(node))
    if "last" not in world.alive:
        world.alive.add("last")
        world.tell(join("last", cells))
    world.deliver_spool()
    for _ in range(cells * jobs * (retries + 3) * 4):
        for lease in sorted(world.leases):
            if lease in world.leases:
                world.finish(lease, "passed")
    assert world.state.complete
    finals = Counter(job for (job, _), final in world.rows.items() if final)
    assert finals == Counter({f"c{c}j{j}": 1 for c in range(cells) for j in range(jobs)})
    assert world.state.idle
