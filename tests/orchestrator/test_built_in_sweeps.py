"""The built-in sweeps of the reports: what they ask for is what the reports say, and `plan` of them needs no GPU."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import quants
from orchestrator.errors import SpecError
from orchestrator.preview import preview
from orchestrator.survey import survey
from orchestrator.sweep import SWEEPS, built_in_sweeps, open_spec
from orchestrator.terminal import Json, Printer
from profiles.probe.needs import find_needs
from quants.catalogue import find_model
from results.published.source import read_source
from runners.exams import get_exam
from tests.hubserver.server import LocalHub

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND_IN = Path(quants.__file__).parent / "standin"
OF_REPORTS = {"todo-showdown": "todo-cli", "go-exams": "go-exams", "go-exams-dropped": "go-exams"}
THERE = sorted(OF_REPORTS)
CLOUD = "todo-showdown-cloud"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A Hub of this test's own, empty, which is asked in place of the real one."""
    from huggingface_hub import close_session, constants

    (tmp_path / "store").mkdir()
    with LocalHub(tmp_path / "store") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.chdir(tmp_path)
        yield hub
    close_session()


@pytest.fixture
def no_hub(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(
        constants, "HF_HUB_OFFLINE", True
    )  # or else a refused connection is tried again, and waited for


def plan(name: str) -> dict[str, Any]:
    (found,) = preview(name, as_json=True)
    assert isinstance(found, Json)
    value: dict[str, Any] = json.loads(Printer(None).text_of(found))
    return value


@pytest.fixture
def needs(name: str) -> None:
    """What the exams of a sweep need of this machine, whose lack refuses a plan."""
    wanted = {need for exam in open_spec(name).spec.exams for need in get_exam(exam).needs}
    if missing := [need.what for need in find_needs(tuple(wanted)) if need.found is None]:
        pytest.skip(f"this machine lacks {', '.join(missing)}")


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("name", THERE)
def test_without_network_the_plan_says_what_it_does_not_know(name: str, no_hub: None) -> None:
    found, spec = plan(name), open_spec(name).spec
    wanted = [(model.name, quant) for model in spec.models for quant in model.quants]
    assert [(cell["model"], cell["quant"]) for cell in found["cells"]] == wanted
    assert found["jobs"] == len(wanted) * len(spec.seeds) * len(spec.exams)
    assert all("offline mode is on" in cell["unreached"] for cell in found["cells"])
    assert {cell["file_bytes"] for cell in found["cells"]} == {None}
    (said,) = [line for line in found["warnings"] if line.startswith("not known of")]
    assert all(model.name in said for model in spec.models)
    source = open_spec(name)
    with pytest.raises(SpecError, match="offline mode is on"):  # to run it, everything has to be known
        survey(source.spec, file=source.file, text=source.text, base_dir=source.base_dir)


def test_a_plan_without_the_hub_reads_well(no_hub: None, tmp_path: Path) -> None:
    spec = tmp_path / "one.toml"
    head, _, _ = (SWEEPS / "todo-showdown.toml").read_text().partition('[[models]]\nname = "DeepSeek-R1"')
    spec.write_text(head.replace('quants = ["Q4_K_M"]', 'quants = "all"'))
    page = Printer(None).text_of(*preview(str(spec), as_json=False), width=200)
    assert page.splitlines()[0] == "todo-showdown: 1 cell x 5 jobs = 5 jobs"
    assert "Codestral-22B  all             5          not known\n" in page
    assert (
        "not known of Codestral-22B: whether the quants are there, their size, and what fits (was never listed" in page
    )


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("name", ["go-exams"])  # the largest; what the others name is in the catalogue as well
def test_with_the_hub_every_cell_has_its_file_and_a_verdict(name: str, hub: LocalHub) -> None:
    spec = open_spec(name).spec
    files = sorted(STAND_IN.glob("*.gguf"))
    for number, model in enumerate(spec.models):
        entry = find_model(model.source)
        assert entry is not None, model.source
        # Small files under the names that the plan asks for: what stands in them is not what is planned.
        hub.add(
            entry.repo, {f"m-{quant}.gguf": files[(number + at) % len(files)] for at, quant in enumerate(model.quants)}
        )
    found = plan(name)
    assert all(cell["file_bytes"] and cell["verdicts"] and not cell["unreached"] for cell in found["cells"])
    assert found["jobs"] == len(found["cells"]) * len(spec.seeds) * len(spec.exams)


def test_every_built_in_sweep_is_of_a_report_or_the_quickstart() -> None:
    assert set(built_in_sweeps()) == {"quickstart", *OF_REPORTS, CLOUD}


def test_a_repository_that_is_not_there_is_an_error_all_the_same(hub: LocalHub) -> None:
    with pytest.raises(SpecError, match=r"models\[0\].source"):
        preview("todo-showdown", as_json=False)


@pytest.mark.parametrize("name", THERE)
def test_what_the_report_says_is_what_is_run(name: str) -> None:
    source, spec = read_source(OF_REPORTS[name]), open_spec(name).spec
    lines = [line for line in source.lines if line.text("exam") in spec.exams and line.text("kind") != "cloud"]
    if name == "go-exams":
        lines = [line for line in lines if line.table != "v1-dropped"]
    if name == "go-exams-dropped":
        lines = source.of_table("v1-dropped")
    published = {(line.text("name"), line.text("quant")) for line in lines}
    ours = {(model.source, quant) for model in spec.models for quant in model.quants}
    assert {name for name, _ in ours} == {name for name, _ in published}
    assert {each for each in published if each[1]} <= ours, "its quants, where it says them"
    for condition, value in (
        ("context", spec.engine.context),
        ("temperature", spec.sampling.temperature),
        ("timeout_s", spec.limits.generation_timeout_s),
        ("max_tokens", spec.sampling.max_tokens),
    ):
        said = {figure.value for line in lines if (figure := line.figure(condition)) is not None}
        assert not said or said == {value}, condition
    if (seeds := lines[0].values.get("seeds")) is not None:
        assert spec.seeds == seeds
    reasoning = {line.text("name") for line in lines if line.text("reasoning_mode") == "off"}
    assert {model.source for model in spec.models if model.engine.reasoning == "off"} == reasoning
    assert spec.scoring == "published"


@pytest.mark.parametrize("name", THERE)
def test_what_the_report_does_not_say_is_said_to_be_ours(name: str) -> None:
    text = (SWEEPS / f"{name}.toml").read_text()
    said = {"seeds", "temperature", "context", "max_tokens", "generation_timeout_s"}
    (line, *_) = [line for line in read_source(OF_REPORTS[name]).lines if line.text("kind") != "cloud"]
    known = {"generation_timeout_s" if key == "timeout_s" else key for key in line.values}
    for key in said - known:
        stands = [each for each in text.splitlines() if each.startswith(f"{key} =")]
        assert all("# ours" in each for each in stands), key
    assert tomllib.loads(text)["engine"]["kind"] == "embedded", "plan needs no program that has to be installed"


class TestCloud:
    """The models of a report that somebody else serves: they need a key, and no file."""

    def test_they_are_those_of_the_report_with_the_settings_of_its_local_ones(self) -> None:
        lines = [line for line in read_source("todo-cli").lines if line.text("kind") == "cloud"]
        cloud, local = open_spec(CLOUD).spec, open_spec("todo-showdown").spec
        names = {model.name.replace("-", " ") for model in cloud.models}
        assert names == {line.text("model") for line in lines}
        assert (cloud.seeds, cloud.exams, cloud.scoring) == (local.seeds, local.exams, local.scoring)
        assert (cloud.sampling.max_tokens, cloud.sampling.temperature) == (4096, 0.8)

    def test_the_plan_needs_the_key_and_nothing_else(self, no_hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        with pytest.raises(SpecError, match="the variable ANTHROPIC_API_KEY, which should hold the key, is not set"):
            preview(CLOUD, as_json=False)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "not-a-key")
        page = Printer(None).text_of(*preview(CLOUD, as_json=False), width=200)
        assert page.splitlines()[0] == "todo-showdown-cloud: 2 cells x 5 jobs = 10 jobs"
        assert "not-a-key" not in page
