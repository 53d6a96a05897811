"""Placement: which cell goes where, and the sentence for every "why not"."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.placement import Assignment, Need, Slot, candidates, choose, why_not, worth_splitting
from quants.fit import Verdict, VerdictKind

FITS = Verdict(VerdictKind.FITS, "fits")
BIG = Verdict(VerdictKind.TOO_BIG, "needs 20 GB, has 16 GB")
SMALL_CARD = Slot(("n1", "gpu"), "small", "rtx-16", 900e9)
LARGE_CARD = Slot(("n2", "gpu"), "large", "rtx-32", 1800e9)


def need(name: str, verdicts: dict[tuple[str, str], Verdict], **more: object) -> Need:
    return Need(name, **{"jobs": 5, "file_bytes": 10**10, "verdicts": verdicts, **more})  # type: ignore[arg-type]  # a test's shorthand


def test_the_most_constrained_cell_gets_its_only_slot() -> None:
    anywhere = {SMALL_CARD.slot_id: FITS, LARGE_CARD.slot_id: FITS}
    only_large = {SMALL_CARD.slot_id: BIG, LARGE_CARD.slot_id: FITS}
    found = choose([need("easy", anywhere), need("big", only_large)], [SMALL_CARD, LARGE_CARD])
    assert set(found) == {Assignment("big", LARGE_CARD.slot_id), Assignment("easy", SMALL_CARD.slot_id)}


def test_a_cell_waits_for_a_fast_device_that_is_soon_free() -> None:
    slow = Slot(("n3", "cpu"), "old", "cpu", 20e9)
    soon = Slot(LARGE_CARD.slot_id, "large", "rtx-32", 1800e9, busy_s=5)
    both = {slow.slot_id: FITS, soon.slot_id: FITS}
    assert choose([need("cell", both)], [slow, soon]) == []
    late = Slot(LARGE_CARD.slot_id, "large", "rtx-32", 1800e9, busy_s=10**6)
    assert choose([need("cell", both)], [slow, late]) == [Assignment("cell", slow.slot_id)]


def test_a_cell_stays_on_its_hardware_class_as_long_as_there_is_one() -> None:
    both = {SMALL_CARD.slot_id: FITS, LARGE_CARD.slot_id: FITS}
    begun = need("cell", both, hardware_class="rtx-16")
    assert candidates(begun, [SMALL_CARD, LARGE_CARD]) == [SMALL_CARD]
    assert candidates(begun, [LARGE_CARD]) == [LARGE_CARD]


def test_reasons_name_the_device() -> None:
    cell = need("cell", {SMALL_CARD.slot_id: BIG})
    assert why_not(cell, SMALL_CARD) == "small/gpu: needs 20 GB, has 16 GB"
    assert why_not(cell, LARGE_CARD) == "large/gpu: the engine is not there"


def test_a_second_server_has_to_pay_for_its_load() -> None:
    assert worth_splitting(waiting=20, leases=1, job_s=10, load_s=30)
    assert not worth_splitting(waiting=4, leases=1, job_s=10, load_s=30)
    assert not worth_splitting(waiting=20, leases=1, job_s=None, load_s=30)


@settings(max_examples=200, deadline=None)
@given(
    busy=st.lists(st.sampled_from([0.0, 0.0, 3.0, 500.0]), min_size=1, max_size=5),
    fits=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), max_size=8),
)
def test_choices_are_sound_and_no_free_slot_is_left_without_reason(busy: list[float], fits: list[list[bool]]) -> None:
    slots = [Slot((f"n{i}", "gpu"), f"n{i}", "hw", 1e12, busy_s) for i, busy_s in enumerate(busy)]
    needs = [
        need(f"c{k}", {slot.slot_id: FITS if ok else BIG for slot, ok in zip(slots, row, strict=False)})
        for k, row in enumerate(fits)
    ]
    found = choose(needs, slots)
    assert len({a.slot_id for a in found}) == len(found)
    assert len({a.cell_id for a in found}) == len(found)
    by_id = {n.cell_id: n for n in needs}
    free = {slot.slot_id for slot in slots if slot.busy_s == 0}
    for assignment in found:
        assert assignment.slot_id in free
        assert by_id[assignment.cell_id].verdicts[assignment.slot_id] is FITS
    if all(slot.busy_s == 0 for slot in slots) and any(any(row[: len(slots)]) for row in fits):
        assert found, "with every slot free, somebody is served"
