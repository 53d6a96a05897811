"""`quantsweep models`: every name of the catalogue, at any width, with what a spec has to say."""

from __future__ import annotations

import pytest

from orchestrator.commands.models import show_models
from orchestrator.terminal import Json, Printer
from quants.catalogue import catalogue, find_model
from quants.errors import SourceError


def shown(word: str | None = None, width: int = 100) -> str:
    return Printer(None).text_of(*show_models(word, as_json=False), width=width, colour=False)


@pytest.mark.parametrize("width", [50, 80, 120])
def test_every_model_has_a_line_that_begins_with_its_source(width: int) -> None:
    lines = shown(width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[1 : 1 + len(catalogue())]] == [model.name for model in catalogue()]
    assert ("hf:unsloth/Qwen3-8B-GGUF" in "".join(lines)) == (width == 120)
    assert 'source = "gemma-4-31b"' in " ".join(lines)
    assert "builtin:stand-in" in " ".join(lines)


@pytest.mark.parametrize("width", [50, 100])
def test_one_model_is_shown_with_all_that_is_known(width: int) -> None:
    text = " ".join(shown("Qwen3 8B", width).split())
    model = find_model("qwen3-8b")
    assert model is not None
    for said in (
        'source = "qwen3-8b", which stands for hf:unsloth/Qwen3-8B-GGUF',
        "32,768 tokens",
        "on or off (enable_thinking), on by default",
        "thinking: temperature = 0.6, top_p = 0.95, top_k = 20, min_p = 0",
        ", ".join(model.quants),
    ):
        assert said in text


def test_words_narrow_the_list() -> None:
    assert {line.split()[0] for line in shown("qwen3 coder").splitlines() if line.startswith("qwen")} <= {
        "qwen3-coder-30b-a3b"
    }
    assert "glm-4.7-flash-reap-23b" in shown("glm")
    assert "qwen" not in shown("glm")


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(SourceError, match="did you mean qwen3-8b"):
        show_models("qwen3-8bb", as_json=False)


def test_json_has_the_source_for_a_spec() -> None:
    (part,) = show_models(None, as_json=True)
    assert isinstance(part, Json)
    assert [each["hub_source"] for each in part.value] == [model.hub_source for model in catalogue()]
    assert part.value[0]["name"] == "gemma-4-31b"
