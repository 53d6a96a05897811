"""The state machine of a sweep: events in, instructions out, no I/O, no clock, no Ray.

Invariants, checked by `tests/orchestrator/test_state_histories.py` over random histories:

- a job has one final row: once it is done, a second final `Commit` is issued only where the first was a failure of the
  infrastructure and this one is not;
- an attempt number is given out once, also across restarts, and a row that is kept is never counted again;
- a slot has one lease, and so has a place in line at an endpoint over all nodes; a lease is for one cell; a job is
  assigned to one lease at a time;
- when no more events can come, every job is done or its cell is in `unplaced()`, with a reason a slot; and a job that
  some slot could have run is not given up (`orchestrator.blame` has the rules).

An event costs the same however many jobs there are: see `orchestrator.schedule`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import blame, waiting
from orchestrator import events as ev
from orchestrator.leases import LeaseBook
from orchestrator.placement import whose_doing, why_not
from orchestrator.records import Cell, Health, Job, Station, Where
from orchestrator.restore import INFRASTRUCTURE, Restorer
from orchestrator.schedule import Schedule, open_jobs
from results.figures import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.placement import SlotId
    from orchestrator.records import Lease, Place
    from orchestrator.restore import CommittedAttempt
    from orchestrator.seeding import Seeding


class SweepState:
    """All that a driver knows. `apply` is the only way to change it."""

    def __init__(
        self,
        cells: Iterable[tuple[str, int]],
        jobs: Iterable[tuple[str, str]],
        *,
        retries: int,
        needs: Mapping[str, frozenset[str]] | None = None,
        seeding: Seeding | None = None,
    ) -> None:
        """`cells` are (cell_id, file_bytes), `jobs` are (job_id, cell_id), both in the order of the plan.

        `needs[job_id]` is what a node must have to run the job; one that is not in it needs nothing. `seeding` says
        which jobs are asked for, where not all of them are.
        """
        self._retries = retries
        self._cells = {cell_id: Cell(cell_id, file_bytes) for cell_id, file_bytes in cells}
        needed = needs or {}
        self._jobs = {
            job_id: Job(job_id, cell_id, self._cells[cell_id].bundle(needed.get(job_id, frozenset())))
            for job_id, cell_id in jobs
        }
        self._health: dict[Place, Health] = {}
        self._schedule = Schedule(self._cells, self._jobs, retries=retries)
        self.seeding = seeding
        self._book = LeaseBook(self._cells, self._jobs, self._schedule, retries=retries, seeding=seeding)
        self._idle: dict[SlotId, None] = {}  # slots that fell free in this event
        self._done = 0
        self._stopping = False
        for job in self._jobs.values():
            cell = self._cells[job.cell_id]
            job.bundle.waiting.append(job.job_id)
            job.bundle.open += 1
            self._schedule.unserved[cell.cell_id] = None
            self._schedule.parked[cell.cell_id] = None
            if seeding is not None:
                self._book.hold(job)
        self._ask([])

    def restore(
        self, committed: Iterable[CommittedAttempt], journal: Iterable[Mapping[str, object]], *, forgive: bool = False
    ) -> None:
        """Brings the state to where an earlier driver left it: the store says what is done, the journal what else was.

        `forgive` forgets every failure: jobs and cells that are not done get all their tries again.
        """
        restorer = Restorer(self._cells, self._jobs, forgive=forgive)
        for row in committed:
            if (finished := restorer.take_row(row)) is not None:
                self._finish(finished, row.share, failed=row.outcome_class == INFRASTRUCTURE)
        for line in journal:
            restorer.take_line(line)
        restorer.finish()
        self._ask([])
        self._book.last_number = restorer.last_lease

    # --- questions --------------------------------------------------------------------------------------------

    @property
    def jobs_total(self) -> int:
        """How many jobs there are to be done: those of the plan, without any that are not asked for."""
        return len(self._jobs) - self._book.held

    @property
    def jobs_done(self) -> int:
        """How many have their final row."""
        return self._done

    @property
    def complete(self) -> bool:
        """Whether every job has its final row."""
        return self._done == self.jobs_total

    @property
    def idle(self) -> bool:
        """Whether no lease is alive: nothing more happens unless a node joins, or a quarantine ends."""
        return not self._book.leases

    @property
    def stopping(self) -> bool:
        """Whether the sweep was asked to end."""
        return self._stopping

    def leases(self) -> dict[str, tuple[str, SlotId]]:
        """The leases that are alive: lease id to cell id and slot."""
        return {lease.lease_id: (lease.cell_id, lease.station.slot_id) for lease in self._book.leases.values()}

    def waits_for_quarantine(self) -> bool:
        """Whether a slot in quarantine may serve what is left once that is over."""
        return waiting.waits_for_quarantine(self._schedule, self._cells, self._retries)

    def unplaced(self) -> dict[str, list[str]]:
        """The cells that wait and that no known slot can serve, with a sentence for each slot."""
        return waiting.unplaced(self._schedule, self._cells, self._retries)

    def too_big(self) -> dict[str, list[str]]:
        """The cells that wait because they are too big for every slot that would serve them, with the reasons."""
        return waiting.too_big(self._schedule, self._cells)

    # --- events -----------------------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> list[ev.Instruction]:
        """Takes in what happened; returns what the driver is to do now, in order."""
        out: list[ev.Instruction] = []
        match event:
            case ev.AttemptOffered():
                self._offer(event, out)
            case ev.LeaseReady():
                self._ready(event, out)
            case ev.LeaseEnded():
                self._end(event, out)
            case ev.NodeJoined():
                self._join(event)
            case ev.NodeSilent():
                self._silence(event.node_id, out)
            case ev.NodeBack():
                self._hear_again(event.node_id, out)
            case ev.NodeLost():
                self._lose(event, out)
            case ev.QuarantineOver():
                self._release_slot((event.hostname, event.place_id))
            case ev.StopRequested():
                self._stopping = True
                for lease in self._book.leases.values():
                    lease.closing = True
                    out.append(ev.CancelLease(lease.lease_id))
        if not self._stopping:
            self._ask(out)
            self._serve(out)
            while self._pass_over():
                self._ask(out)
                self._serve(out)
        self._idle.clear()
        return out

    # --- nodes ------------------------------------------------------------------------------------------------

    def _join(self, event: ev.NodeJoined) -> None:
        for slot in event.slots:
            place = whose_doing(slot.hostname, slot.slot_id[1])
            health = self._health.setdefault(place, Health())
            self._schedule.add(Station(slot, place, health, lacking=event.lacking))
            self._idle[slot.slot_id] = None
        self._schedule.find_rivals(event.node_id)
        for cell_id, by_place in event.verdicts.items():
            cell = self._cells[cell_id]
            for place_id, verdict in by_place.items():
                slot_id = event.node_id, place_id
                cell.verdicts[slot_id] = verdict
                if (its_class := event.classes.get(cell_id, {}).get(place_id)) is not None:
                    cell.classes[slot_id] = its_class
                station = self._schedule.stations.get(slot_id)
                if station is not None and why_not(verdict, station.slot) is None:
                    cell.able[slot_id] = station
        for cell_id, program in event.programs.items():
            self._cells[cell_id].programs[event.node_id] = program
        for cell_id, why in event.unserved.items():
            self._cells[cell_id].unserved[event.node_id] = why
        self._schedule.changed()

    def _feed_node(self, node_id: str, out: list[ev.Instruction]) -> None:
        for station in self._stations_of(node_id):
            if station.lease is not None:
                self._book.feed(station.lease, out)

    def _stations_of(self, node_id: str) -> list[Station]:
        return [station for station in self._schedule.stations.values() if station.node_id == node_id]

    def _silence(self, node_id: str, out: list[ev.Instruction]) -> None:
        for station in self._stations_of(node_id):
            station.silent = True
            self._schedule.disperse(station)
        self._settle_parked(out)
        self._schedule.changed()

    def _hear_again(self, node_id: str, out: list[ev.Instruction]) -> None:
        for station in self._stations_of(node_id):
            station.silent = False
            if station.lease is None:
                self._idle[station.slot_id] = None
            else:
                self._book.feed(station.lease, out)
        self._schedule.changed()

    def _lose(self, event: ev.NodeLost, out: list[ev.Instruction]) -> None:
        for cell in self._cells.values():
            cell.unserved.pop(event.node_id, None)
        stations = self._stations_of(event.node_id)
        leases = [station.lease for station in stations if station.lease is not None]
        running = [(self._jobs[lease.jobs[0]], lease.station.place) for lease in leases if lease.ready and lease.jobs]
        running = [(job, place) for job, place in running if job.where is Where.LEASED]
        loading = [lease for lease in leases if not lease.ready]
        suspect = self._book.suspects.get(event.node_id)
        for lease in leases:
            self._book.drop(lease)
        for station in stations:
            self._schedule.remove(station)
        for lease in leases:  # places in line at an endpoint, which other nodes have too
            self._freed(lease.station)
        if any(job.job_id == suspect for job, _ in running):
            running, loading = [(job, place) for job, place in running if job.job_id == suspect], []
        alone = len(running) + len(loading) == 1
        out += [blame.load_lost(self._cells[lease.cell_id], lease, event.reason, alone=alone) for lease in loading]
        for job, place in running:
            self._blame_loss(job, place, event.reason, out, alone=alone)
        for lease in leases:
            # It may have been its first job, and the word that the model was loaded not have come through any more:
            # next time another job is first.
            self._book.put_back(lease, last=not lease.ready)
            self._settle(self._cells[lease.cell_id], out)
        self._settle_parked(out)
        self._schedule.changed()

    def _blame_loss(self, job: Job, place: Place, reason: str, out: list[ev.Instruction], *, alone: bool) -> None:
        """Takes in that a node was lost while the job ran there.

        The job gets no row while it may be tried again: its finished row may lie in the node's spool, and is taken
        when the node comes back.
        """
        out.append(blame.job_lost(job, place, reason, alone=alone))
        if alone and blame.is_given_up(job, self._cells[job.cell_id], self._retries):
            reason = f"its node was lost {count(job.record().losses, 'time')} while it ran: {reason}"
            self._give_up(job, "node_lost", reason, place, out)

    def _release_slot(self, place: Place) -> None:
        if (health := self._health.get(place)) is None:
            return
        health.quarantined = False
        for station in self._schedule.stations.values():
            if station.health is health and station.lease is None:
                self._idle[station.slot_id] = None
        self._schedule.changed()

    # --- leases -----------------------------------------------------------------------------------------------

    def _ready(self, event: ev.LeaseReady, out: list[ev.Instruction]) -> None:
        if (lease := self._book.leases.get(event.lease_id)) is not None:
            lease.ready = True
            cell = self._cells[lease.cell_id]
            cell.load_s = event.load_s
            if not self._stopping:
                self._book.offer_share(cell, out)

    def _end(self, event: ev.LeaseEnded, out: list[ev.Instruction]) -> None:
        lease = self._book.leases.get(event.lease_id)
        if lease is None:
            return
        cell, station = self._cells[lease.cell_id], lease.station
        self._book.drop(lease)
        self._book.put_back(lease)
        if event.how == "failed":
            out.append(blame.lease_failed(cell, station, event))
            self._book.check_health(station, out)
        self._settle(cell, out)
        self._freed(station)
        self._feed_node(station.node_id, out)
        self._schedule.changed()

    def _freed(self, station: Station) -> None:
        """A slot's lease is over: it, and those that could not be used beside it, may take the next."""
        for freed in (station, *station.rivals):
            if freed.slot_id in self._schedule.stations:
                self._idle[freed.slot_id] = None

    def _settle(self, cell: Cell, out: list[ev.Instruction]) -> None:
        """Finds a place for a cell whose lease is over, or gives it up where every slot has had its tries."""
        if cell.leases or not cell.open:
            self._schedule.insert(cell)
            return
        for bundle in cell.bundles.values():
            if bundle.open and (cell.losses > self._retries or self._schedule.has_no_tries_left(cell, bundle)):
                place, (outcome, reason) = list(cell.reasons.items())[-1]
                for job in open_jobs(bundle, self._jobs):
                    self._give_up(job, outcome, reason, place, out)
        self._schedule.insert(cell)

    def _settle_parked(self, out: list[ev.Instruction]) -> None:
        for cell_id in list(self._schedule.parked):
            cell = self._cells[cell_id]
            if cell.tries:
                self._settle(cell, out)

    # --- rows -------------------------------------------------------------------------------------------------

    def _offer(self, event: ev.AttemptOffered, out: list[ev.Instruction]) -> None:
        job = self._jobs[event.job_id]
        cell = self._cells[job.cell_id]
        lease = self._book.leases.get(event.lease_id or "")
        was_suspect = lease is not None and self._book.take(lease, job)
        if job.kept >> event.attempt & 1:
            out.append(ev.Drop(event.job_id, event.attempt))
            self._after_row(cell, lease, out, feed_all=was_suspect)
            return
        job.attempts = max(job.attempts, event.attempt)
        job.kept |= 1 << event.attempt
        is_failure = event.outcome_class == INFRASTRUCTURE
        if job.where is Where.DONE:
            mends = job.failed_final and not is_failure
            job.failed_final = job.failed_final and not mends
            if mends and self.seeding is not None:
                self.seeding.put(job.job_id, event.share)
            out.append(ev.Commit(event.job_id, event.attempt, final=mends))
        elif is_failure:
            self._take_failure(event, job, lease, out)
        else:
            out.append(ev.Commit(event.job_id, event.attempt, final=True))
            self._finish(job, event.share)
        if not self._stopping:
            self._ask(out)
        if not is_failure:
            self._take_success(event, job, cell, lease)
            if not self._stopping and cell.jobs_timed.bit_count() == 1:  # the mean has moved: a second server may pay
                self._book.offer_share(cell, out)
        self._after_row(cell, lease, out, feed_all=was_suspect)

    def _take_success(self, event: ev.AttemptOffered, job: Job, cell: Cell, lease: Lease | None) -> None:
        cell.hardware_class = cell.hardware_class or event.hardware_class
        cell.job_seconds += event.duration_s
        cell.jobs_timed += 1
        cell.losses = 0
        blame.went_well(job, cell, lease)

    def _take_failure(self, event: ev.AttemptOffered, job: Job, lease: Lease | None, out: list[ev.Instruction]) -> None:
        cell = self._cells[job.cell_id]
        place = lease.station.place if lease is not None else whose_doing(event.hostname, event.place_id)
        blame.failed(job, place, lease.station.health if lease is not None else None, lease, event.reason)
        final = blame.is_given_up(job, cell, self._retries)
        out.append(ev.Commit(event.job_id, event.attempt, final=final))
        if final:
            self._finish(job, failed=True)
        elif job.where is Where.WAITING:
            job.where = Where.RETRY  # its id in `waiting` is passed over from now on
            job.bundle.retry[job.job_id] = None
        if lease is None or lease.closing or self._stopping:
            return
        if blame.lease_is_sick(lease):
            blame.not_served(cell, place, lease.station.health, event.outcome, event.reason)
            out.append(ev.Blame("cell", cell.cell_id, *place, event.reason, event.outcome))
            self._book.cancel(lease, out)
        self._book.check_health(lease.station, out)

    def _after_row(self, cell: Cell, lease: Lease | None, out: list[ev.Instruction], *, feed_all: bool) -> None:
        if self._stopping:
            return
        if lease is not None and feed_all:
            self._feed_node(lease.station.node_id, out)
        elif lease is not None:
            self._book.feed(lease, out)
        if lease is None or any(bundle.retry for bundle in cell.bundles.values()):
            for other in list(cell.leases.values()):
                self._book.feed(other, out)
        if not cell.leases and cell.open and cell.queued_on is None:
            self._settle(cell, out)

    def _finish(self, job: Job, share: float | None = None, *, failed: bool = False) -> None:
        if job.where is Where.DONE:
            return
        self._book.held -= job.where is Where.HELD
        if self.seeding is not None:
            self.seeding.put(job.job_id, share)
        cell = self._cells[job.cell_id]
        if job.where in (Where.WAITING, Where.RETRY):
            job.bundle.open -= 1
            job.bundle.retry.pop(job.job_id, None)
        job.where, job.failed_final = Where.DONE, failed
        self._done += 1
        if not cell.open and not cell.leases:
            self._schedule.insert(cell)  # nothing is left of it: out of every queue

    def _give_up(self, job: Job, outcome: str, reason: str, place: Place, out: list[ev.Instruction]) -> None:
        job.attempts += 1
        job.kept |= 1 << job.attempts
        out.append(ev.CommitUnrun(job.job_id, job.attempts, outcome, reason, *place))
        self._finish(job, failed=True)

    # --- what follows -----------------------------------------------------------------------------------------

    def _ask(self, out: list[ev.Instruction]) -> None:
        """Asks for the jobs that the scores make worth running, and for those that they do not no more."""
        while self.seeding is not None and (change := self.seeding.settle()):
            for cell in self._book.follow(change, out):
                if self._schedule.stations:
                    self._settle(cell, out)
                else:
                    self._schedule.insert(cell)  # nobody is there who could be blamed: it is given up later, if at all

    def _pass_over(self) -> bool:
        """Whether it is news that cells have no place: what is asked for of others does not wait for those."""
        return self.seeding is not None and self.seeding.pass_over(
            [cell_id for cell_id in self._schedule.parked if self._cells[cell_id].open],
            stuck=self.idle and bool(self._schedule.stations) and not self.waits_for_quarantine(),
        )

    def _serve(self, out: list[ev.Instruction]) -> None:
        """Starts what the schedule has for the slots that fell free."""
        schedule = self._schedule
        if schedule.is_due() or (schedule.unserved and not self._book.leases):
            schedule.make_anew()
            self._idle.update(dict.fromkeys(schedule.stations))
        elif self._idle:
            schedule.insert_parked()
        self._idle.update(schedule.take_offered())
        for slot_id in schedule.in_turn(self._idle):
            station = schedule.stations.get(slot_id)
            if station is None or station.occupant is not None or not station.usable:
                continue
            if (cell := schedule.next_for(station)) is not None:
                self._book.start(cell, station, out)
