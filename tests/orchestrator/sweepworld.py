"""A driver and its nodes played by hand: carries out instructions, keeps what disks would keep, and objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator import events as ev
from orchestrator.leases import PREFETCH
from orchestrator.placement import Slot, whose_doing
from orchestrator.restore import CommittedAttempt
from orchestrator.seeding import Seeding
from orchestrator.state import SweepState
from quants.fit.verdict import Verdict, VerdictKind
from results.seed_notes import CellName
from runners.work import Job

if TYPE_CHECKING:
    from results.contest import Rule
    from runners.engines.base import RefusedBy

OK = Verdict(VerdictKind.FITS, "fits")
TOO_BIG = Verdict(VerdictKind.TOO_BIG, "the weights alone do not fit")
Device = tuple[str, str]


def is_endpoint(place: str) -> bool:
    """Whether it is a place in line at an endpoint: the same on every node that has it."""
    return "#" in place


@dataclass(frozen=True)
class Nature:
    """What is wrong with whom, for good: nothing here gets better by itself.

    `fits[cell][device]` for every device; `no_load` devices load nothing, `crashing` devices fail every job,
    `poison` jobs crash their engine wherever they run, `killers` take their node along. `needs` is what jobs need of a
    node, `lacking` what nodes do not have, `classes` the hardware class of devices that are not of the usual one.
    """

    fits: dict[str, dict[Device, bool]]
    no_load: frozenset[Device] = frozenset()
    crashing: frozenset[Device] = frozenset()
    poison: frozenset[str] = frozenset()
    killers: frozenset[str] = frozenset()
    needs: dict[str, frozenset[str]] = field(default_factory=dict)
    lacking: dict[str, frozenset[str]] = field(default_factory=dict)
    classes: dict[Device, str] = field(default_factory=dict)

    def runs_on(self, job: str, node: str) -> bool:
        return not self.needs.get(job, frozenset()) & self.lacking.get(node, frozenset())

    def class_of(self, device: Device) -> str:
        return self.classes.get(device, "hw")

    def is_good(self, device: Device) -> bool:
        return device not in self.no_load and device not in self.crashing


@dataclass
class Held:
    """A lease on its node."""

    cell: str
    device: Device
    jobs: list[tuple[str, int]] = field(default_factory=list)
    ready: bool = False
    closing: bool = False
    cancelled: bool = False


@dataclass
class World:
    """Steps change it; `tell` passes on what happened and checks every instruction that comes back.

    With a `rule`, jobs are the seeds of their cell, which are asked for by their scores, `shares` of full marks.

    `faults` counts, by (job, device), what steps did to a job on a device that is good; `cell_faults` the same for
    cells; whoever is given up must have had that many.
    """

    nature: Nature
    jobs: int
    retries: int
    devices: dict[str, tuple[str, ...]]
    rule: Rule | None = None
    shares: dict[str, list[float]] = field(default_factory=dict)
    state: SweepState = field(init=False)
    alive: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    leases: dict[str, Held] = field(default_factory=dict)
    rows: dict[tuple[str, int], tuple[bool, str]] = field(default_factory=dict)
    journal: list[dict[str, object]] = field(default_factory=list)
    spool: list[ev.AttemptOffered] = field(default_factory=list)
    given: set[tuple[str, int]] = field(default_factory=set)
    quarantines: list[ev.QuarantineOver] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    cell_faults: Counter[tuple[str, Device]] = field(default_factory=Counter)
    given_up: set[str] = field(default_factory=set)
    lost_while_loading: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.restart()

    @property
    def cells(self) -> list[str]:
        return list(self.nature.fits)

    def job_ids(self) -> list[str]:
        return [f"{cell}j{j}" for cell in self.cells for j in range(self.jobs)]

    # --- what happens -----------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The driver is killed: leases and quarantines die with it, the store, the journal and the spools stay."""
        pairs = [(job, job.partition("j")[0]) for job in self.job_ids()]
        self.state = SweepState(
            [(cell, 10**9) for cell in self.cells],
            pairs,
            retries=self.retries,
            needs=self.nature.needs,
            seeding=self.seeding(),
        )
        rows = [
            CommittedAttempt(
                job,
                number,
                final,
                outcome_class,
                "h",
                "d",
                "hw" if outcome_class == "model" else None,
                self.share_of(job, outcome_class),
            )
            for (job, number), (final, outcome_class) in self.rows.items()
        ]
        self.state.restore(rows, self.journal)
        self.leases.clear()
        self.quarantines.clear()
        self.silent.clear()
        for node in sorted(self.alive):
            self.tell(self.joined(node))

    def seeding(self) -> Seeding | None:
        """What a driver that starts begins with."""
        if self.rule is None:
            return None
        jobs = [Job(job, job.partition("j")[0], "exam", "1", int(job.partition("j")[2])) for job in self.job_ids()]
        return Seeding({cell: CellName("model", "default", cell) for cell in self.cells}, jobs, self.rule)

    def share_of(self, job: str, outcome_class: str) -> float | None:
        cell, _, seed = job.partition("j")
        return self.shares[cell][int(seed)] if self.rule and outcome_class == "model" else None

    def joined(self, node: str) -> ev.NodeJoined:
        slots = tuple(
            Slot((node, place), node, self.nature.class_of((node, place)), elsewhere=True)
            if is_endpoint(place)
            else Slot((node, place), node, self.nature.class_of((node, place)), devices=tuple(place.split("+")))
            for place in self.devices[node]
        )
        verdicts = {
            cell: {device: OK if fits[node, device] else TOO_BIG for device in self.devices[node]}
            for cell, fits in self.nature.fits.items()
        }
        lacking = {need: f"{node} has no {need}" for need in self.nature.lacking.get(node, ())}
        return ev.NodeJoined(node, slots, verdicts, lacking=lacking)

    def join(self, node: str) -> None:
        if node not in self.alive:
            self.alive.add(node)
            self.tell(self.joined(node))

    def lose(self, node: str) -> None:
        if node not in self.alive:
            return
        for held in self.leases.values():
            if held.device[0] == node and held.ready and held.jobs:
                self.faults[held.jobs[0][0]] += 1
            if held.device[0] == node and not held.ready:
                self.cell_faults[held.cell, held.device] += 1
                self.lost_while_loading[held.cell] += 1
        self.alive.discard(node)
        self.silent.discard(node)
        self.leases = {key: held for key, held in self.leases.items() if held.device[0] != node}
        self.tell(ev.NodeLost(node, "power cut"))

    def fall_silent(self, node: str) -> None:
        if node in self.alive:
            self.silent.add(node)
            self.tell(ev.NodeSilent(node))

    def answer_again(self, node: str) -> None:
        if node in self.silent:
            self.silent.discard(node)
            self.tell(ev.NodeBack(node))

    def fail_to_load(self, lease: str) -> None:
        held = self.leases.pop(lease)
        self.cell_faults[held.cell, held.device] += 1
        self.tell(ev.LeaseEnded(lease, "failed", "server_start", "no memory"))

    def cut_off(self, lease: str) -> None:
        """The first job of a lease ends, and its node is lost with the row in its spool."""
        held = self.leases[lease]
        self.load(lease)
        if lease in self.leases and held.jobs:
            job, attempt = held.jobs[0]
            outcome = "server_crash" if self.fails(job, held.device) else "passed"
            self.spool.append(self.row(job, attempt, None, outcome, held.device))
            self.lose(held.device[0])

    def deliver_spool(self) -> None:
        pending, self.spool = self.spool, []
        for row in pending:
            self.tell(row)

    def offer_again(self, which: int) -> None:
        """A driver was killed between a commit and its acknowledgement: the row comes once more."""
        if self.rows:
            (job, attempt), (_, outcome_class) = sorted(self.rows.items())[which % len(self.rows)]
            outcome = "passed" if outcome_class == "model" else "server_crash"
            kept, finals = dict(self.rows), self.state.jobs_done
            self.tell(self.row(job, attempt, None, outcome, ("h", "d")))
            assert self.state.jobs_done == finals
            assert {key: self.rows[key] for key in kept} == kept

    def calm(self) -> None:
        if self.quarantines:
            self.tell(self.quarantines.pop(0))

    def fails(self, job: str, device: Device) -> bool:
        return job in self.nature.poison or device in self.nature.crashing

    def load(self, lease: str) -> None:
        held = self.leases[lease]
        if held.ready:
            return
        if held.device in self.nature.no_load:
            del self.leases[lease]
            by: RefusedBy = "place" if held.device[1] == "gpu1" else ""  # an engine that would refuse it again
            self.tell(ev.LeaseEnded(lease, "failed", "server_start", "no such device", refused_by=by))
        else:
            held.ready = True
            self.tell(ev.LeaseReady(lease, 1.0))

    def progress(self, lease: str, *, fault: bool = False) -> None:
        """The next thing that happens to a lease; with `fault` its engine crashes under whatever job it has."""
        held = self.leases[lease]
        if held.device[0] in self.silent:
            return
        if held.cancelled:
            del self.leases[lease]
            self.tell(ev.LeaseEnded(lease, "cancelled", "", "the sweep was stopped"))
            return
        self.load(lease)
        if lease not in self.leases:
            return
        if held.jobs:
            job, attempt = held.jobs[0]
            if job in self.nature.killers:
                node = held.device[0]
                self.lose(node)
                self.join(node)
                return
            held.jobs.pop(0)
            bad = self.fails(job, held.device)
            if fault and not bad:
                self.faults[job] += 1
                self.cell_faults[held.cell, held.device] += 1
            self.tell(self.row(job, attempt, lease, "server_crash" if bad or fault else "passed", held.device))
        if held.closing and not held.jobs and lease in self.leases:
            del self.leases[lease]
            self.tell(ev.LeaseEnded(lease, "done"))

    def row(self, job: str, attempt: int, lease: str | None, outcome: str, device: Device) -> ev.AttemptOffered:
        outcome_class = "model" if outcome == "passed" else "infrastructure"
        hardware = self.nature.class_of(device)
        share = self.share_of(job, outcome_class)
        return ev.AttemptOffered(
            job, attempt, outcome, outcome_class, 1.0, hardware, lease, *device, "it crashed", share
        )

    # --- what the state says ----------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        for order in self.state.apply(event):
            match order:
                case ev.StartLease():
                    device = (order.node_id, order.place_id)
                    assert order.node_id in self.alive
                    assert order.node_id not in self.silent
                    held = [each.device for each in self.leases.values() if each.device[0] == order.node_id]
                    taken = {name for _, place in held for name in place.split("+")}
                    assert taken.isdisjoint(order.place_id.split("+")), "a device serves one lease"
                    in_line = {each.device[1] for each in self.leases.values() if is_endpoint(each.device[1])}
                    assert order.place_id not in in_line, "a place in line at an endpoint is one on all nodes together"
                    assert self.nature.fits[order.cell_id][device]
                    places = {(over.hostname, over.place_id) for over in self.quarantines}
                    assert whose_doing(*device) not in places, "nothing starts in quarantine"
                    self.leases[order.lease_id] = Held(order.cell_id, device)
                    self.journal.append({"event": "lease_started", "lease_id": order.lease_id})
                case ev.AssignJob():
                    self.assign(order)
                case ev.CloseLease():
                    assert not self.leases[order.lease_id].closing
                    self.leases[order.lease_id].closing = True
                case ev.CancelLease():
                    self.leases[order.lease_id].cancelled = True
                case ev.Commit():
                    outcome_class = event.outcome_class if isinstance(event, ev.AttemptOffered) else ""
                    self.keep(order.job_id, order.attempt, order.final, outcome_class)
                case ev.CommitUnrun():
                    self.journal.append({"event": "failed_unrun", "job_id": order.job_id, "attempt": order.attempt})
                    self.keep(order.job_id, order.attempt, True, "infrastructure")
                case ev.Drop():
                    assert (order.job_id, order.attempt) in self.rows, "only what is kept may be dropped"
                case ev.Blame():
                    fields = {name: getattr(order, name) for name in order.__slots__}
                    self.journal.append({"event": "blamed", **fields})
                case ev.Quarantine():
                    assert order.seconds > 0
                    self.quarantines.append(ev.QuarantineOver(order.hostname, order.place_id))

    def assign(self, order: ev.AssignJob) -> None:
        assert (order.job_id, order.attempt) not in self.given, "a number is given out once"
        self.given.add((order.job_id, order.attempt))
        held = self.leases[order.lease_id]
        running = [job for other in self.leases.values() for job, _ in other.jobs]
        assert order.job_id not in running, "one lease a job"
        assert not held.closing
        assert not held.cancelled
        assert self.nature.runs_on(order.job_id, held.device[0]), "a job is given to nodes that have what it needs"
        held.jobs.append((order.job_id, order.attempt))
        assert len(held.jobs) <= PREFETCH
        self.journal.append({"event": "assigned", "job_id": order.job_id, "attempt": order.attempt})

    def keep(self, job: str, attempt: int, final: bool, outcome_class: str) -> None:
        assert (job, attempt) not in self.rows, "a row is committed once"
        assert outcome_class
        if final:
            for key, (was_final, was_class) in self.rows.items():
                if key[0] == job and was_final:
                    assert (was_class, outcome_class) == ("infrastructure", "model"), "one final row a job"
                    self.rows[key] = (False, was_class)  # the store takes the mark away
            if outcome_class == "infrastructure":
                self.check_given_up(job)
        self.rows[job, attempt] = (final, outcome_class)
        self.journal.append({"event": "committed", "job_id": job, "attempt": attempt, "outcome_class": outcome_class})

    def check_given_up(self, job: str) -> None:
        """A job that some healthy slot could have run must not be given up."""
        self.given_up.add(job)
        if job in self.nature.poison or job in self.nature.killers or self.faults[job] > self.retries:
            return
        cell = job.partition("j")[0]
        if self.lost_while_loading[cell] > self.retries:
            return
        for device, fits in self.nature.fits[cell].items():
            node = device[0]
            there = node in self.alive and node not in self.silent and self.nature.runs_on(job, node)
            if there and fits and self.nature.is_good(device):
                alike = [each for each in self.nature.fits[cell] if whose_doing(*each) == whose_doing(*device)]
                faults = sum(self.cell_faults[cell, each] for each in alike)
                assert faults > self.retries, f"{job} is given up, and {device} could run it"


def fine_weather(world: World) -> None:
    """From now on nothing fails that need not; returns when nothing happens any more."""
    for node in sorted(world.alive):
        world.answer_again(node)
    if "last" not in world.alive:
        world.join("last")
    world.deliver_spool()
    steps = 0
    limit = 200 + len(world.job_ids()) * (world.retries + 3) * 60
    while (world.leases or world.quarantines) and steps < limit:
        steps += 1
        for lease in sorted(world.leases):
            if lease in world.leases:
                world.progress(lease)
        world.calm()
    assert steps < limit, "it must end"
