"""From profiles to slots: which device an engine would use, and what a lease is told."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import events as ev
from orchestrator.nodes import engine_device_names, offer_slots, overlaps, serving_devices, to_cell_order
from orchestrator.plan import Cell, Limits, Plan
from profiles.types import Device, EngineDevice, FoundEngine, NodeProfile
from quants.artifact import Artifact, ModelFile
from quants.fit import VerdictKind
from runners.chat import Sampling
from runners.engines.base import EngineSettings

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


def profile(*devices: Device, engines: tuple[FoundEngine, ...] = (CUDA_SERVER,)) -> NodeProfile:
    return NodeProfile(
        hostname="box", os="Linux", arch="x86_64", probed_at="2026-01-01T00:00:00Z", devices=devices, engines=engines
    )


def cell(file_gb: float = 8, **engine: object) -> Cell:
    settings = EngineSettings(**{"kind": "llama-server", "context": 4096, **engine})  # type: ignore[arg-type]  # a test's shorthand
    artifact = Artifact("Q4_K_M", (ModelFile("m.gguf", int(file_gb * GB), "0" * 64),), root="/models")
    return Cell("c1", "m", "", artifact, settings, Sampling(temperature=0.8))


def plan(one: Cell, overlap: str = "auto") -> Plan:
    return Plan("s", (one,), (), Limits(60, 60, 2), {"todo": "strict"}, overlap)


def test_cards_are_known_by_the_engines_names() -> None:
    assert engine_device_names("llama-server", profile(CPU, FIRST, SECOND)) == {
        "nvidia-0": "CUDA0",
        "nvidia-1": "CUDA1",
    }
    vulkan = FoundEngine("llama-server", "x", "b1", (EngineDevice("Vulkan0", "AMD Radeon 890M (RADV)"),))
    igpu = Device(
        id="amd-0", vendor="amd", name="Radeon 890M", kind="unified", memory_total_bytes=1, memory_free_bytes=1
    )
    assert engine_device_names("llama-server", profile(CPU, igpu, engines=(vulkan,))) == {"amd-0": "Vulkan0"}


def test_a_cell_goes_to_cards_that_its_engine_can_use_and_else_to_the_cpu() -> None:
    assert serving_devices(cell(), profile(CPU, FIRST, SECOND)) == {"nvidia-0": "CUDA0", "nvidia-1": "CUDA1"}
    assert serving_devices(cell(gpu_layers=0), profile(CPU, FIRST)) == {"cpu": "CPU"}
    assert serving_devices(cell(kind="embedded"), profile(CPU, FIRST)) == {"cpu": "CPU"}
    assert serving_devices(cell(), profile(CPU, FIRST, engines=())) == {}


def test_a_device_that_must_be_left_alone_or_is_unknown_gets_nothing() -> None:
    alone = replace(FIRST, excluded="drives the screen")
    unknown = replace(SECOND, memory_total_bytes=None)
    assert serving_devices(cell(), profile(CPU, alone, unknown)) == {"cpu": "CPU"}


def test_slots_and_verdicts() -> None:
    slots, verdicts = offer_slots("n1", profile(CPU, FIRST, SECOND), [cell(file_gb=20)])
    assert [slot.slot_id for slot in slots] == [("n1", "nvidia-0"), ("n1", "nvidia-1")]
    assert verdicts["c1"]["nvidia-1"].kind is VerdictKind.TOO_BIG
    assert verdicts["c1"]["nvidia-0"].kind is not VerdictKind.TOO_BIG


def test_grading_overlaps_on_cards_only_unless_asked() -> None:
    assert overlaps(plan(cell()), FIRST)
    assert not overlaps(plan(cell()), CPU)
    assert overlaps(plan(cell(), "always"), CPU)
    assert not overlaps(plan(cell(), "never"), FIRST)


def test_a_lease_is_told_everything_its_rows_need() -> None:
    lease = ev.StartLease("L1", "c1", "n1", "nvidia-1")
    order = to_cell_order(plan(cell()), cell(), lease, run_id="r", profile=profile(CPU, FIRST, SECOND))
    assert (order.engine_device, order.device_id, order.overlap_grading) == ("CUDA1", "nvidia-1", True)
    assert order.engine.binary == "/opt/llama-server"
    assert order.hardware_class.startswith("geforce-rtx-5060-ti")
    gone = to_cell_order(plan(cell()), cell(), lease, run_id="r", profile=None)
    assert (gone.engine_device, gone.hardware_class) == (None, "unknown")
