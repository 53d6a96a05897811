"""Placement: which cell stands in line for which slot, and the sentence for every "why not"."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.placement import Slot, why_not, worth_splitting
from orchestrator.records import Cell, Health, Job, Lease, Station
from orchestrator.schedule import Schedule
from quants.fit.verdict import Verdict, VerdictKind

FITS = Verdict(VerdictKind.FITS, "fits")
BIG = Verdict(VerdictKind.TOO_BIG, "needs 20 GB, has 16 GB")
SMALL_CARD = Slot(("n1", "gpu"), "small", "rtx-16", 900e9)
LARGE_CARD = Slot(("n2", "gpu"), "large", "rtx-32", 1800e9)
SLOW = Slot(("n3", "cpu"), "old", "cpu", 20e9)


class World:
    """Cells of five jobs over slots, without leases unless one is given."""

    def __init__(self, slots: list[Slot], cells: dict[str, list[Slot]], *, hardware_class: str | None = None) -> None:
        self.cells = {name: Cell(name, 10**10, hardware_class=hardware_class) for name in cells}
        for cell in self.cells.values():
            cell.bundle(frozenset()).open = 5
        jobs = {
            f"{name}j{j}": Job(f"{name}j{j}", name, cell.bundle(frozenset()))
            for name, cell in self.cells.items()
            for j in range(5)
        }
        self.schedule = Schedule(self.cells, jobs, retries=2)
        self.stations = {slot.slot_id: Station(slot, (slot.hostname, slot.slot_id[1]), Health()) for slot in slots}
        for station in self.stations.values():
            self.schedule.add(station)
        for name, able in cells.items():
            self.cells[name].able = {slot.slot_id: self.stations[slot.slot_id] for slot in able}
            self.schedule.unserved[name] = None

    def occupy(self, slot: Slot, *, job_s: float) -> None:
        """A cell of five jobs is being served there."""
        busy = Cell("busy", 10**9, job_seconds=job_s, jobs_timed=1)
        busy.bundle(frozenset()).open = 5
        self.cells["busy"] = busy
        lease = Lease("L1", "busy", self.stations[slot.slot_id])
        busy.leases["L1"] = self.stations[slot.slot_id].lease = lease

    def choose(self) -> dict[str, tuple[str, str]]:
        """What is loaded now on the slots that are free."""
        self.schedule.make_anew()
        chosen = {}
        for station in self.stations.values():
            if station.lease is None and (cell := self.schedule.next_for(station)) is not None:
                chosen[cell.cell_id] = station.slot_id
        return chosen


def test_the_most_constrained_cell_gets_its_only_slot() -> None:
    world = World([SMALL_CARD, LARGE_CARD], {"easy": [SMALL_CARD, LARGE_CARD], "big": [LARGE_CARD]})
    assert world.choose() == {"big": LARGE_CARD.slot_id, "easy": SMALL_CARD.slot_id}


def test_a_cell_waits_for_a_fast_device_that_is_soon_free() -> None:
    world = World([SLOW, LARGE_CARD], {"cell": [SLOW, LARGE_CARD]})
    world.occupy(LARGE_CARD, job_s=1)
    assert world.choose() == {}
    world = World([SLOW, LARGE_CARD], {"cell": [SLOW, LARGE_CARD]})
    world.occupy(LARGE_CARD, job_s=10**6)
    assert world.choose() == {"cell": SLOW.slot_id}


def test_a_cell_stays_on_its_hardware_class_as_long_as_there_is_one() -> None:
    world = World([SMALL_CARD, LARGE_CARD], {"cell": [SMALL_CARD, LARGE_CARD]}, hardware_class="rtx-16")
    assert [s.slot for s in world.schedule.candidates(world.cells["cell"])] == [SMALL_CARD]
    world = World([LARGE_CARD], {"cell": [LARGE_CARD]}, hardware_class="rtx-16")
    assert [s.slot for s in world.schedule.candidates(world.cells["cell"])] == [LARGE_CARD]


def test_an_idle_slot_takes_over_what_would_wait_longest_elsewhere() -> None:
    world = World([LARGE_CARD], {"one": [LARGE_CARD], "two": [LARGE_CARD], "three": [LARGE_CARD]})
    world.schedule.make_anew()
    newcomer = Slot(("n4", "gpu"), "new", "rtx-32", 1800e9)
    station = Station(newcomer, ("new", "gpu"), Health())
    world.schedule.add(station)
    last = world.stations[LARGE_CARD.slot_id].queue[-1]
    for cell in world.cells.values():
        cell.able[newcomer.slot_id] = station
    taken = world.schedule.next_for(station)
    assert taken is not None
    assert taken.cell_id == last
    assert taken.queued_on is None


def test_reasons_name_the_device() -> None:
    assert why_not(BIG, SMALL_CARD) == "small/gpu: needs 20 GB, has 16 GB"
    assert why_not(None, LARGE_CARD) == "large/gpu: its engine does not use this device"
    assert why_not(FITS, LARGE_CARD) is None


def test_a_second_server_has_to_pay_for_its_load() -> None:
    assert worth_splitting(waiting=20, leases=1, job_s=10, load_s=30)
    assert not worth_splitting(waiting=4, leases=1, job_s=10, load_s=30)
    assert not worth_splitting(waiting=20, leases=1, job_s=None, load_s=30)


@settings(max_examples=200, deadline=None)
@given(
    slots=st.lists(st.sampled_from([20e9, 900e9, 1800e9]), min_size=1, max_size=5),
    fits=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), max_size=8),
)
def test_choices_are_sound_and_no_free_slot_is_left_without_reason(slots: list[float], fits: list[list[bool]]) -> None:
    there = [Slot((f"n{i}", "gpu"), f"n{i}", "hw", bandwidth) for i, bandwidth in enumerate(slots)]
    able = {f"c{k}": [s for s, ok in zip(there, row, strict=False) if ok] for k, row in enumerate(fits)}
    world = World(there, able)
    chosen = world.choose()
    assert len(set(chosen.values())) == len(chosen)
    for name, slot_id in chosen.items():
        assert slot_id in {slot.slot_id for slot in able[name]}
    assert bool(chosen) == any(able.values()), "with every slot free, somebody is served"
    queued = [cell for station in world.stations.values() for cell in station.queue]
    assert len(queued) == len(set(queued))
    assert set(queued).isdisjoint(chosen)
    assert {name for name in able if able[name]} == set(chosen) | set(queued)
