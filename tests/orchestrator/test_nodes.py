"""From profiles to slots: which device an engine would use, and what a lease is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import events as ev
from orchestrator.nodes import (
    named_binaries,
    offer_of,
    overlaps,
    remarks,
    to_cell_order,
)
from orchestrator.places import serving_places, unmatched_devices, why_not_served
from orchestrator.plan import Limits, Plan
from profiles.probe.engines import matched_anew
from profiles.types import Device, EngineDevice, FoundEngine, NodeProfile
from quants.artifact import Artifact, ModelFile
from quants.fit.verdict import VerdictKind
from quants.models import FileModel
from runners.chat import Sampling
from runners.engines import settings_type
from runners.engines.settings import LlamaServerSettings
from runners.work import Cell

GB = 10**9
CPU = Device(id="cpu", vendor="cpu", name="A CPU", kind="cpu", memory_total_bytes=64 * GB, memory_free_bytes=60 * GB)
FIRST = Device(
    id="nvidia-0",
    vendor="nvidia",
    name="GeForce RTX 5090",
    kind="discrete",
    index=0,
    memory_total_bytes=32 * GB,
    memory_free_bytes=31 * GB,
    driver="590.1",
)
SECOND = replace(FIRST, id="nvidia-1", index=1, name="GeForce RTX 5060 Ti", memory_total_bytes=16 * GB)
CUDA_SERVER = FoundEngine(
    "llama-server",
    "/opt/llama-server",
    "b1",
    (EngineDevice("CUDA0", "GeForce RTX 5090"), EngineDevice("CUDA1", "GeForce RTX 5060 Ti")),
)

NO_GPU = FoundEngine("llama-server", "/cpu/llama-server", "b1")


def profile(*devices: Device, engines: tuple[FoundEngine, ...] = (CUDA_SERVER,)) -> NodeProfile:
    found = matched_anew(engines, devices)
    return NodeProfile(
        hostname="box", os="Linux", arch="x86_64", probed_at="2026-01-01T00:00:00Z", devices=devices, engines=found
    )


def names(cell: Cell, here: NodeProfile) -> dict[str, str]:
    return {place_id: place.engine_device for place_id, place in serving_places(cell, here).items()}


def cell(file_gb: float = 8, **engine: object) -> Cell:
    kind = str(engine.pop("kind", "llama-server"))
    settings = settings_type(kind)(**{"context": 4096, **engine})  # type: ignore[arg-type]  # a test's shorthand
    artifact = Artifact("Q4_K_M", (ModelFile("m.gguf", int(file_gb * GB), "0" * 64),), root="/models")
    return Cell("c1", FileModel("m", artifact), "", settings, Sampling(temperature=0.8))


def plan(one: Cell, overlap: str = "auto") -> Plan:
    return Plan("s", (one,), (), Limits(60, 60, 2), {"todo": "strict"}, overlap)


def test_a_cell_goes_to_the_cards_that_its_engine_knows() -> None:
    assert names(cell(), profile(CPU, FIRST, SECOND)) == {"nvidia-0": "CUDA0", "nvidia-1": "CUDA1"}
    assert names(cell(), profile(CPU, FIRST, engines=())) == {}
    assert why_not_served(cell(), profile(CPU, FIRST, engines=())) == "llama-server is not on box"


def test_the_cpu_of_a_machine_with_a_gpu_computes_only_where_the_spec_says_so() -> None:
    assert names(cell(gpu_layers=0), profile(CPU, FIRST)) == {"cpu": "CPU"}
    assert why_not_served(cell(gpu_layers=0), profile(CPU, FIRST)) is None
    for kind, engines in (("embedded", ()), ("embedded", (FoundEngine("embedded"),)), ("llama-server", (NO_GPU,))):
        here = profile(CPU, FIRST, engines=engines)
        assert names(cell(kind=kind), here) == {}
        why = why_not_served(cell(kind=kind), here) or ""
        assert why.startswith(f"{kind} cannot be given a GPU of box: nvidia-0 (GeForce RTX 5090): ")
        assert "set engine.gpu_layers = 0" in why
        assert offer_of("n1", here, [cell(kind=kind)]).unserved == {"c1": why}
    assert names(cell(kind="embedded"), profile(CPU, engines=())) == {"cpu": "CPU"}


def test_the_engine_that_knows_the_gpu_is_named_where_it_is_there() -> None:
    why = why_not_served(cell(kind="embedded"), profile(CPU, FIRST, engines=(CUDA_SERVER,)))
    assert 'set engine.kind = "llama-server", which knows it, or set engine.gpu_layers = 0' in (why or "")
    assert "use a build" in (why_not_served(cell(), profile(CPU, FIRST, engines=(NO_GPU,))) or "")


def test_graphics_whose_memory_nobody_knows_do_not_keep_a_machine_from_its_cpu() -> None:
    inside = Device(id="intel-0", vendor="intel", name="Intel graphics 46a6", kind="unified")
    assert names(cell(), profile(CPU, inside, engines=(NO_GPU,))) == {"cpu": "CPU"}


def test_a_program_that_the_spec_names_is_the_one_that_counts() -> None:
    """It once counted for nothing: the cell then ran on the CPU, beside the GPU."""
    named = replace(CUDA_SERVER, path="/mine/llama-server", named="/mine/llama-server")
    here = profile(CPU, FIRST, SECOND, engines=(NO_GPU, named))
    one = cell(binary="/mine/llama-server")
    assert named_binaries([one, cell()]) == ("/mine/llama-server",)
    assert names(one, here) == {"nvidia-0": "CUDA0", "nvidia-1": "CUDA1"}
    order = to_cell_order(plan(one), one, ev.StartLease("L1", "c1", "n1", "nvidia-0"), run_id="r", profile=here)
    assert (order.cell.engine.program, order.place.engine_device, order.place.backend) == (
        "/mine/llama-server",
        "CUDA0",
        "cuda",
    )
    absent = replace(named, problem="engine.binary names /mine/llama-server, which does not exist on this node")
    assert why_not_served(one, profile(CPU, FIRST, engines=(CUDA_SERVER, absent))) == absent.problem
    assert why_not_served(one, profile(CPU, FIRST)) == "llama-server is not on box"


def test_a_card_that_the_engine_does_not_know_is_said_in_the_plan_and_in_the_row() -> None:
    one_only = replace(CUDA_SERVER, devices=CUDA_SERVER.devices[:1])
    here = profile(CPU, FIRST, SECOND, engines=(one_only,))
    assert names(cell(), here) == {"nvidia-0": "CUDA0"}
    assert remarks(here, [cell()]) == [
        "nvidia-1 (GeForce RTX 5060 Ti) is not used by llama-server: it does not list it"
    ]
    order = to_cell_order(plan(cell()), cell(), ev.StartLease("L1", "c1", "n1", "nvidia-0"), run_id="r", profile=here)
    assert (
        order.place.unmatched
        == tuple(unmatched_devices(cell(), here))
        == ("nvidia-1 (GeForce RTX 5060 Ti): it does not list it",)
    )


@pytest.mark.parametrize(
    ("threads", "cores", "said"),
    [(64, 2.0, "2 cores"), (2, 1.5, "1.5 cores"), (2, 2.0, ""), (1, 0.5, ""), (9, None, "")],
)
def test_more_threads_than_cores_are_said(threads: int, cores: float | None, said: str) -> None:
    found = remarks(replace(profile(CPU), cores_usable=cores), [cell(), cell(threads=threads)])
    assert found == (
        [f"engine.threads = {threads}, and there are {said}: threads that share one wait for each other at every token"]
        if said
        else []
    )


def test_the_backend_is_part_of_the_hardware_class() -> None:
    vulkan = FoundEngine("llama-server", "/x", "b1", (EngineDevice("Vulkan0", "GeForce RTX 5090"),))
    by_backend = [offer_of("n1", profile(CPU, FIRST, engines=(one,)), [cell()]) for one in (CUDA_SERVER, vulkan)]
    first, second = (offer.classes["c1"]["nvidia-0"] for offer in by_backend)
    assert first != second


def test_a_server_on_the_cpu_is_kept_from_the_cards() -> None:
    """Each would lose hundreds of megabytes to it for its life."""
    one = cell(gpu_layers=0)
    lease = ev.StartLease("L1", "c1", "n1", "cpu")
    order = to_cell_order(plan(one), one, lease, run_id="r", profile=profile(CPU, FIRST))
    assert (order.place.engine_device, order.place.backend, order.place.visible) == (
        "CPU",
        "cpu",
        ("CUDA_VISIBLE_DEVICES=-1",),
    )


def test_a_device_that_must_be_left_alone_or_is_unknown_gets_nothing() -> None:
    alone = replace(FIRST, excluded="drives the screen")
    unknown = replace(SECOND, memory_total_bytes=None)
    assert names(cell(), profile(CPU, alone)) == {"cpu": "CPU"}
    assert names(cell(), profile(CPU, alone, unknown)) == {}
    assert "its memory is not known" in (why_not_served(cell(), profile(CPU, alone, unknown)) or "")


def test_slots_and_verdicts() -> None:
    offer = offer_of("n1", profile(CPU, FIRST, SECOND), [cell(file_gb=20)])
    assert [slot.slot_id for slot in offer.slots] == [("n1", "nvidia-0"), ("n1", "nvidia-1")]
    assert offer.verdicts["c1"]["nvidia-1"].kind is VerdictKind.TOO_BIG
    assert offer.verdicts["c1"]["nvidia-0"].kind is not VerdictKind.TOO_BIG
    assert offer.unserved == {}


def test_grading_overlaps_on_cards_only_unless_asked() -> None:
    assert overlaps(plan(cell()), [FIRST])
    assert not overlaps(plan(cell()), [CPU])
    assert overlaps(plan(cell(), "always"), [CPU])
    assert not overlaps(plan(cell(), "never"), [FIRST])


def test_a_lease_is_told_everything_its_rows_need() -> None:
    lease = ev.StartLease("L1", "c1", "n1", "nvidia-1")
    order = to_cell_order(plan(cell()), cell(), lease, run_id="r", profile=profile(CPU, FIRST, SECOND))
    place = order.place
    assert (place.engine_device, place.place_id, order.overlap_grading) == ("CUDA1", "nvidia-1", True)
    assert isinstance(order.cell.engine, LlamaServerSettings)
    assert order.cell.engine.binary == "/opt/llama-server"
    assert place.hardware_class.startswith("geforce-rtx-5060-ti")
