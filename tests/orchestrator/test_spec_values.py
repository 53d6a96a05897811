"""Values that can never work are refused with their line and key, before anything is planned."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine_choice import settle
from orchestrator.errors import SpecError, machine_trouble
from orchestrator.spec import EngineSpec, parse_spec, read_spec
from orchestrator.sweep import open_spec
from profiles.errors import ProfilesError
from profiles.override import load_override
from quants.sources.resolve import resolve
from runners.engines.own_args import OwnArgumentError, refuse_own

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
name = "x"
seeds = {seeds}
exams = ["todo"]
{top}
[sampling]
{sampling}
[engine]
{engine}
[[models]]
name = "m"
source = {source}
"""


def spec(**values: str) -> str:
    return SPEC.format(
        **{"seeds": "[1]", "top": "", "sampling": "", "engine": "", "source": '"builtin:stand-in"'} | values
    )


def complaint(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "demo.toml")
    return str(caught.value)


NUL = '"a\\u0000b"'


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"engine": f"extra_args = ['--x', {NUL}]"}, "8: engine.extra_args"),
        ({"engine": f"binary = {NUL}"}, "8: engine.binary"),
        ({"engine": f"chat_template = {NUL}"}, "8: engine.chat_template"),
        ({"source": NUL}, "11: models[0].source"),
        ({"top": f"description = {NUL}"}, "4: description"),
    ],
)
def test_a_zero_byte_is_refused_wherever_it_stands(values: dict[str, str], where: str) -> None:
    message = complaint(spec(**values))
    assert message.startswith(f"demo.toml:{where}")
    assert "holds a zero byte" in message


@pytest.mark.parametrize("flag", ["--help", "-h", "--usage", "--version", "--list-devices", "--cache_list"])
def test_arguments_that_end_the_program_are_refused_by_name(flag: str) -> None:
    message = complaint(spec(engine=f'extra_args = ["--no-host", "{flag}"]'))
    assert message.startswith("demo.toml:8: engine.extra_args: " + flag.replace("_", "-"))
    assert "ends the program at once" in message


def test_an_argument_that_no_program_can_be_given_is_refused() -> None:
    refuse_own(["--chat-template-kwargs", "x" * 90_000])
    with pytest.raises(OwnArgumentError, match="longer than the system lets an argument be"):
        refuse_own(["--chat-template-kwargs", "x" * 140_000])


@pytest.mark.parametrize("number", [2**31, 2**63, 2**64 + 1, 10**400])
@pytest.mark.parametrize(
    "key", ["context", "gpu_layers", "cpu_moe_layers", "threads", "batch", "ubatch", "reasoning_budget"]
)
def test_numbers_that_no_engine_can_hold_are_refused_by_key(key: str, number: int) -> None:
    message = complaint(spec(engine=f"{key} = {number}"))
    assert message.startswith(f"demo.toml:8: engine.{key}: ")
    assert parse_spec(spec(engine=f"{key} = {2**31 - 1}"), "demo.toml")


@pytest.mark.parametrize("key", ["top_k", "max_tokens"])
def test_so_are_those_of_sampling(key: str) -> None:
    assert complaint(spec(sampling=f"{key} = {2**31}")).startswith(f"demo.toml:6: sampling.{key}: ")


@pytest.mark.parametrize("number", ["0x" + "f" * 20_000, "9" * 5_000, "9_" * 5_000 + "9"])
def test_numbers_of_thousands_of_digits_are_told_in_words_of_ours(number: str) -> None:
    message = complaint(spec(engine=f"threads = {number}"))
    assert message.startswith("demo.toml:8: ")
    assert "set_int_max_str_digits" not in message
    assert len(message) < 300


@pytest.mark.parametrize("seeds", ['"0-' + "9" * 5_000 + '"', '["1", "' + "8" * 5_000 + '-9"]'])
def test_a_range_of_seeds_with_thousands_of_digits(seeds: str) -> None:
    message = complaint(spec(seeds=seeds))
    assert message.startswith("demo.toml:2: seeds: ")
    assert "is no range of seeds" in message
    assert "set_int_max_str_digits" not in message
    assert len(message) < 300


def test_slots_and_context_together_have_to_be_countable(tmp_path: Path) -> None:
    table = EngineSpec(context=10_000_000, slots=256)
    found = settle([(("engine",), table)], base_dir=tmp_path, load_timeout_s=1.0)
    assert [path for message, path in found.problems if "256 slots of 10,000,000 tokens" in message] == [
        ("engine", "context")
    ]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"source": '"~nosuchuser/x.gguf"'}, "11: models[0].source"),
        ({"engine": 'binary = "~nosuchuser/x"'}, "8: engine.binary"),
        ({"engine": 'grammar = "~nosuchuser/x"'}, "8: engine.grammar"),
    ],
)
def test_a_home_folder_that_is_not_known_is_named(values: dict[str, str], where: str) -> None:
    message = complaint(spec(**values))
    assert message.startswith(f"demo.toml:{where}")
    assert "no home folder ~nosuchuser" in message


def test_a_home_folder_that_is_not_known_is_named_outside_of_specs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProfilesError, match="no home folder ~nosuchuser"):
        open_spec("~nosuchuser/sweep.toml")
    with pytest.raises(ProfilesError, match="no home folder ~nosuchuser"):
        resolve("~nosuchuser/x.gguf", base_dir=tmp_path)
    machine = tmp_path / "machine.toml"
    machine.write_text('models_dir = "~nosuchuser/x"\n')
    with pytest.raises(ProfilesError, match="no home folder ~nosuchuser"):
        load_override(machine)
    monkeypatch.setenv("QUANTSWEEP_MACHINE", "~nosuchuser/machine.toml")
    with pytest.raises(ProfilesError, match="no home folder ~nosuchuser"):
        load_override()


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_bytes(b"\xef\xbb\xbf" + spec().encode())
    found, text = read_spec(path)
    assert (found.name, text) == ("x", spec())
    path.write_bytes(b"\xef\xbb\xbfmodels_dir = '/models'\n")
    assert load_override(path).models_dir == "/models"


def test_a_folder_that_was_deleted_under_us_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as trouble:
        os.getcwd()  # noqa: PTH109 - what each of the ways there ends with
    said = machine_trouble(trouble.value)
    monkeypatch.undo()
    assert said[0] == f"{gone}: the folder that this was started in was deleted"
    assert machine_trouble(trouble.value) == ["No such file or directory"]


def test_any_value_under_any_key_is_judged_in_few_words() -> None:
    odd: list[Any] = ["\0", 2**63, -(2**63)]
    for key in EngineSpec.model_fields:
        for value in odd:
            text = json.dumps(value)
            with pytest.raises(SpecError, match=rf"demo\.toml:8: engine\.{key}: "):
                parse_spec(spec(engine=f"{key} = {text}"), "demo.toml")
