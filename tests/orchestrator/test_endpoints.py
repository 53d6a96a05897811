"""Models that somebody else serves: their places, which are the same on every node, and who gets them when."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

import profiles.probe
import runners.engines
from orchestrator import events as ev
from orchestrator import schedule
from orchestrator.errors import RunFolderError, SpecError
from orchestrator.expand import expand
from orchestrator.nodes import offer_of, to_cell_order
from orchestrator.placement import Slot
from orchestrator.places import serving_places, why_not_served
from orchestrator.plan import Limits, Plan
from orchestrator.preview import preview
from orchestrator.records import Health, Station
from orchestrator.schedule import Schedule
from orchestrator.spec import parse_spec
from orchestrator.state import SweepState
from orchestrator.terminal import Json, Printer
from profiles.types import FoundEngine
from quants.fit.verdict import Verdict, VerdictKind
from quants.models import EndpointModel
from results.tables import report
from runners.chat import Sampling
from runners.engines.endpoint_settings import AnthropicSettings, OllamaSettings
from runners.work import Cell, Job
from tests.orchestrator.inprocess import Behaviour
from tests.orchestrator.test_growth import Sweeps, sweeps
from tests.orchestrator.test_places import cell as file_cell
from tests.orchestrator.test_places import machine
from tests.runners import somebody
from tests.runners.test_ollama_endpoint import BLOB, MANIFEST, MODEL, Ollama

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiles.types import NodeProfile

__all__ = ["sweeps"]

FITS = Verdict(VerdictKind.FITS, "fits", 1)


def endpoint_cell(cell_id: str = "c2", provider: str = "somebody", **settings: Any) -> Cell:
    engine = somebody.SomebodySettings(**settings)
    return Cell(cell_id, EndpointModel("elsewhere", provider, "large"), "", engine, Sampling())


def with_engine(profile: NodeProfile, problem: str | None = None) -> NodeProfile:
    return replace(profile, engines=(*profile.engines, FoundEngine("somebody", problem=problem)))


def test_an_endpoint_has_places_without_devices_as_many_as_it_may_be_asked_at_once() -> None:
    cell = endpoint_cell(concurrency=3)
    small, large = with_engine(machine(8)), with_engine(machine())
    places = serving_places(cell, small)
    assert list(places) == ["somebody#1", "somebody#2", "somebody#3"]
    assert {place.devices for place in places.values()} == {()}
    assert {place.bandwidth_of(cell.engine) for place in places.values()} == {None}
    classes = {place.hardware_class(here) for here in (small, large) for place in serving_places(cell, here).values()}
    assert len(classes) == 1, "who computes there is not the node's doing"
    assert classes.pop().startswith("endpoint-somebody-")
    other = endpoint_cell(provider="https://api.example.com/v1")
    (first, *_) = serving_places(other, small).values()
    assert first.place_id == "https://api.example.com/v1#1"
    assert first.hardware_class(small).startswith("endpoint-https-api.example.com-v1-")
    assert len(serving_places(endpoint_cell(concurrency=8, requests_per_minute=3.0), small)) == 3


def test_a_node_without_the_engine_offers_none_and_says_why() -> None:
    cell = endpoint_cell()
    assert serving_places(cell, machine(24)) == {}
    assert why_not_served(cell, machine(24)) == "somebody is not on box"
    assert why_not_served(cell, with_engine(machine(24), "SOMEBODY_KEY is not set")) == "SOMEBODY_KEY is not set"
    assert why_not_served(cell, with_engine(machine(24))) is None


def test_it_fits_whatever_the_node_has_and_is_offered_beside_the_cards() -> None:
    here = with_engine(machine(4))
    offer = offer_of("n", here, [file_cell(file_gib=18.0), endpoint_cell()])
    assert {verdict.kind for verdict in offer.verdicts["c1"].values()} == {VerdictKind.TOO_BIG}
    for verdict in offer.verdicts["c2"].values():
        assert (verdict.kind, verdict.reason, verdict.headroom_bytes) == (
            VerdictKind.FITS,
            "served elsewhere: it needs no memory here",
            None,
        )
    assert [(slot.slot_id[1], slot.elsewhere) for slot in offer.slots] == [
        ("somebody#1", True),
        ("somebody#2", True),
        ("nvidia-0", False),
    ]
    assert set(offer.classes["c2"].values()) == {slot.hardware_class for slot in offer.slots if slot.elsewhere}
    assert offer.unserved == {}


def test_a_lease_at_an_endpoint_has_no_device_and_is_graded_beside_the_next_answer() -> None:
    cell, here = endpoint_cell(), with_engine(machine(24))
    plan = Plan("s", (cell,), (), Limits(1.0, 1.0, 1), {})
    order = to_cell_order(plan, cell, ev.StartLease("L1", "c2", "n", "somebody#2"), run_id="r", profile=here)
    place = order.place
    assert (place.devices, place.place_id, place.engine_device, place.backend) == ((), "somebody#2", None, None)
    assert (place.predicted_bytes, place.memory_bytes, place.bandwidth_bytes_per_s) == (None, None, None)
    assert place.unmatched == (), "cards have nothing to do with it"
    assert order.overlap_grading


def test_a_plan_with_an_endpoint_survives_being_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    somebody.register(monkeypatch)
    cells = (endpoint_cell(requests_per_minute=7.5), file_cell())
    jobs = tuple(Job(f"v2-{cell.cell_id}", cell.cell_id, "todo", "1", 1) for cell in cells)
    plan = Plan("s", cells, jobs, Limits(1.0, 1.0, 1), {"todo": "strict"})
    assert Plan.from_json(plan.to_json()) == plan


def joined(node: str, *places: str, lacking: dict[str, str] | None = None) -> ev.NodeJoined:
    slots = tuple(Slot((node, place), node, "endpoint", elsewhere=True) for place in places)
    return ev.NodeJoined(node, slots, {"c": dict.fromkeys(places, FITS)}, lacking=lacking or {})


def started(orders: Sequence[ev.Instruction]) -> list[tuple[str, str]]:
    return [(order.node_id, order.place_id) for order in orders if isinstance(order, ev.StartLease)]


def test_the_places_of_an_endpoint_are_as_many_over_all_nodes_as_on_one() -> None:
    state = SweepState([("c", 0)], [(f"j{number}", "c") for number in range(9)], retries=1)
    first = started(state.apply(joined("n1", "cloud#1", "cloud#2")))
    assert len(first) == 1
    assert started(state.apply(joined("n2", "cloud#1", "cloud#2"))) == []
    (lease,) = state.leases()
    more = started(state.apply(ev.LeaseReady(lease, 0.1)))
    more += started(state.apply(ev.AttemptOffered("j0", 1, "passed", "model", 20.0, "endpoint", lease, *first[0], "")))
    assert len(more) == 1, "a second place pays, and there is no third"
    assert {place for _, place in (*first, *more)} == {"cloud#1", "cloud#2"}


def test_a_place_in_line_that_a_lost_node_had_is_another_nodes_at_once() -> None:
    state = SweepState([("c", 0), ("d", 0)], [("j", "c"), ("k", "d")], retries=1)
    both = [replace(joined(node, "cloud#1"), verdicts={c: {"cloud#1": FITS} for c in "cd"}) for node in ("n1", "n2")]
    assert started(state.apply(both[0])) == [("n1", "cloud#1")]
    assert started(state.apply(both[1])) == [], "n2 has the same place, and somebody is in it"
    assert started(state.apply(ev.NodeSilent("n1"))) == [], "it may still be asking"
    assert started(state.apply(ev.NodeLost("n1", "power cut"))) == [("n2", "cloud#1")]
    assert started(state.apply(both[0])) == []


def test_a_node_takes_what_another_lacks_the_needs_for_through_the_same_place() -> None:
    state = SweepState([("c", 0)], [("a", "c"), ("b", "c")], retries=1, needs={"b": frozenset({"go"})})
    assert started(state.apply(joined("n1", "cloud#1", lacking={"go": "n1 has no go"}))) == [("n1", "cloud#1")]
    assert started(state.apply(joined("n2", "cloud#1"))) == []
    (lease,) = state.leases()
    state.apply(ev.LeaseReady(lease, 0.1))
    state.apply(ev.AttemptOffered("a", 1, "passed", "model", 1.0, "endpoint", lease, "n1", "cloud#1", ""))
    assert started(state.apply(ev.LeaseEnded(lease, "done"))) == [("n2", "cloud#1")]


SPEC = """
name = "both"
seeds = [1, 2, 3]
exams = ["todo"]
overlap_grading = "never"
[sampling]
max_tokens = 60
[[models]]
name = "here"
source = "builtin:stand-in"
quants = ["TQ1_0"]
engine = { context = 2048, threads = 1 }
[[models]]
name = "elsewhere"
source = "large"
engine = { kind = "somebody" }
"""


def asked_for(text: str, folder: Path, *, local: bool = False) -> Plan:
    return expand(parse_spec(text, "s.toml"), file="s.toml", text=text, base_dir=folder, local=local)


def test_a_model_of_such_an_engine_is_planned_by_what_its_provider_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody.register(monkeypatch)
    plan = asked_for(SPEC, tmp_path)
    here, elsewhere = plan.cells
    assert (elsewhere.label, elsewhere.model) == ("elsewhere", EndpointModel("elsewhere", "somebody", "large"))
    assert elsewhere.engine.comparable() == {"kind": "somebody"}
    assert here.label == "here TQ1_0"
    assert Plan.from_json(plan.to_json()) == plan
    another = asked_for(SPEC.replace('"large"', '"larger"'), tmp_path)
    before, after = ({job.job_id for job in each.jobs} for each in (plan, another))
    assert len(before & after) == 3, "another model answers otherwise, the file is the same"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('source = "large"', 'source = "large"\nquants = ["Q8_0"]', "has no files; leave quants out"),
        ('"somebody" }', '"somebody", context = 5000 }', "the engine 'somebody' has no such setting"),
        (
            'engine = { kind = "somebody" }',
            '[[models.variants]]\nname = "a"\nengine = { kind = "somebody" }\n[[models.variants]]\nname = "b"',
            "its source cannot be both",
        ),
        (
            '"somebody" }',
            '"somebody" }\n[[models]]\nname = "twin"\nsource = "large"\nengine = { kind = "somebody" }',
            "'twin' is the same model of the same provider with the same settings as 'elsewhere'",
        ),
    ],
)
def test_what_an_endpoint_does_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    somebody.register(monkeypatch)
    with pytest.raises(SpecError) as refused:
        asked_for(SPEC.replace(old, new), tmp_path)
    assert said in str(refused.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class HastySettings(somebody.SomebodySettings):
    """Another engine for the same provider."""

    kind = "hasty"
    requests_per_minute: float | None = field(default=60.0, metadata={"comparable": False})

    @property
    def provider(self) -> str:
        return somebody.KIND


def test_models_of_a_provider_share_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody.register(monkeypatch)
    monkeypatch.setitem(runners.engines._ENGINES, "hasty", (HastySettings, "tests.runners.somebody", "SomebodyEngine"))
    third = '[[models]]\nname = "third"\nsource = "small"\nengine = {{ kind = "{}" }}\n'
    assert len(asked_for(SPEC + third.format("somebody"), tmp_path).cells) == 3
    with pytest.raises(SpecError, match="model 'third' is asked with other limits than another one of somebody"):
        asked_for(SPEC + third.format("hasty"), tmp_path)


def test_plan_shows_an_endpoint_without_a_size_a_download_or_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody.register(monkeypatch)
    probed = with_engine(profiles.probe.probe_node())
    monkeypatch.setattr(profiles.probe, "probe_node", lambda **_: probed)
    spec = tmp_path / "s.toml"
    spec.write_text(SPEC)
    (json_part,) = preview(str(spec), as_json=True)
    assert isinstance(json_part, Json)
    shown: Any = json_part.value
    report = shown["cells"][1]
    assert (report["model"], report["quant"], report["file_bytes"], report["context"]) == ("elsewhere", "", None, None)
    assert report["verdicts"].keys() == {"somebody#1", "somebody#2"}
    assert {verdict["verdict"] for verdict in report["verdicts"].values()} == {"fits"}
    assert report["missing"] is None
    assert shown["outlook"]["download_bytes"] == 0
    assert 30 < shown["outlook"]["seconds"] < 300, "three answers at 50 tokens a second, two at once"
    text = Printer(None).text_of(*preview(str(spec), as_json=False), width=120, colour=False)
    (line,) = [each for each in text.splitlines() if each.startswith("elsewhere")]
    assert line.split() == ["elsewhere", "3", "somebody#1", "fits"]


def test_a_sweep_with_an_endpoint_grows_and_its_rows_are_taken_over(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody.register(monkeypatch)
    sweeps.behaviour = Behaviour(engines=(FoundEngine("somebody"),))
    mine = [("elsewhere", "todo", seed) for seed in (1, 2, 3)]
    assert sweeps.run(SPEC).complete
    assert [each for each in sweeps.given if each[0] == "elsewhere"] == mine
    places = {(row["device"], row["devices"]) for row in sweeps.rows() if row["model"] == "elsewhere"}
    assert places <= {("somebody#1", 0), ("somebody#2", 0)}
    assert sweeps.run(SPEC.replace("[1, 2, 3]", "[1, 2, 3, 4]")).complete
    assert sorted(sweeps.given) == [("elsewhere", "todo", 4), ("here TQ1_0", "todo", 4)]
    with pytest.raises(RunFolderError, match="cannot stand beside") as refused:
        sweeps.run(SPEC.replace('"large"', '"larger"'))
    assert list(refused.value.details) == ["elsewhere: model: was large, is larger"]
    assert sweeps.run(SPEC, "again", reuse=[sweeps.folder / "run"]).complete
    assert sweeps.given == []
    shown = Printer(None).text_of(*report(sweeps.folder / "again").parts(), width=100, colour=False)
    assert "elsewhere" in shown
    assert "none" not in shown


def test_a_whole_sweep_of_a_file_beside_an_endpoint(tmp_path: Path) -> None:
    """Two nodes, a server of somebody else's, and everything real but Ray: see `tests.orchestrator.endpoint_sweep`."""
    argv = [sys.executable, "-m", "tests.orchestrator.endpoint_sweep", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["complete"], said["unplaced"], said["trouble"]) == (True, {}, "None")
    assert said["asked"] == 4
    assert said["at_once"] <= 2, "over both nodes"
    assert said["key_in_files"] == []
    rows = {(row["model"], row["seed"]): row for row in said["rows"]}
    assert len(rows) == len(said["rows"]) == 8
    assert {row["final"] for row in rows.values()} == {True}
    assert {row["outcome_class"] for row in rows.values()} <= {"model", "budget"}
    here, elsewhere = ([rows[model, seed] for seed in (1, 2, 3, 4)] for model in ("here", "elsewhere"))
    assert {row["device"] for row in elsewhere} <= {"somebody#1", "somebody#2"}
    assert {(row["devices"], row["file_sha256"], row["quant"]) for row in elsewhere} == {(0, None, "none")}
    assert {row["node"] for row in rows.values()} <= {"one", "two"}
    assert {row["hardware_class"] for row in elsewhere}.isdisjoint(row["hardware_class"] for row in here)
    assert {(row["device"], row["devices"]) for row in here} == {("cpu", 1)}
    replies = {(model, row["seed"]): row["reply"] for (model, _), row in rows.items()}
    assert all(reply is not None for reply in replies.values())


def test_a_place_that_a_lost_node_had_helps_whoever_it_pays_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "ANEW_PER_CHANGE", 0.01)  # as in a sweep of thousands of cells, hardly ever
    pairs = [("j", "c"), ("no", "nowhere"), *((f"k{number}", "d") for number in range(9))]
    state = SweepState([("c", 0), ("d", 0), ("nowhere", 0)], pairs, retries=1)
    assert started(state.apply(joined("n1", "cloud#1"))) == [("n1", "cloud#1")]
    both = joined("n2", "cloud#1", "cloud#2")
    assert started(state.apply(replace(both, verdicts={"d": both.verdicts["c"]}))) == [("n2", "cloud#2")]
    first, second = state.leases()
    for lease, job, node, place in ((first, "j", "n1", "cloud#1"), (second, "k0", "n2", "cloud#2")):
        state.apply(ev.LeaseReady(lease, 0.1))
        row = ev.AttemptOffered(job, 1, "passed", "model", 20.0, "endpoint", lease, node, place, "")
        assert started(state.apply(row)) == []
    assert started(state.apply(ev.NodeLost("n1", "power cut"))) == [("n2", "cloud#1")]


def test_a_node_that_is_gone_is_nobodys_rival() -> None:
    line = Schedule({}, {}, retries=1)
    stations = [
        Station(Slot((node, "cloud#1"), node, "cloud", elsewhere=True), (node, "cloud#1"), Health()) for node in "ab"
    ]
    for station in stations:
        line.add(station)
        line.find_rivals(station.node_id)
    assert [station.rivals for station in stations] == [(stations[1],), (stations[0],)]
    line.remove(stations[0])
    assert stations[1].rivals == ()


def test_a_provider_that_nobody_reaches_is_tried_as_often_as_one_device_is() -> None:
    line = [f"cloud#{number}" for number in range(1, 17)]
    state = SweepState([("c", 0)], [(f"j{number}", "c") for number in range(20)], retries=2)
    orders = state.apply(joined("n1", *line))
    tries = 0
    while leases := list(state.leases()):
        tries += 1
        orders = state.apply(ev.LeaseEnded(leases[0], "failed", "server_start", "no key"))
    assert tries == 3, "not for each of its places anew"
    assert state.complete
    assert {order.reason for order in orders if isinstance(order, ev.CommitUnrun)} == {"no key"}


def test_a_provider_in_quarantine_is_asked_nothing_more_by_that_node() -> None:
    cells = [f"c{number}" for number in range(4)]
    pairs = [(f"{cell}j{number}", cell) for cell in cells for number in range(5)]
    state = SweepState([(cell, 0) for cell in cells], pairs, retries=2)
    both = joined("n1", "cloud#1", "cloud#2", "cloud#3")
    state.apply(replace(both, verdicts=dict.fromkeys(cells, both.verdicts["c"])))
    first, second, third = state.leases()
    state.apply(ev.LeaseEnded(first, "failed", "server_start", "it is down"))
    told = state.apply(ev.LeaseEnded(second, "failed", "server_start", "it is down"))
    (quarantine,) = [order for order in told if isinstance(order, ev.Quarantine)]
    assert (quarantine.hostname, quarantine.place_id) == ("n1", "cloud")
    assert ev.CancelLease(third) in told, "it would be left without jobs"
    assert started(told) == []


def test_a_server_of_the_nodes_own_is_another_one_on_each_node() -> None:
    engine = OllamaSettings(concurrency=2)
    cell = Cell("c3", EndpointModel("m", engine.provider, "qwen3"), "", engine, Sampling())
    here, there = (replace(machine(24), hostname=name, engines=(FoundEngine("ollama"),)) for name in ("here", "there"))
    places = serving_places(cell, here)
    assert list(places) == ["http://127.0.0.1:11434@here#1", "http://127.0.0.1:11434@here#2"]
    assert places.keys().isdisjoint(serving_places(cell, there))
    (first, *_), (other, *_) = (list(serving_places(cell, node).values()) for node in (here, there))
    assert first.hardware_class(here) == other.hardware_class(there), "equal machines"
    assert first.hardware_class(here) != first.hardware_class(replace(here, cpu_model="another"))
    assert "endpoint" not in first.hardware_class(here)
    plan = Plan("s", (cell,), (), Limits(1.0, 1.0, 1), {})
    without_gpu = replace(here, devices=tuple(device for device in here.devices if device.kind == "cpu"))
    for profile, overlap in ((here, True), (without_gpu, False)):
        order = to_cell_order(
            plan, cell, ev.StartLease("L1", "c3", "n", "http://127.0.0.1:11434@here#1"), run_id="r", profile=profile
        )
        assert order.overlap_grading is overlap, "grading takes the processor that computes"
        assert order.place.devices == ()


def test_an_ollama_is_asked_for_digests_when_the_plan_is_made(tmp_path: Path) -> None:
    text = """
name = "o"
seeds = [1]
exams = ["todo"]
[sampling]
top_k = 5
[engine]
kind = "ollama"
base_url = "{url}"
[[models]]
name = "small"
source = "{name}"
"""
    with Ollama() as server:
        plan = asked_for(text.format(url=server.origin, name=MODEL), tmp_path)
        with pytest.raises(SpecError, match=r"s\.toml:12: .*has no model 'nobody'; it has: qwen3:0.6b"):
            asked_for(text.format(url=server.origin, name="nobody"), tmp_path)
    (cell,) = plan.cells
    assert cell.model == EndpointModel("small", server.origin, MODEL, BLOB, MANIFEST)
    assert (cell.sampling.top_k, cell.sampling.min_p, cell.sampling.temperature) == (5, 0.05, 0.8)
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(SpecError, match="broke: ConnectError"):
        asked_for(text.format(url="http://127.0.0.1:9", name=MODEL), tmp_path)


CLOUD = """
name = "c"
seeds = [1]
exams = ["todo"]
[sampling]
min_p = 0.1
temperature = 0.3
[engine]
kind = "{kind}"
key_env = "QS_A_KEY"
{more}
[[models]]
name = "large"
source = "x-1"
{model}
"""


def test_what_a_cloud_is_sent_is_what_the_spec_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QS_A_KEY", "not-in-any-plan-0123456789")
    for kind, more, kept in (
        ("openai", "", Sampling(temperature=0.3, min_p=0.1, max_tokens=8192)),
        ("openai", 'omit = ["temperature"]', Sampling(min_p=0.1, max_tokens=8192)),
        ("anthropic", "price_in = 3\nprice_out = 15", Sampling(temperature=0.3, max_tokens=8192)),
    ):
        plan = asked_for(CLOUD.format(kind=kind, more=more, model=""), tmp_path)
        assert plan.cells[0].sampling == kept
        assert "not-in-any-plan" not in json.dumps(plan.to_json())
        assert Plan.from_json(plan.to_json()) == plan
    priced = plan.cells[0].engine
    assert isinstance(priced, AnthropicSettings)
    assert (priced.price_out, priced.currency, priced.comparable()) == (15.0, "USD", {"kind": "anthropic"})


@pytest.mark.parametrize(
    ("kind", "more", "model", "said"),
    [
        ("anthropic", "", "sampling = { min_p = 0.2 }", "anthropic has no such setting; leave min_p out"),
        ("openai", "price_in = 3", "", "price_in and price_out are given together"),
        ("openai", 'base_url = "https://me:pw@host/v1"', "", "base_url holds a secret"),
        ("openai", 'base_url = "ftp://host/v1"', "", "base_url is an address such as"),
        ("openai", "reasoning = 'on'", "", "the engine 'openai' has no such setting"),
    ],
)
def test_what_a_cloud_does_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, more: str, model: str, said: str
) -> None:
    monkeypatch.setenv("QS_A_KEY", "x" * 20)
    with pytest.raises(SpecError) as refused:
        asked_for(CLOUD.format(kind=kind, more=more, model=model), tmp_path)
    assert said in str(refused.value)
    assert "pw" not in str(refused.value)


def test_a_key_in_place_of_its_variable_is_not_shown(tmp_path: Path) -> None:
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    with pytest.raises(SpecError, match="key_env names the variable that holds the key") as refused:
        asked_for(CLOUD.format(kind="openai", more="", model="").replace("QS_A_KEY", key), tmp_path)
    assert key not in str(refused.value)
