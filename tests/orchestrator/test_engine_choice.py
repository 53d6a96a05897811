"""The settings of an engine out of the tables of a spec: whose key is whose, and what is a mistake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from orchestrator.engine_choice import DEFAULT_CONTEXT, Settled, settle
from orchestrator.spec import EngineSpec
from runners.engines.settings import EmbeddedSettings, LlamaServerSettings, TextFile

if TYPE_CHECKING:
    from pathlib import Path

SWEEP, MODEL = ("engine",), ("models", 0, "engine")


def settled(folder: Path, sweep: dict[str, Any], model: dict[str, Any]) -> Settled:
    layers = [(SWEEP, EngineSpec(**sweep)), (MODEL, EngineSpec(**model))]
    return settle(layers, base_dir=folder, load_timeout_s=7.0)


def test_nothing_said_is_the_engine_that_comes_with_us(tmp_path: Path) -> None:
    found = settled(tmp_path, {}, {})
    assert found.settings == EmbeddedSettings(context=DEFAULT_CONTEXT, load_timeout_s=7.0)
    assert found.problems == []


def test_the_later_table_wins(tmp_path: Path) -> None:
    found = settled(tmp_path, {"context": 100, "threads": 4}, {"context": 200})
    assert found.settings == EmbeddedSettings(context=200, threads=4, load_timeout_s=7.0)


def test_a_key_above_the_choice_of_another_engine_is_for_the_other_models(tmp_path: Path) -> None:
    sweep = {"kind": "llama-server", "extra_args": ["--no-host"], "threads": 2}
    found = settled(tmp_path, sweep, {"kind": "embedded"})
    assert found.settings == EmbeddedSettings(context=DEFAULT_CONTEXT, threads=2, load_timeout_s=7.0)
    assert found.problems == []
    assert found.kind_path == (*MODEL, "kind")


def test_a_key_that_the_chosen_engine_does_not_have_is_a_mistake_where_it_stands(tmp_path: Path) -> None:
    message = "the engine 'embedded' has no such setting; it is one of: llama-server"
    for sweep, model, path in (
        ({"extra_args": ["--no-host"]}, {}, (*SWEEP, "extra_args")),
        ({"kind": "embedded"}, {"grammar": "g"}, (*MODEL, "grammar")),
        ({"kind": "llama-server"}, {"kind": "embedded", "binary": "x"}, (*MODEL, "binary")),
    ):
        assert settled(tmp_path, sweep, model).problems == [(message, path)]


def test_paths_count_from_the_spec_and_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}\n")
    found = settled(tmp_path, {"kind": "llama-server", "binary": "bin/llama-server", "chat_template": "chat.jinja"}, {})
    assert isinstance(found.settings, LlamaServerSettings)
    assert found.settings.binary == str(tmp_path / "bin/llama-server")
    assert found.settings.chat_template == TextFile(str(tmp_path / "chat.jinja"), "{{ messages }}\n")


def test_a_text_that_cannot_be_had_is_said_at_its_key(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * ((1 << 20) + 1))
    for name, said in (
        ("no-such-file", "cannot be read: No such file or directory"),
        (".", "is not a file"),
        ("pipe", "is not a file"),
        ("binary", "is not a text file (byte 0 is not UTF-8)"),
        ("large", "is larger than 1,048,576 bytes"),
    ):
        ((message, path),) = settled(tmp_path, {"kind": "llama-server"}, {"grammar": name}).problems
        assert message.endswith(said)
        assert path == (*MODEL, "grammar")
