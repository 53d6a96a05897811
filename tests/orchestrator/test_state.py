"""The state machine: what it does in named situations, and what holds in every history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator import events as ev
from orchestrator.commits import plain
from orchestrator.journal import DAMAGED
from orchestrator.placement import Slot
from orchestrator.restore import CommittedAttempt
from orchestrator.state import SweepState
from quants.fit.verdict import Verdict, VerdictKind

if TYPE_CHECKING:
    from runners.engines.base import RefusedBy

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
    state.apply(ev.LeaseReady("L1", 1.0))
    assert [type(i) for i in state.apply(ev.NodeLost("a", "gone"))] == [ev.Blame], "no row: it may lie in a spool"
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


def test_a_cell_that_an_engine_refuses_is_tried_once_on_each_place_and_no_place_is_to_blame() -> None:
    state = state_of(cells=4, jobs=1, retries=2)
    out = state.apply(join(cells=4))
    refused = []
    while started := [order for order in out if isinstance(order, ev.StartLease)]:
        refused.append(started[0].cell_id)
        lease = started[0].lease_id
        out = state.apply(ev.LeaseEnded(lease, "failed", "server_start", "no such flag", refused_by="place"))
        assert not [order for order in out if isinstance(order, ev.Quarantine)]
    assert sorted(refused) == ["c0", "c1", "c2", "c3"]
    assert state.complete


def test_a_cell_that_one_engine_refuses_goes_to_another_node_and_never_back() -> None:
    state = state_of(jobs=1, retries=2)
    state.apply(join("a"))
    state.apply(join("b"))
    nodes = []
    while leases := state.leases():
        ((lease, (_, slot_id)),) = leases.items()
        nodes.append(slot_id[0])
        refused_by: RefusedBy = "place" if slot_id[0] == "a" else ""
        state.apply(ev.LeaseEnded(lease, "failed", "server_start", "no such flag", refused_by=refused_by))
    assert nodes.count("a") == 1
    assert nodes.count("b") == 3


UNKNOWN = "unknown model architecture: 'llama9'"


def two_cards(node: str, build: str | None) -> ev.NodeJoined:
    """A node with two cards and one program for both."""
    slots = tuple(Slot((node, card), node, "hw") for card in ("gpu0", "gpu1"))
    joined = ev.NodeJoined(node, slots, {"c0": {"gpu0": OK, "gpu1": OK}})
    return joined if build is None else replace(joined, programs={"c0": f"llama-server ({build})"})


def refusals(state: SweepState, *, served_by: frozenset[str] = frozenset()) -> list[str]:
    """Lets every lease on another node than `served_by` be refused by its program; the nodes, in order."""
    nodes = []
    while refused := [(lease, slot_id[0]) for lease, (_, slot_id) in state.leases().items()]:
        lease, node = refused[0]
        if node in served_by:
            break
        nodes.append(node)
        state.apply(ev.LeaseEnded(lease, "failed", "unsupported_model", UNKNOWN, refused_by="program"))
    return nodes


def test_what_a_program_refuses_is_loaded_once_by_it_however_many_cards_and_nodes_have_it() -> None:
    state = state_of(jobs=2, retries=2)
    for node in ("a", "b"):
        state.apply(two_cards(node, "b1-abc"))
    assert len(refusals(state)) == 1
    assert state.complete


def test_a_node_with_another_build_of_the_program_is_tried() -> None:
    state = state_of(jobs=1, retries=2)
    state.apply(two_cards("old", "b1-abc"))
    state.apply(two_cards("new", "b2-def"))
    tried = refusals(state, served_by=frozenset({"new"}))
    assert tried in ([], ["old"])
    ((_, (_, slot_id)),) = state.leases().items()
    assert slot_id[0] == "new"


def test_builds_that_are_not_known_are_one_for_each_node() -> None:
    state = state_of(jobs=1, retries=2)
    for node in ("a", "b"):
        state.apply(two_cards(node, None))
    assert sorted(refusals(state)) == ["a", "b"]


def test_a_refusal_outlives_the_driver_and_ends_where_another_build_is_there() -> None:
    state = state_of(jobs=1, retries=2)
    state.apply(two_cards("a", "b1-abc"))
    out = state.apply(ev.LeaseEnded("L1", "failed", "unsupported_model", UNKNOWN, refused_by="program"))
    (blamed,) = (each for each in out if isinstance(each, ev.Blame))
    assert (blamed.refused_by, blamed.program) == ("program", "llama-server (b1-abc)")
    line = {"event": "blamed", **plain(blamed)}
    for build, leases in (("b1-abc", 0), ("b2-def", 1)):
        again = state_of(jobs=1, retries=2)
        again.restore([], [line])
        again.apply(two_cards("z", build))
        assert len(again.leases()) == leases, build


def test_a_node_that_would_refuse_it_as_well_is_told_with_the_reason() -> None:
    state = state_of(jobs=1, retries=2)
    state.restore([], [{"event": "blamed", **plain(REFUSED)}])
    state.apply(two_cards("z", "b1-abc"))
    assert list(state.unplaced().values()) == [
        [f"z/{card}: llama-server (b1-abc) refuses it: {UNKNOWN}" for card in ("gpu0", "gpu1")]
    ]


REFUSED = ev.Blame("cell", "c0", "a", "gpu0", UNKNOWN, "unsupported_model", "program", "llama-server (b1-abc)")


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
        [CommittedAttempt("c0j0", 1, final=True, outcome_class="model")],
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


def test_numbers_that_an_unreadable_line_may_have_given_out_are_left_out() -> None:
    state = state_of(jobs=3)
    state.restore(
        [CommittedAttempt("c0j0", 1, final=True, outcome_class="model")],
        [
            {"event": "assigned", "job_id": "c0j1", "attempt": 3, "lease_id": "L7"},
            {"event": DAMAGED, "line": 2, "events": 2},
        ],
    )
    assert state.apply(join())[1:3] == [ev.AssignJob("L8", "c0j1", 6), ev.AssignJob("L8", "c0j2", 3)]


def test_a_row_that_is_kept_already_is_dropped_and_counts_for_nothing() -> None:
    state = state_of(jobs=1, retries=1)
    state.restore([CommittedAttempt("c0j0", 1, final=False, outcome_class="infrastructure")], [])
    assert state.apply(offer("c0j0", 1, outcome="server_crash")) == [ev.Drop("c0j0", 1)]
    assert not state.complete, "one failure is one failure, however often its row is offered"


def test_a_result_that_comes_late_stands_instead_of_a_failure() -> None:
    state = state_of(jobs=1, retries=0)
    state.restore([CommittedAttempt("c0j0", 2, final=True, outcome_class="infrastructure")], [])
    assert state.apply(offer("c0j0", 1)) == [ev.Commit("c0j0", 1, final=True)]
    assert state.apply(offer("c0j0", 3)) == [ev.Commit("c0j0", 3, final=False)]


def test_one_failed_load_on_the_only_slot_that_fits_does_not_strand_a_cell() -> None:
    state = state_of(jobs=1)
    state.apply(join("small", verdict=TOO_BIG))
    state.apply(join("big"))
    out = state.apply(ev.LeaseEnded("L1", "failed", "server_start", "out of memory"))
    assert ev.StartLease("L2", "c0", "big", "cpu") in out
    for lease in ("L2", "L3"):
        out = state.apply(ev.LeaseEnded(lease, "failed", "server_start", "out of memory"))
    assert [i for i in out if isinstance(i, ev.CommitUnrun)] == [
        ev.CommitUnrun("c0j0", 4, "server_start", "out of memory", "big", "cpu")
    ]


def test_bad_nodes_do_not_use_up_the_tries_of_a_good_one() -> None:
    state = state_of(jobs=2, retries=1)
    for node in ("bad1", "bad2", "bad3", "bad4", "good"):
        state.apply(join(node))
    for _ in range(9):
        (lease, (_, (node, _))) = next(iter(state.leases().items()))
        if node == "good":
            break
        state.apply(ev.LeaseEnded(lease, "failed", "server_start", "no such device"))
    assert node == "good"


def test_a_slot_on_which_several_cells_fail_is_quarantined_longer_each_time_and_decays() -> None:
    state = state_of(cells=3, jobs=1)
    state.apply(join("n", 3))
    seconds = []
    for _ in range(4):
        for lease in state.leases():
            out = state.apply(ev.LeaseEnded(lease, "failed", "server_start", "driver error"))
            for quarantine in (i for i in out if isinstance(i, ev.Quarantine)):
                assert not state.leases(), "nothing starts there meanwhile"
                assert state.waits_for_quarantine()
                seconds.append(quarantine.seconds)
                state.apply(ev.QuarantineOver(quarantine.hostname, quarantine.place_id))
    assert seconds == sorted(set(seconds))
    assert len(seconds) == 3
    ((lease, (cell, _)),) = state.leases().items()
    state.apply(ev.LeaseReady(lease, 1.0))
    state.apply(offer(f"{cell}j0", 5, lease))
    health = next(iter(state._health.values()))
    assert (health.level, health.failed_cells) == (1, set())


def test_a_job_that_fails_where_others_go_well_is_given_up_and_its_slot_goes_on() -> None:
    state = state_of(jobs=20)
    state.apply(join())
    state.apply(ev.LeaseReady("L1", 1.0))
    poison, final = "c0j5", []
    for _ in range(60):
        for lease in list(state._book.leases.values()):
            job = lease.jobs[0] if lease.jobs else None
            if job is None:
                state.apply(ev.LeaseEnded(lease.lease_id, "done"))
                continue
            attempt = state._jobs[job].attempts
            out = state.apply(offer(job, attempt, lease.lease_id, "server_crash" if job == poison else "passed"))
            assert not [i for i in out if isinstance(i, ev.Quarantine | ev.CancelLease)]
            final += [i for i in out if isinstance(i, ev.Commit) and i.final and i.job_id == poison]
    assert state.complete
    assert final == [ev.Commit(poison, 3, final=True)]


def test_a_long_cell_outlives_many_crashes_of_its_engine() -> None:
    state = state_of(jobs=300)
    state.apply(join())
    state.apply(ev.LeaseReady("L1", 1.0))
    done = 0
    while state.leases() and done < 2000:
        lease = next(iter(state._book.leases.values()))
        if not lease.jobs:
            state.apply(ev.LeaseEnded(lease.lease_id, "done"))
            continue
        job, done = lease.jobs[0], done + 1
        crashed = done % 20 == 0
        state.apply(offer(job, state._jobs[job].attempts, lease.lease_id, "server_crash" if crashed else "passed"))
    assert state.complete
    assert not [job for job in state._jobs.values() if job.failed_final]


def two_devices(node: str, cells: int) -> ev.NodeJoined:
    slots = tuple(Slot((node, device), node, "hw") for device in ("gpu0", "gpu1"))
    return ev.NodeJoined(node, slots, {f"c{c}": {"gpu0": OK, "gpu1": OK} for c in range(cells)})


def test_a_lost_node_blames_nobody_as_long_as_several_may_have_done_it() -> None:
    state = state_of(cells=2, jobs=2)
    charges = 0
    for _ in range(6):
        state.apply(two_devices("n", 2))
        for lease in list(state.leases()):
            state.apply(ev.LeaseReady(lease, 1.0))
        running = {lease.jobs[0] for lease in state._book.leases.values() if lease.jobs}
        suspects = {job for job in running if state._jobs[job].failures is not None}
        assert len(suspects) <= 1, "of suspects one at a time runs"
        out = state.apply(ev.NodeLost("n", "power cut"))
        charged = {i.subject for i in out if isinstance(i, ev.Blame) and i.kind == "job_loss"}
        assert charged == suspects
        charges += len(charged)
    assert charges, "in the end it is known who was it"


def test_a_cell_that_takes_its_node_along_while_it_loads_is_given_up() -> None:
    state = state_of(jobs=1)
    rows = []
    for _ in range(5):
        state.apply(join())
        rows += [i for i in state.apply(ev.NodeLost("n", "out of memory")) if isinstance(i, ev.CommitUnrun)]
    assert [(row.job_id, row.outcome) for row in rows] == [("c0j0", "node_lost")]


def test_what_failed_before_a_restart_still_counts_after_it() -> None:
    state = state_of(jobs=1)
    state.apply(join())
    journal: list[dict[str, object]] = []
    for lease in ("L1", "L2"):
        orders = state.apply(ev.LeaseEnded(lease, "failed", "server_start", "bad magic"))
        journal += [
            {"event": "blamed", **{name: getattr(order, name) for name in order.__slots__}}
            for order in orders
            if isinstance(order, ev.Blame)
        ]
    again = state_of(jobs=1)
    again.restore([], journal)
    again.apply(join())
    out = again.apply(ev.LeaseEnded("L1", "failed", "server_start", "bad magic"))
    assert [type(i) for i in out] == [ev.Blame, ev.CommitUnrun]
    forgiven = state_of(jobs=1)
    forgiven.restore([], journal, forgive=True)
    forgiven.apply(join())
    out = forgiven.apply(ev.LeaseEnded("L1", "failed", "server_start", "bad magic"))
    assert [type(i) for i in out][:2] == [ev.Blame, ev.StartLease]


def test_a_cell_keeps_its_hardware_class_over_a_restart() -> None:
    state = state_of(jobs=2)
    row = CommittedAttempt("c0j0", 1, final=True, outcome_class="model", hardware_class="hw-b")
    state.restore([row], [])
    state.apply(join("a", hardware="hw-a"))
    state = state_of(jobs=2)
    state.restore([row], [])
    state.apply(ev.NodeJoined("x", (), {}))
    both = ev.NodeJoined(
        "n", (Slot(("n", "a"), "n", "hw-a", 1e12), Slot(("n", "b"), "n", "hw-b")), {"c0": {"a": OK, "b": OK}}
    )
    assert ev.StartLease("L1", "c0", "n", "b") in state.apply(both)


def test_a_suspect_is_charged_and_what_runs_beside_it_is_not() -> None:
    pairs = [("c0j0", "c0"), *((f"c1j{j}", "c1") for j in range(5))]
    state = SweepState([("c0", 10**9), ("c1", 10**9)], pairs, retries=2)
    for _ in range(2):
        state.apply(two_devices("n", 2))
        for lease in list(state.leases()):
            state.apply(ev.LeaseReady(lease, 1.0))
        running = {lease.jobs[0] for lease in state._book.leases.values()}
        out = state.apply(ev.NodeLost("n", "power cut"))
    assert running == {"c0j0", "c1j1"}
    assert [(i.kind, i.subject) for i in out if isinstance(i, ev.Blame)] == [("job_loss", "c0j0")]
    assert state._jobs["c1j1"].failures is None


def test_why_a_node_cannot_serve_a_cell_at_all_is_told_until_it_leaves() -> None:
    """An engine that knows none of the node's GPUs: there is no slot whose reason it could be."""
    state = state_of(jobs=1)
    state.apply(ev.NodeJoined("n", (), {"c0": {}}, unserved={"c0": "llama-server cannot be given a GPU of n"}))
    assert state.unplaced() == {"c0": ["llama-server cannot be given a GPU of n"]}
    state.apply(ev.NodeLost("n", "power cut"))
    assert state.unplaced() == {"c0": []}


def test_a_cell_keeps_to_the_backend_that_its_rows_came_from() -> None:
    """Equal cards behind a CUDA and a Vulkan build are two hardware classes of one slot's device."""
    state = state_of(jobs=2)
    state.restore([CommittedAttempt("c0j0", 1, final=True, outcome_class="model", hardware_class="card-vulkan")], [])
    slots = (Slot(("n", "a"), "n", "card", 1e12), Slot(("n", "b"), "n", "card", 1e9))
    classes = {"c0": {"a": "card-cuda", "b": "card-vulkan"}}
    out = state.apply(ev.NodeJoined("n", slots, {"c0": {"a": OK, "b": OK}}, classes))
    assert ev.StartLease("L1", "c0", "n", "b") in out


def test_a_node_that_was_lost_once_was_lost_one_time() -> None:
    state = state_of(jobs=1, retries=0)
    state.apply(join())
    state.apply(ev.LeaseReady("L1", 1.0))
    given_up = [each for each in state.apply(ev.NodeLost("n", "it is gone")) if isinstance(each, ev.CommitUnrun)]
    assert [each.reason for each in given_up] == ["its node was lost 1 time while it ran: it is gone"]
