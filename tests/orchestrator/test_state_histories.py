"""What holds in every history: nodes that come, go, hang and fall silent, devices and jobs that are bad, restarts."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import schedule
from orchestrator.placement import whose_doing
from results.contest import Rule
from tests.orchestrator.sweepworld import Nature, World, fine_weather

if TYPE_CHECKING:
    from tests.orchestrator.sweepworld import Device

HISTORIES = 2000 if os.environ.get("QUANTSWEEP_SLOW") else 150

DEVICES = {
    "n0": ("gpu0", "cloud#1", "cloud#2"),
    "n1": ("gpu0", "gpu1"),
    "n2": ("gpu0", "gpu1", "gpu2", "gpu0+gpu1", "gpu1+gpu2"),  # places that have a device in common
    "n3": ("cpu", "cloud#1", "cloud#2"),  # places in line at an endpoint, which others have too
    "last": ("gpu0", "cloud#2"),
}
ALL: list[Device] = [(node, device) for node, devices in DEVICES.items() for device in devices]
SOME = [device for device in ALL if device[0] != "last"]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("join", "join", "lose", "silent", "back", "restart", "spool", "again", "calm"),
                *("pass", "pass", "pass", "fault", "cut_off", "load_fails"),
            ]
        ),
        st.integers(0, 7),
    ),
    max_size=70,
)


def with_siblings(bad: frozenset[Device]) -> frozenset[Device]:
    """An endpoint is as bad in one place in line as in the others, as seen from one node."""
    return frozenset(device for device in ALL if whose_doing(*device) in {whose_doing(*each) for each in bad})


@st.composite
def natures(draw: st.DrawFn, jobs: int = 5) -> Nature:
    cells = [f"c{c}" for c in range(draw(st.integers(1, 4)))]
    fits = {
        cell: {device: device[0] == "last" or draw(st.sampled_from([True, True, False])) for device in ALL}
        for cell in cells
    }
    names = [f"{cell}j{j}" for cell in cells for j in range(jobs)]
    bad_jobs = st.frozensets(st.sampled_from(names), max_size=2)
    bad_devices = st.frozensets(st.sampled_from(SOME), max_size=4).map(with_siblings)
    sets = st.frozensets(st.sampled_from(["go", "tk"]), max_size=2)
    needs = {name: needed for name in names if (needed := draw(st.one_of(st.just(frozenset()), sets)))}
    lacking = {node: draw(sets) for node in DEVICES if node != "last"}
    classes = {device: draw(st.sampled_from(["hw", "other"])) for device in ALL}
    nature = Nature(fits, draw(bad_devices), draw(bad_devices), draw(bad_jobs), draw(bad_jobs))
    return replace(nature, needs=needs, lacking=lacking, classes=classes)


def play(world: World, steps: list[tuple[str, int]]) -> None:
    for what, which in steps:
        node = f"n{which % 4}"
        leases = sorted(lease for lease, held in world.leases.items() if held.device[0] not in world.silent)
        lease = leases[which % len(leases)] if leases else None
        match what:
            case "join":
                world.join(node)
            case "lose":
                world.lose(node)
            case "silent":
                world.fall_silent(node)
            case "back":
                world.answer_again(node)
            case "restart":
                world.restart()
            case "spool":
                world.deliver_spool()
            case "again":
                world.offer_again(which)
            case "calm":
                world.calm()
            case "pass" | "fault" if lease is not None:
                world.progress(lease, fault=what == "fault")
            case "cut_off" if lease is not None and not world.leases[lease].cancelled:
                world.cut_off(lease)
            case "load_fails" if lease is not None and not world.leases[lease].ready:
                world.fail_to_load(lease)


@settings(max_examples=HISTORIES, deadline=None)
@given(nature=natures(), retries=st.integers(0, 2), steps=STEPS, anew=st.sampled_from([1000, 0.01]))
def test_every_history_ends_with_each_job_final_exactly_once_and_run_wherever_it_could_be(
    nature: Nature, retries: int, steps: list[tuple[str, int]], anew: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "ANEW_PER_CHANGE", anew)  # 0.01: as in a sweep of thousands of cells, hardly ever
        world = World(nature, jobs=5, retries=retries, devices=DEVICES)
        play(world, steps)
        fine_weather(world)
    assert world.state.complete
    assert world.state.idle
    finals = Counter(job for (job, _), (final, _) in world.rows.items() if final)
    assert finals == Counter(world.job_ids()), "each job has one final row"
    failed = {job for (job, _), (final, kind) in world.rows.items() if final and kind == "infrastructure"}
    assert failed <= world.given_up
    assert world.nature.poison - failed == frozenset(), "a job that crashes everywhere is not called a success"


@st.composite
def scores_of(draw: st.DrawFn, jobs: int) -> dict[str, list[float]]:
    """Cells that are all good, all bad, or anything."""
    one = st.one_of(
        st.just([1.0] * jobs),
        st.just([0.0] * jobs),
        st.lists(st.sampled_from([0.0, 0.6, 1.0]), min_size=jobs, max_size=jobs),
    )
    return {f"c{cell}": draw(one) for cell in range(4)}


@settings(max_examples=HISTORIES // 4, deadline=None)
@given(nature=natures(jobs=12), shares=scores_of(12), retries=st.integers(0, 1), steps=STEPS)
def test_every_history_of_seeds_by_score_ends_as_the_scores_alone_would_have_it(
    nature: Nature, shares: dict[str, list[float]], retries: int, steps: list[tuple[str, int]]
) -> None:
    world = World(nature, jobs=12, retries=retries, devices=DEVICES, rule=Rule(2, 12, 0.3), shares=shares)
    play(world, steps)
    fine_weather(world)
    assert world.state.complete
    assert world.state.idle
    finals = {job: kind for (job, _), (final, kind) in world.rows.items() if final}
    assert sum(final for final, _ in world.rows.values()) == len(finals), "no job has two final rows"
    alone = world.seeding()
    assert alone is not None
    alone.settle()
    for job, kind in finals.items():
        alone.put(job, world.share_of(job, kind))
    alone.settle()
    assert {job for job in world.job_ids() if alone.is_asked_for(job)} <= finals.keys(), "what is asked for has run"
    assert world.state.jobs_total == len(finals), "what has not run is not counted"
    world.restart()
    assert world.state.complete, "who starts anew asks for nothing more"
    assert world.state.idle
