"""C, C++, Rust, Node and Python inside a sandbox: those that are here work there, and what is not here is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiles.probe.needs import NEEDS, find_needs
from profiles.probe.system import System
from profiles.probe.trials import MissingError
from runners.exams.folder.languages import LANGUAGES
from runners.sandbox import open_sandbox
from runners.toolchains import local
from runners.toolchains.base import ToolchainError
from runners.toolchains.local import NODE, LocalTool
from runners.toolchains.providers import provider_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "go"])
def test_a_toolchain_that_is_here_works_inside(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = provider_of(language)
    assert provider.needs == LANGUAGES[language].needs
    for need in find_needs(provider.needs):
        if need.found is None:
            pytest.skip(need.sentence)
    monkeypatch.setattr(local, "_opened", {})
    toolchain = provider.open(open_sandbox())
    assert toolchain.name == language
    assert any(character.isdigit() for character in toolchain.version)
    assert toolchain.program.is_absolute()


def test_every_need_of_a_language_is_one() -> None:
    assert {need for language in LANGUAGES.values() for need in language.needs} <= NEEDS.keys()


@pytest.mark.parametrize("name", ["cxx-compiler", "node", "rust"])
def test_what_is_missing_or_broken_is_told_with_its_cure(name: str, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (missing,) = find_needs({name}, System(search_path=str(nothing)))
    assert missing.found is None
    assert "on the search path" in str(missing.problem)
    assert missing.cure
    broken = tmp_path / "broken"
    broken.mkdir()
    for program in ("c++", "node", "rustc"):
        (broken / program).write_text("#!/bin/sh\necho 'cannot start' >&2; exit 3\n")
        (broken / program).chmod(0o755)
    (found,) = find_needs({name}, System(search_path=str(broken)))
    assert found.found is None
    assert "does not work: exit code 3" in str(found.problem)


def test_a_toolchain_that_fails_inside_is_the_machine_s_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    for need in find_needs(NODE.needs):
        if need.found is None:
            pytest.skip(need.sentence)
    monkeypatch.setattr(local, "_opened", {})
    lame = LocalTool("javascript", NODE.needs, NODE.find, ("trial.js", "process.exit(4)\n"), ("trial.js",), is_run=True)
    with pytest.raises(ToolchainError, match="does not work inside the sandbox: nonzero") as caught:
        lame.open(open_sandbox())
    assert caught.value.outcome == "sandbox_start"

    def nowhere(_: System) -> tuple[Path, Path | None]:
        raise MissingError("it is gone", "bring it back")

    with pytest.raises(ToolchainError, match="there is no toolchain for javascript: it is gone") as caught:
        LocalTool("javascript", NODE.needs, nowhere, ("x", ""), ()).open(open_sandbox())
    assert caught.value.hint == "bring it back"
