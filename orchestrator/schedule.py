"""Which cell each slot takes next: a list schedule that is kept up to date event by event.

The rule is `orchestrator.placement`'s: most constrained cell first, then longest, each into the queue of the slot that
would finish it earliest. Doing that anew for every event costs cells x slots; so the queues are kept. A slot that
falls free takes the head of its own queue, a cell that comes (back) is put into the one best queue, a slot with an
empty queue takes over what would wait longest elsewhere, and the whole is done anew once as many things have changed
as make its cost small beside them: at every change in a small sweep, every 300th with 1,000 cells on 100 slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.blame import may_run, tries_left
from orchestrator.placement import ASSUMED_BANDWIDTH, ASSUMED_LOAD_BANDWIDTH, ASSUMED_TOKENS, worth_splitting
from orchestrator.records import Where

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.placement import SlotId
    from orchestrator.records import Bundle, Cell, Job, Station

ANEW_PER_CHANGE = 300
"""Pairs of a waiting cell and a slot that one change pays for: pairs / this many changes make the schedule anew."""
LOOK_BACK = 4
"""Cells at the end of a queue that an idle slot looks at."""
JOBS_LOOKED_AT = 8
"""Failed jobs of a cell that are looked at to find a slot for it: the rest come along or wait for the next lease."""


class Schedule:
    """The queues of all slots. Knows nothing of events; `SweepState` tells it what changed.

    `unserved` are the cells with open jobs and no lease; those of them that stand in no queue are `parked`.
    """

    def __init__(self, cells: Mapping[str, Cell], jobs: Mapping[str, Job], *, retries: int) -> None:
        self._cells, self._jobs, self._retries = cells, jobs, retries
        self.stations: dict[SlotId, Station] = {}
        self.unserved: dict[str, None] = {}
        self.served: dict[str, None] = {}
        self.parked: dict[str, None] = {}
        self._offered: dict[SlotId, None] = {}
        self._changes = 0
        self._overlapping = False

    # --- questions --------------------------------------------------------------------------------------------

    def candidates(self, cell: Cell) -> list[Station]:
        """The slots that may serve the cell now: those that suit any of its open jobs.

        Of these the ones where it failed to load least often.
        """
        suited = {
            station.slot_id: station
            for bundle in cell.bundles.values()
            if bundle.open
            for station in self._suited(cell, bundle)
        }
        able = [station for station in suited.values() if station.usable]
        if not able:
            return able
        if cell.tries:
            fewest = min(cell.tries.get(station.place, 0) for station in able)
            able = [station for station in able if cell.tries.get(station.place, 0) == fewest]
        return able

    def _suited(self, cell: Cell, bundle: Bundle) -> list[Station]:
        """The slots for these jobs of the cell, whether they answer or not.

        Those whose node has what the jobs need, of the hardware class that the cell's earlier rows came from, as long
        as there is one with tries left; a cell whose class is gone moves, which is better than never finishing, and
        its rows show the class they were measured on. Where only jobs are left that failed before, slots on which they
        may be tried again.
        """
        able = [s for s in cell.able.values() if tries_left(cell, s, self._retries) and bundle.runs_on(s)]
        if bundle.retry and len(bundle.retry) == bundle.open:
            jobs = [self._jobs[job_id] for job_id, _ in zip(bundle.retry, range(JOBS_LOOKED_AT), strict=False)]
            able = [s for s in able if any(may_run(job, cell, s, self._retries) for job in jobs)]
        if cell.hardware_class is None:
            return able
        same = [station for station in able if cell.class_on(station) == cell.hardware_class]
        return same or able

    def bundles_for(self, cell: Cell, station: Station) -> list[Bundle]:
        """The bundles of which a lease of the cell on this slot is given jobs, those that need most first.

        A slot of another hardware class, which serves the cell because it alone has what some jobs need, is given
        those and leaves the others to their class.
        """
        found = cell.bundles_on(station)
        if len(cell.bundles) == 1:
            return list(found)
        suited = [bundle for bundle in found if station in self._suited(cell, bundle)]
        return sorted(suited, key=lambda bundle: -len(bundle.needs))

    def has_no_tries_left(self, cell: Cell, bundle: Bundle) -> bool:
        """Whether there are slots that could run these jobs of the cell, and all its tries there are used up."""
        able = [station for station in cell.able.values() if bundle.runs_on(station)]
        return bool(able) and not any(tries_left(cell, station, self._retries) for station in able)

    # --- changes ----------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something happened that a schedule made anew would take into account."""
        self._changes += 1

    def is_due(self) -> bool:
        """Whether enough has changed to make the schedule anew."""
        pairs = len(self.unserved) * len(self.stations)
        return self._changes > 0 and self._changes * ANEW_PER_CHANGE >= pairs

    def add(self, station: Station) -> None:
        """A slot is there."""
        self.stations[station.slot_id] = station

    def find_rivals(self, node_id: str) -> None:
        """Finds out which slots of a node cannot be used beside which others, now that all of them are there."""
        here = [station for station in self.stations.values() if station.node_id == node_id]
        for station in here:
            near = self.stations.values() if station.slot.elsewhere else here
            station.rivals = tuple(o for o in near if o is not station and o.slot.is_rival_of(station.slot))
            if station.slot.elsewhere:
                for rival in station.rivals:
                    rival.rivals = (*rival.rivals, station)
            else:
                self._overlapping = self._overlapping or bool(station.rivals)

    def in_turn(self, free: Iterable[SlotId]) -> Iterable[SlotId]:
        """Free slots in the order in which they choose: those of many devices first, which are free together seldom."""
        if not self._overlapping:
            return free
        return sorted(free, key=lambda slot_id: -self._width(slot_id))

    def _width(self, slot_id: SlotId) -> int:
        station = self.stations.get(slot_id)
        return len(station.slot.devices) if station is not None else 0

    def remove(self, station: Station) -> None:
        """A slot is gone; what stood in its queue is put into others."""
        self.stations.pop(station.slot_id, None)
        for rival in station.rivals:
            rival.rivals = tuple(other for other in rival.rivals if other is not station)
        for cell in self._cells.values():
            cell.verdicts.pop(station.slot_id, None)
            cell.classes.pop(station.slot_id, None)
            cell.able.pop(station.slot_id, None)
        self.disperse(station)

    def disperse(self, station: Station) -> None:
        """Puts what stands in a slot's queue into others: nothing is started there for now."""
        queue, station.queue, station.queued_s = list(station.queue), type(station.queue)(), 0.0
        for cell_id in queue:
            cell = self._cells[cell_id]
            if cell.queued_on == station.slot_id:
                cell.queued_on = None
                self.insert(cell)

    def take_offered(self) -> dict[SlotId, None]:
        """The free slots that something was put in line for since this was asked last."""
        offered, self._offered = self._offered, {}
        return offered

    def insert_parked(self) -> None:
        """Puts in line what could not be put before, and can now."""
        for cell_id in list(self.parked):
            if self._cells[cell_id].able:
                self.insert(self._cells[cell_id])

    def insert(self, cell: Cell) -> None:
        """Puts an unserved cell into the queue of the slot that would finish it earliest, or parks it."""
        self._leave_queue(cell)
        self.parked.pop(cell.cell_id, None)
        if not cell.open or cell.leases:
            self.unserved.pop(cell.cell_id, None)
            return
        self.unserved[cell.cell_id] = None
        able = self.candidates(cell)
        if not able:
            self.parked[cell.cell_id] = None
            return
        best = able[0]
        best_end = best_took = float("inf")
        for station in able:
            took = self._estimate_s(cell, station)
            end = self._free_in_s(station) + took
            if end < best_end or (end == best_end and station.slot_id < best.slot_id):
                best, best_end, best_took = station, end, took
        best.queue.append(cell.cell_id)
        best.queued_s += best_took
        cell.queued_on, cell.queued_s = best.slot_id, best_took
        if best.occupant is None:
            self._offered[best.slot_id] = None

    def make_anew(self) -> None:
        """Schedules every unserved cell again: what did not load before last, most constrained first, then longest."""
        self._changes = 0
        for station in self.stations.values():
            station.queue.clear()
            station.queued_s = 0.0
        order = []
        for cell_id in self.unserved:
            cell = self._cells[cell_id]
            cell.queued_on = None
            able = self.candidates(cell)
            shortest = min((self._estimate_s(cell, station) for station in able), default=0.0)
            order.append((max(cell.tries.values(), default=0), len(able), -shortest, cell_id))
        for *_, cell_id in sorted(order):
            self.insert(self._cells[cell_id])

    def next_for(self, station: Station) -> Cell | None:
        """The cell that a free slot is to load now, taken out of its queue; None: it stays idle."""
        while station.queue:
            cell = self._cells[station.queue[0]]
            if cell.queued_on != station.slot_id:
                station.queue.popleft()
                continue
            self._leave_queue(cell)
            if cell.open and not cell.leases and station in self.candidates(cell):
                return cell
            self.insert(cell)
        return self._take_over(station) or self._share(station)

    def _leave_queue(self, cell: Cell) -> None:
        station = self.stations.get(cell.queued_on) if cell.queued_on else None
        cell.queued_on = None
        if station is not None:
            station.queued_s = max(0.0, station.queued_s - cell.queued_s)
            if station.queue and station.queue[0] == cell.cell_id:
                station.queue.popleft()
            # Elsewhere in the queue the id stays behind, and is passed over.

    def _take_over(self, station: Station) -> Cell | None:
        """The cell at the end of the longest queue that would be done sooner here."""
        found, latest_s = None, 0.0
        if len(self.parked) == len(self.unserved):
            return None  # no queue holds anything
        for other in self.stations.values():
            if not other.queue or other is station:
                continue
            end_s = self._free_in_s(other)
            if end_s <= latest_s:
                continue
            for back in range(1, min(LOOK_BACK, len(other.queue)) + 1):
                cell = self._cells[other.queue[-back]]
                if (
                    cell.queued_on == other.slot_id
                    and station.slot_id in cell.able
                    and self._estimate_s(cell, station) < end_s
                    and station in self.candidates(cell)
                ):
                    found, latest_s = cell, end_s
                    break
        if found is not None:
            self._leave_queue(found)
        return found

    def _share(self, station: Station) -> Cell | None:
        """A cell that is being served elsewhere, if a second server of the same class pays."""
        for cell_id in self.served:
            if self.is_worth_sharing(self._cells[cell_id], station):
                return self._cells[cell_id]
        return None

    def is_worth_sharing(self, cell: Cell, station: Station) -> bool:
        """Whether this idle slot should be given to a cell that is being served elsewhere."""
        if not cell.leases or station.slot_id not in cell.able or not tries_left(cell, station, self._retries):
            return False
        if len(cell.bundles) > 1 and self._is_needed(cell, station):
            return True
        return (
            cell.class_on(station) == cell.hardware_class
            and worth_splitting(
                waiting=cell.open_on(station), leases=len(cell.leases), job_s=cell.job_s, load_s=cell.load_s
            )
            and (
                any(len(bundle.retry) < bundle.open for bundle in cell.bundles_on(station))
                or station in self.candidates(cell)
            )
        )

    def _is_needed(self, cell: Cell, station: Station) -> bool:
        """Whether jobs of the cell suit this slot and none of those that serve it now."""
        serving = [lease.station for lease in cell.leases.values()]
        return any(
            station in self._suited(cell, bundle) and not any(bundle.runs_on(other) for other in serving)
            for bundle in cell.bundles_on(station)
        )

    # --- estimates --------------------------------------------------------------------------------------------

    def _job_s(self, cell: Cell, station: Station) -> float:
        if cell.jobs_timed:
            return cell.job_seconds / cell.jobs_timed
        return ASSUMED_TOKENS * cell.file_bytes / (station.slot.bandwidth_bytes_per_s or ASSUMED_BANDWIDTH)

    def _estimate_s(self, cell: Cell, station: Station) -> float:
        """Seconds to load the cell there and run its open jobs."""
        took = cell.file_bytes / ASSUMED_LOAD_BANDWIDTH + cell.open_on(station) * self._job_s(cell, station)
        return max(took, 1e-9)

    def _free_in_s(self, station: Station) -> float:
        """Seconds until the slot has done what it does and what stands in its queue."""
        if (lease := station.occupant) is None:
            return station.queued_s
        cell = self._cells[lease.cell_id]
        jobs = len(lease.jobs) + cell.open_on(lease.station) / max(1, len(cell.leases))
        return station.queued_s + max(jobs * self._job_s(cell, lease.station), 1e-6)


def open_jobs(bundle: Bundle, jobs: Mapping[str, Job]) -> list[Job]:
    """The jobs of a bundle that wait, in the order in which they would run."""
    waiting = dict.fromkeys(job_id for job_id in bundle.waiting if jobs[job_id].where is Where.WAITING)
    return [jobs[job_id] for job_id in [*waiting, *bundle.retry]]
