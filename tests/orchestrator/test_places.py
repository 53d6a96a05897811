"""Places of several GPUs: which of a machine's GPUs go together, what a model needs there, and who gets them when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import events as ev
from orchestrator.expand import expand
from orchestrator.nodes import offer_of, to_cell_order
from orchestrator.offload import with_offload
from orchestrator.placement import Slot
from orchestrator.places import serving_places, why_not_served
from orchestrator.plan import Limits, Plan
from orchestrator.spec import parse_spec
from orchestrator.state import SweepState
from profiles.probe.engines import matched_anew
from profiles.types import Device, EngineDevice, FoundEngine, NodeProfile
from quants.artifact import Artifact, ModelFile
from quants.fit.verdict import Verdict, VerdictKind
from quants.models import FileModel
from runners.chat import Sampling
from runners.engines.settings import LlamaCppSettings, LlamaServerSettings
from runners.work import Cell
from tests.profiles.machines import nvidia
from tests.quants.fitmodels import header_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quants.gguf import Header

GIB = 1 << 30
CPU = Device(id="cpu", vendor="cpu", name="A CPU", kind="cpu", memory_total_bytes=64 * GIB, memory_free_bytes=60 * GIB)


def machine(*sizes: float, ram_gib: float = 64, uuids: bool = True) -> NodeProfile:
    """A machine with cards of these GiB."""
    cards = [
        replace(
            nvidia(number, f"GeForce RTX {size:g}", size),
            uuid=f"GPU-{number}" if uuids else None,
            memory_free_bytes=int(size * GIB),
        )
        for number, size in enumerate(sizes)
    ]
    listed = tuple(
        EngineDevice(f"CUDA{number}", card.name, uuid=card.uuid if uuids else None) for number, card in enumerate(cards)
    )
    engines = matched_anew((FoundEngine("llama-server", "/x", "b1", listed),), (CPU, *cards))
    return NodeProfile(
        "box",
        "Linux",
        "x86_64",
        "2026-01-01T00:00:00Z",
        ram_total_bytes=int(ram_gib * GIB),
        ram_free_bytes=int(ram_gib * GIB),
        devices=(CPU, *cards),
        engines=engines,
    )


def cell(model: Header | None = None, *, file_gib: float = 8, **engine: Any) -> Cell:
    from orchestrator.fitting import footprints_of

    settings = LlamaServerSettings(**{"context": 4096, **engine})
    artifact = Artifact("Q4_0", (ModelFile("m.gguf", int(file_gib * GIB), "0" * 64),), root="/models")
    footprints = {} if model is None else footprints_of(model, settings)
    return Cell("c1", FileModel("m", artifact, footprints), "", settings, Sampling())


def places(one: Cell, here: NodeProfile) -> dict[str, str]:
    return {place_id: place.engine_device for place_id, place in serving_places(one, here).items()}


def test_two_gpus_go_together_and_are_told_apart_by_their_uuids() -> None:
    here = machine(24, 24)
    assert places(cell(devices=2), here) == {"nvidia-0+nvidia-1": "CUDA0,CUDA1"}
    (place,) = serving_places(cell(devices=2), here).values()
    assert place.visible == ("CUDA_VISIBLE_DEVICES=GPU-0,GPU-1",)
    assert places(cell(devices="all"), here) == {"nvidia-0+nvidia-1": "CUDA0,CUDA1"}
    assert places(cell(devices=1), here) == places(cell(), here) == {"nvidia-0": "CUDA0", "nvidia-1": "CUDA0"}


def test_of_three_gpus_each_pair_is_a_place() -> None:
    here = machine(24, 24, 12, uuids=False)
    assert places(cell(devices=2), here) == {
        "nvidia-0+nvidia-1": "CUDA0,CUDA1",
        "nvidia-0+nvidia-2": "CUDA0,CUDA2",
        "nvidia-1+nvidia-2": "CUDA1,CUDA2",
    }
    offer = offer_of("n", here, [cell(devices=2), replace(cell(), cell_id="c2")])
    assert [slot.slot_id[1] for slot in offer.slots[:3]] == ["nvidia-0", "nvidia-1", "nvidia-2"]
    assert len(set(offer.classes["c1"].values())) == 2, "two equal cards are not what a small one and a large one are"


def test_more_gpus_than_there_are_is_a_sentence() -> None:
    assert places(cell(devices=3), machine(24, 24)) == {}
    why = why_not_served(cell(devices=3), machine(24, 24)) or ""
    assert "engine.devices = 3" in why
    assert "nvidia-0 (NVIDIA GeForce RTX 24), nvidia-1" in why
    assert "take fewer" in why


def test_without_a_gpu_nothing_is_spread_in_silence() -> None:
    alone = replace(machine(), devices=(CPU,))
    assert places(cell(devices=2), alone) == {}
    assert why_not_served(cell(devices=2), alone) == "engine.devices = 2 needs GPUs, and box has none; leave it out"
    assert places(cell(devices="all"), alone) == places(cell(), alone) == {"cpu": "CPU"}


def test_instances_of_one_card_do_not_go_together() -> None:
    here = machine(20, 20)
    cards = tuple(replace(card, uuid=f"MIG-{card.index}") for card in here.gpus)
    listed = tuple(EngineDevice("CUDA0", card.name, uuid=card.uuid) for card in cards)
    engines = matched_anew((FoundEngine("llama-server", "/x", "b1", listed),), (CPU, *cards))
    here = replace(here, devices=(CPU, *cards), engines=engines)
    assert places(cell(devices=2), here) == {}
    assert "only one instance" in (why_not_served(cell(devices=2), here) or "")


def test_a_model_that_fits_no_card_fits_two(tmp_path: Path) -> None:
    header = header_of("qwen3-32b", "Q4_K_M")
    here = machine(16, 16)
    alone = offer_of("n", here, [cell(header, file_gib=18.4)]).verdicts["c1"]
    both = offer_of("n", here, [cell(header, file_gib=18.4, devices=2)]).verdicts["c1"]
    assert {verdict.kind for verdict in alone.values()} == {VerdictKind.TOO_BIG}
    assert [verdict.kind for verdict in both.values()] == [VerdictKind.FITS]


def test_a_lease_on_two_gpus_says_how_they_share() -> None:
    header = header_of("qwen3-32b", "Q4_K_M")
    one = cell(header, file_gib=18.4, devices=2, split_mode="row")
    here = machine(24, 12)
    plan = Plan("s", (one,), (), Limits(1.0, 1.0, 1), {})
    lease = ev.StartLease("L1", "c1", "n", "nvidia-0+nvidia-1")
    place = to_cell_order(plan, one, lease, run_id="r", profile=here).place
    assert (place.devices, place.engine_device) == (("nvidia-0", "nvidia-1"), "CUDA0,CUDA1")
    assert place.tensor_split == (24.0, 12.0)
    assert place.memory_bytes == 36 * GIB
    assert place.predicted_bytes is not None
    assert place.predicted_bytes > 18 * 10**9


def started(orders: Sequence[ev.Instruction]) -> list[str]:
    return [order.place_id for order in orders if isinstance(order, ev.StartLease)]


def test_a_device_serves_one_lease_whatever_places_it_is_part_of() -> None:
    fits = Verdict(VerdictKind.FITS, "fits", 1)
    slots = tuple(Slot(("n", name), "n", "hw", 1e12, tuple(name.split("+"))) for name in ("a", "b", "a+b"))
    state = SweepState([("pair", 10), ("x", 10), ("y", 10)], [("p1", "pair"), ("x1", "x"), ("y1", "y")], retries=1)
    single = {"a": fits, "b": fits}
    first = state.apply(ev.NodeJoined("n", slots, {"pair": {"a+b": fits}, "x": single, "y": single}))
    assert started(first) == ["a+b"], "what needs both goes first, as both are seldom free at once"
    (lease,) = state.leases()
    state.apply(ev.LeaseReady(lease, 1.0))
    state.apply(ev.AttemptOffered("p1", 1, "passed", "model", 1.0, "hw", lease, "n", "a+b", ""))
    after = state.apply(ev.LeaseEnded(lease, "done"))
    assert sorted(started(after)) == ["a", "b"]


SPEC = """
name = "s"
seeds = [1]
exams = ["todo"]
[sampling]
max_tokens = 64
[engine]
kind = "llama-server"
context = 2048
{engine}
[[models]]
name = "m"
source = "builtin:stand-in"
quants = ["TQ1_0"]
"""


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("devices = 0", "engine.devices: must be a number of GPUs from 1 to 16"),
        ("devices = true", "engine.devices: must be a number of GPUs"),
        ('devices = "both"', 'engine.devices: must be a number of GPUs from 1 to 16, or "all"'),
        ('split_mode = "row"', "engine.split_mode: split_mode says how GPUs share a model; set engine.devices"),
        ("tensor_split = [1, 2]", "engine.tensor_split: tensor_split says how GPUs share a model"),
        ("devices = 3\ntensor_split = [1, 2]", "engine.tensor_split: it has 2 shares for 3 devices"),
        ("devices = 2\ntensor_split = [0, 1]", "engine.tensor_split"),
        ("devices = 2\ngpu_layers = 0", "engine.devices: gpu_layers = 0 computes on the CPU"),
        ('offload = "auto"\ngpu_layers = 3', "engine.offload: offload chooses gpu_layers itself"),
        ('offload = "some"', "engine.offload"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_with_their_line(tmp_path: Path, engine: str, said: str) -> None:
    from orchestrator.errors import SpecError

    text = SPEC.format(engine=engine)
    with pytest.raises(SpecError) as refused:
        expand(parse_spec(text, "s.toml"), file="s.toml", text=text, base_dir=tmp_path, local=False)
    assert said in str(refused.value)
    assert "s.toml:1" in str(refused.value)


def test_one_gpu_is_the_same_job_as_before_and_two_are_another(tmp_path: Path) -> None:
    def job(engine: str) -> str:
        text = SPEC.format(engine=engine)
        plan = expand(parse_spec(text, "s.toml"), file="s.toml", text=text, base_dir=tmp_path, local=False)
        return plan.jobs[0].job_id

    assert len({job(""), job("devices = 2"), job('devices = 2\nsplit_mode = "row"')}) == 3


# -- offload


def settled(header: Header, here: NodeProfile, file_gib: float, **engine: Any) -> LlamaCppSettings:
    one = cell(header, file_gib=file_gib, **engine)
    assert isinstance(one.engine, LlamaServerSettings)
    return with_offload(one, one.engine, header, [here])


def test_offload_moves_experts_before_layers_and_only_where_nothing_fits_whole() -> None:
    experts = header_of("qwen3-30b-a3b", "Q4_K_M")
    moved = settled(experts, machine(12), 17.3, offload="auto")
    assert moved.gpu_layers is None
    assert 0 < (moved.cpu_moe_layers or 0) < 48
    assert settled(experts, machine(12), 17.3) == cell(experts).engine, "never is the default"
    assert settled(experts, machine(12, 32), 17.3, offload="auto").cpu_moe_layers is None, "one card holds it whole"
    dense = header_of("qwen3-32b", "Q4_K_M")
    layers = settled(dense, machine(16), 18.4, offload="auto")
    assert layers.cpu_moe_layers is None
    assert 0 < (layers.gpu_layers or 0) < 65
    assert settled(dense, machine(16), 18.4, offload="experts").gpu_layers is None, "it has no experts to move"
    assert settled(dense, machine(16, ram_gib=2), 18.4, offload="auto").gpu_layers is None, "no room in host memory"


def test_what_is_offloaded_fits_and_is_the_plans_own() -> None:
    dense = header_of("qwen3-32b", "Q4_K_M")
    here = machine(16)
    engine = settled(dense, here, 18.4, offload="auto")
    (verdict,) = offer_of("n", here, [cell(dense, file_gib=18.4, **as_given(engine))]).verdicts["c1"].values()
    assert verdict.kind is VerdictKind.FITS_OFFLOADED
    a_little_less = replace(here, devices=(CPU, replace(here.gpus[0], memory_free_bytes=16 * GIB - GIB // 1000)))
    a_little_more = replace(here, devices=(CPU, replace(here.gpus[0], memory_free_bytes=16 * GIB + GIB // 3)))
    assert settled(dense, a_little_more, 18.4, offload="auto") == engine, "made again tomorrow it comes out alike"
    assert settled(dense, a_little_less, 18.4, offload="auto") != engine
    assert engine.comparable()["gpu_layers"] == engine.gpu_layers
    assert "offload" not in engine.comparable()


def as_given(engine: LlamaCppSettings) -> dict[str, Any]:
    return {"gpu_layers": engine.gpu_layers, "cpu_moe_layers": engine.cpu_moe_layers}
