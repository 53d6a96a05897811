"""The catalogue of models: every entry sound and sourced, names found as people write them, and used as sources."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from quants.catalogue import Model, catalogue, find_model, nearest_names
from quants.errors import PrivateRepoError, SourceError
from quants.hub.client import HubSettings
from quants.sources.labels import find_label
from quants.sources.resolve import resolve
from tests.quants.ggufbytes import small_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hubserver.server import LocalHub

MODELS = catalogue()
REPORTS = {"turtle-cat", "canvas-physics", "tag-manager", "todo-cli", "go-exams"}
# As the reports and their tables write them, Ollama's tags included.
NAMED = {
    "Gemma 4 31B": "gemma-4-31b",
    "Gemma 4 26B": "gemma-4-26b-a4b",
    "Gemma 4 E4B": "gemma-4-e4b",
    "Gemma 4 12B": "gemma-4-12b",
    "gemma-3n-E4B": "gemma-3n-e4b",
    "Qwen3.5-9B": "qwen3.5-9b",
    "Qwen3.5 27B": "qwen3.5-27b",
    "Qwen3.5-35B": "qwen3.5-35b-a3b",
    "qwen3.5:35b-a3b": "qwen3.5-35b-a3b",
    "Qwen3.6 35B-A3B": "qwen3.6-35b-a3b",
    "Qwen3-Coder 30B-A3B": "qwen3-coder-30b-a3b",
    "Qwen3-Coder-30B": "qwen3-coder-30b-a3b",
    "Qwen3-8B": "qwen3-8b",
    "gpt-oss-20b": "gpt-oss-20b",
    "Devstral 24B": "devstral-24b",
    "devstral:latest": "devstral-24b",
    "codestral:22b": "codestral-22b",
    "deepseek-r1:14b": "deepseek-r1-14b",
    "DeepSeek-R1-14B": "deepseek-r1-14b",
    "DeepSeek-Coder-V2-Lite": "deepseek-coder-v2-lite",
    "Hermes 4 14B": "hermes-4-14b",
    "GLM-4.7-Flash": "glm-4.7-flash",
    "GLM-4.7-Flash-REAP 23B": "glm-4.7-flash-reap-23b",
    "Kimi K2.6": "kimi-k2.6",
}


@pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])
def test_every_entry_is_sound_and_says_where_it_was_read(model: Model) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.repo)
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model.name)
    assert model.quants
    assert len(set(model.quants)) == len(model.quants)
    for quant in model.quants:
        assert find_label(f"{model.title.replace(' ', '-')}-{quant}.gguf") == quant
    assert model.context is None or 8192 <= model.context <= 1 << 20
    assert model.source.count(".") > 0
    assert re.search(r"card|README|Seen|page", model.checked)
    assert "Not found" in model.checked or (model.context and model.sampling and model.reasoning)
    for each in model.reports:
        assert each.partition(":")[0] in REPORTS


@pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])
def test_reasoning_and_sampling_make_sense(model: Model) -> None:
    if model.reasoning is not None:
        assert model.reasoning.switch in {"none", "always", "template", "effort", "system"}
        assert bool(model.reasoning.key) == (model.reasoning.switch not in {"none", "always"})
        assert model.reasoning.switch != "always" or model.reasoning.default is True
    modes = [each.mode for each in model.sampling]
    assert len(set(modes)) == len(modes)
    for each in model.sampling:
        assert each.temperature is not None
        assert 0 <= each.temperature <= 2
        assert each.top_p is None or 0 < each.top_p <= 1
        assert each.top_k is None or each.top_k > 0


@pytest.mark.parametrize(("written", "name"), NAMED.items())
def test_the_models_of_the_reports_are_found_as_they_are_written(written: str, name: str) -> None:
    model = find_model(written)
    assert model is not None
    assert model.name == name


def test_no_name_stands_for_two_models() -> None:
    for model in MODELS:
        for name in (model.name, *model.aliases):
            assert find_model(name) is model


def test_names_that_are_none() -> None:
    assert find_model("gemma") is None
    assert find_model("") is None
    assert "gemma-4-31b" in nearest_names("gema-4-31b")
    assert nearest_names("qwen3.5")[0].startswith("qwen3.5")
    assert nearest_names("models") == ()
    assert nearest_names("") == ()


def test_a_short_name_stands_for_its_repository(local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path) -> None:
    local_hub.add("unsloth/Qwen3.5-35B-A3B-GGUF", {"Qwen3.5-35B-A3B-Q4_K_M.gguf": small_model().data()})
    for name in ("qwen3.5-35b", "Qwen3.5 35B-A3B"):
        listing = resolve(name, base_dir=tmp_path, hub=hub_settings)
        assert (listing.repo, listing.quants) == ("unsloth/Qwen3.5-35B-A3B-GGUF", ("Q4_K_M",))
    with pytest.raises(PrivateRepoError, match="hf:ggml-org/gpt-oss-20b-GGUF"):
        resolve("gpt-oss-20b", base_dir=tmp_path, hub=HubSettings(local_hub.endpoint, tmp_path / "c", attempts=1))


def test_what_is_there_as_a_folder_is_no_name(hub_settings: HubSettings, tmp_path: Path) -> None:
    (tmp_path / "codestral").mkdir()
    (tmp_path / "codestral" / "mine-Q8_0.gguf").write_bytes(small_model().data())
    assert resolve("codestral", base_dir=tmp_path, hub=hub_settings).kind == "folder"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gema-4-31b", "the catalogue has no model 'gema-4-31b'. Did you mean gemma-4-31b"),
        ("qwen3.5", "Did you mean qwen3.5-9b or qwen3.5-27b"),
        ("something-else-entirely", "does not exist"),
        ("./gpt-oss-20b", "does not exist"),
        ("models/gpt-oss-20b", "does not exist"),
    ],
)
def test_a_name_that_is_none_gets_the_nearest(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(SourceError) as refused:
        resolve(source, base_dir=tmp_path)
    assert said in str(refused.value)
