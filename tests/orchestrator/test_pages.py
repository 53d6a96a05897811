"""README.md and docs/spec.md: readable in an editor, every key named, every command one that there is."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.cli.app import app
from orchestrator.known_models import cannot_switch
from orchestrator.spec import SweepSpec, parse_spec
from quants.catalogue import find_model
from results.describe import READERS

ROOT = Path(__file__).parents[2]
FITS = (ROOT / "docs" / "fits.md").read_text(encoding="utf-8")
EXAMS = (ROOT / "docs" / "exams.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize(
    "text", [README, SPEC, FITS, EXAMS], ids=["README.md", "docs/spec.md", "docs/fits.md", "docs/exams.md"]
)
def test_lines_are_short_enough_to_read(text: str) -> None:
    code = {line for line in text.splitlines() if line.startswith("import ")}  # one line each, on purpose
    assert [line for line in text.splitlines() if len(line) > 120 and line not in code] == []


def test_the_lines_that_read_a_run_are_those_that_are_tested() -> None:
    for name, line in READERS.items():
        assert f"<!-- read: {name} -->\n```python\n{line}\n```" in README


def test_the_spec_in_the_readme_is_one_and_so_it_is_with_a_model_in_the_cloud() -> None:
    text, cloud = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    spec = parse_spec(text, "README.md")
    assert parse_spec(text + cloud, "README.md").models[2].engine.kind == "openai"
    assert [model.name for model in spec.models] == ["qwen3-coder-30b", "local"]
    assert find_model(spec.models[0].source) is not None
    for model in spec.models:
        for variant in model.variants:
            assert cannot_switch(model.name, model.source, variant.reasoning or "auto", for_all=False) is None


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("quantsweep")])
def test_every_command_in_the_readme_is_understood(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    while getattr(command, "commands", {}) and len(words) > 1:
        assert words[1] in command.commands
        command, words = command.commands[words[1]], words[1:]
    command.make_context(words[0], words[1:])


def test_every_other_command_in_the_readme_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in COMMANDS if line.startswith("make ")]
    targets += re.findall(r"`make ([a-z-]+)`", README + SPEC)
    assert {"quickstart", "test", "llama-cpp"} <= set(targets)
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    modules = [line.split()[2] for line in COMMANDS if line.startswith("python -m")]
    assert modules
    assert [module for module in modules if find_spec(module) is None] == []


def test_every_page_that_is_linked_is_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).is_file()] == []


def test_every_key_of_a_spec_is_on_its_page() -> None:
    def keys(schema: dict[str, object]) -> set[str]:
        found: set[str] = set()
        for name, value in schema.items():
            if name == "properties" and isinstance(value, dict):
                found |= set(value)
            for each in value if isinstance(value, list) else [value]:
                found |= keys(each) if isinstance(each, dict) else set()
        return found

    named = set(re.findall(r"`\[{0,2}([a-z_.]+)\]{0,2}`", SPEC)) | {"variants"}
    assert "[[models.variants]]" in SPEC
    assert keys(SweepSpec.model_json_schema()) - named == set()
