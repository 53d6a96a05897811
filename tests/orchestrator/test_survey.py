"""Too big is not the end: what a spec asks for is judged by headers, before anything is hashed or fetched."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import profiles.probe
from orchestrator.errors import SpecError
from orchestrator.expand import expand
from orchestrator.outlook import outlook, outlook_lines
from orchestrator.places import ServingPlace
from orchestrator.preview import preview
from orchestrator.spec import parse_spec
from orchestrator.survey import Survey, Surveyor, survey
from orchestrator.terminal import Json
from quants.hub.client import HubSettings
from quants.sources import resolve as source_module
from runners.engines.settings import EmbeddedSettings
from runners.work import Cell
from tests.quants.fitmodels import model, write_sparse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GB = 10**9
LABELS = ("Q2_K", "Q6_K", "BF16")
SPEC = """\
name = "demo"
seeds = "1-2"
exams = ["todo"]
[sampling]
max_tokens = 1000
[engine]
context = 4096
[[models]]
name = "big"
source = "{source}"
quants = {quants}
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 35 billion parameters as sparse files, 12 to 69 GB."""
    folder = tmp_path_factory.mktemp("family")
    for label in LABELS:
        write_sparse(folder / f"M-{label}.gguf", model("qwen3.5-35b-a3b", label))
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Has this machine be one of so many GB of memory."""
    real = profiles.probe.probe_node()

    def gives(memory_gb: float) -> None:
        room = int(memory_gb * GB)
        cpu = replace(real.device("cpu"), memory_total_bytes=room, memory_free_bytes=room)
        monkeypatch.setattr(profiles.probe, "probe_node", lambda **_: replace(real, devices=(cpu,)))

    return gives


def surveyed(folder: Path, quants: str) -> Survey:
    text = SPEC.format(source=folder, quants=quants)
    return survey(parse_spec(text, "demo.toml"), file="demo.toml", text=text, base_dir=folder)


@pytest.fixture
def nothing_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    def hashes(*_: object, **__: object) -> str:
        raise AssertionError("a file was hashed")

    monkeypatch.setattr(source_module, "file_sha256", hashes)


@pytest.mark.usefixtures("nothing_is_hashed")
@pytest.mark.parametrize("quants", ['"all"', '"fitting"'])
def test_what_fits_nowhere_is_left_out_by_name(family: Path, machine: Callable[[float], None], quants: str) -> None:
    machine(34)
    found = surveyed(family, quants)
    assert [each.cell.label for each in found.cells] == ["big Q2_K", "big Q6_K"]
    ((left_out, reason),) = found.left_out
    assert left_out.label == "big BF16"
    assert reason.startswith("cpu: needs")


@pytest.mark.parametrize(
    ("folder", "engine", "variant", "said"),
    [
        ("devstral-24b", "", "off", "devstral-24b never reasons"),
        ("Devstral", "", "on", "devstral-24b never reasons"),
        ("gpt-oss-20b", "", "off", "gpt-oss-20b reasons by effort"),
        ("deepseek-r1-14b", "off", "", "deepseek-r1-14b always reasons"),
        ("devstral-24b", "on", "", "devstral-24b never reasons"),
        # "off" for a whole sweep is for those of its models that reason.
        ("devstral-24b", "off", "", None),
        ("qwen3-8b", "", "off", None),
        ("somebody-elses", "", "off", None),
    ],
)
def test_reasoning_that_the_catalogue_knows_better_is_said(
    tmp_path: Path, folder: str, engine: str, variant: str, said: str | None
) -> None:
    (tmp_path / folder).mkdir()
    write_sparse(tmp_path / folder / "m-Q8_0.gguf", model("llama-3.2-1b", "Q8_0"))
    text = SPEC.format(source=folder, quants='"all"')
    if engine:
        text = text.replace("[engine]", f'[engine]\nreasoning = "{engine}"')
    if variant:
        text += f'[[models.variants]]\nname = "other"\nreasoning = "{variant}"\n'
    found = survey(parse_spec(text, "demo.toml"), file="demo.toml", text=text, base_dir=tmp_path, local=False)
    warned = [line for line in found.warnings if "reasoning" in line]
    assert len(warned) == (said is not None)
    if said is not None:
        assert said in warned[0]
        assert f'reasoning = "{engine or variant}" may change nothing' in warned[0]


@pytest.mark.usefixtures("nothing_is_hashed")
def test_what_was_named_and_does_not_fit_is_a_mistake(family: Path, machine: Callable[[float], None]) -> None:
    machine(34)
    with pytest.raises(SpecError, match=r"demo.toml:11: models\[0\].quants: 'big BF16' does not fit") as caught:
        surveyed(family, '["Q2_K", "BF16"]')
    assert "the nearest that fits is 'Q6_K'" in str(caught.value)
    assert "big Q2_K" not in str(caught.value)


@pytest.mark.usefixtures("nothing_is_hashed")
def test_the_same_cell_under_two_names_is_a_mistake_before_anything_is_hashed(
    family: Path, machine: Callable[[float], None]
) -> None:
    machine(34)
    text = SPEC.format(source=family, quants='["Q2_K"]')
    text += '[[models.variants]]\nname = "one"\n[[models.variants]]\nname = "two"\n'
    with pytest.raises(
        SpecError, match=r"'big \(two\) Q2_K' is the same file with the same settings as 'big \(one\) Q2_K'"
    ):
        survey(parse_spec(text, "demo.toml"), file="demo.toml", text=text, base_dir=family)
    text += "sampling = { temperature = 0.1 }\n"
    found = survey(parse_spec(text, "demo.toml"), file="demo.toml", text=text, base_dir=family)
    assert len(found.cells) == 2


@pytest.mark.usefixtures("nothing_is_hashed")
def test_what_an_earlier_plan_has_stays_whatever_memory_is_used_by_now(
    family: Path, machine: Callable[[float], None]
) -> None:
    machine(34)
    planned = [each.cell for each in surveyed(family, '["Q6_K"]').cells]
    machine(6)
    text = SPEC.format(source=family, quants='["Q6_K"]')
    spec = parse_spec(text, "demo.toml")
    again = Surveyor(spec, file="demo.toml", text=text, base_dir=family, local=True, earlier=planned).survey()
    assert ([each.cell.label for each in again.cells], again.problems) == (["big Q6_K"], [])
    with pytest.raises(SpecError, match="does not fit"):
        surveyed(family, '["Q6_K"]')


@pytest.mark.usefixtures("nothing_is_hashed")
def test_a_model_of_which_nothing_fits_is_a_mistake(family: Path, machine: Callable[[float], None]) -> None:
    machine(6)
    with pytest.raises(SpecError, match="'big Q2_K' does not fit this machine") as caught:
        surveyed(family, '"all"')
    assert "no smaller quant of it fits either" in str(caught.value)
    assert "BF16" not in str(caught.value)


@pytest.mark.usefixtures("nothing_is_hashed")
def test_plan_shows_the_whole_table_and_hashes_nothing(
    family: Path, tmp_path: Path, machine: Callable[[float], None]
) -> None:
    machine(34)
    spec = tmp_path / "demo.toml"
    spec.write_text(SPEC.format(source=family, quants='"all"'))
    (part,) = preview(str(spec), as_json=True)
    assert isinstance(part, Json)
    value: dict[str, Any] = json.loads(json.dumps(part.value))
    assert [(cell["quant"], cell["jobs"]) for cell in value["cells"]] == [("Q2_K", 2), ("Q6_K", 2), ("BF16", 0)]
    assert value["cells"][2]["verdicts"]["cpu"]["verdict"] == "too_big"
    assert value["jobs"] == 4
    assert value["outlook"]["download_bytes"] == 0
    assert value["outlook"]["seconds"] > 1000  # 2 x 2 answers of 1,000 tokens through 12 and 28 GB


def test_a_run_says_what_it_left_out_and_how_far_hashing_is(
    family: Path, machine: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(34)

    def hashes(path: Path, *, progress: Callable[[int], None]) -> str:
        half = path.stat().st_size // 2
        progress(half)
        progress(half)
        return format(abs(hash(path.name)), "064x")[-64:]

    monkeypatch.setattr(source_module, "file_sha256", hashes)
    monkeypatch.setattr("orchestrator.expand.HASHING_SAID_EVERY_S", 0.0)
    said: list[str] = []
    text = SPEC.format(source=family, quants='"all"')
    plan = expand(parse_spec(text, "d"), file="d", text=text, base_dir=family, status=said.append)
    assert [cell.model.quant for cell in plan.cells] == ["Q2_K", "Q6_K"]
    assert len(plan.jobs) == 4
    assert any(warning.startswith("big BF16 is left out: cpu: needs") for warning in plan.warnings)
    assert [line for line in said if line.startswith("hashing M-Q6_K.gguf: 50% of 28.")]


def test_downloads_are_counted_once_and_against_the_room_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quants.artifact import Artifact, ModelFile
    from quants.models import FileModel
    from runners.chat import Sampling

    monkeypatch.setattr(HubSettings, "from_environment", lambda: HubSettings("http://hub", tmp_path / "hub"))
    cpu = profiles.probe.probe_node().cpu
    assert cpu is not None
    there = ServingPlace(devices=(cpu,), engine_device="CPU", backend="cpu")

    def cell(name: str, size: int) -> Cell:
        artifact = Artifact("Q8_0", (ModelFile(name, size, "0" * 64),), repo="o/m", revision="r" * 40)
        return Cell("c", FileModel("m", artifact), "", EmbeddedSettings(context=1), Sampling())

    cells = [cell("a.gguf", 5), cell("a.gguf", 5), cell("b.gguf", 1 << 60)]
    here = tmp_path / "hub" / "models--o--m" / "snapshots" / ("r" * 40)
    found = outlook(cells, 3, [there, there, None])
    assert found["download_bytes"] == 5 + (1 << 60)
    assert "there is not enough room for that" in outlook_lines(found)[-1]
    here.mkdir(parents=True)
    for name in ("a.gguf", "b.gguf"):
        (here / name).write_bytes(b"x")
    found = outlook(cells, 3, [there, there, None])
    assert found["download_bytes"] == 0
    assert [line.partition(" on ")[0] for line in outlook_lines(found)] == ["about 7s"]
