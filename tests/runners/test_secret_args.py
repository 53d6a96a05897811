from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import parse_spec
from runners.engines.base import EngineSettings, LoadError
from runners.engines.llama_flags import command_line
from runners.engines.llama_program import Program
from runners.engines.secret_args import SecretArgumentError

SECRET = "s3cr3t-of-ours"
SECRETS = [
    (["--api-key", SECRET], "--api-key"),
    (["--api_key", SECRET], "--api-key"),
    ([f"--api-key={SECRET}"], "--api-key"),
    (["--mlock", "-hft", SECRET], "-hft"),
    (["--hf-token", SECRET], "--hf-token"),
    ([f"--hf-token {SECRET}"], "--hf-token"),
    (["--some-password", SECRET], "--some-password"),
    (["--model-url", f"https://me:{SECRET}@host/m.gguf"], "--model-url"),
    ([f"--model-url=https://host/m.gguf?X-Amz-Signature={SECRET}"], "--model-url"),
    (["--alias", "hf_abcdefghijklmnopqrstuvwxyz"], "--alias"),
    (["--chat-template-kwargs", f'{{"api_key": "{SECRET}"}}'], "--chat-template-kwargs"),
    ([f"Authorization: Bearer {SECRET}"], "argument 1"),
]
HARMLESS = [
    ["--mlock", "--no-mmap"],
    ["--override-kv", "tokenizer.ggml.add_bos_token=bool:false"],
    ["--logit-bias", "15043+1"],
    ["--image-max-tokens", "512"],
    ["--mask-token", "151"],
    ["--ssl-key-file", "/etc/ssl/key.pem"],
    ["--no-cors-credentials"],
    ["--keep", "4"],
    ["--numa", "distribute", "-ot", "blk.*=CPU"],
]
SPEC = """\
name = "demo"
seeds = [1]
exams = ["todo"]
[engine]
kind = "llama-server"
extra_args = {arguments}
[[models]]
name = "m"
source = "builtin:stand-in"
"""


@pytest.mark.parametrize(("arguments", "flag"), SECRETS)
def test_no_settings_exist_with_a_secret(arguments: list[str], flag: str) -> None:
    """Settings are written into plan.json and every row: there is none that could be."""
    with pytest.raises(SecretArgumentError) as caught:
        EngineSettings(context=256, extra_args=tuple(arguments))
    assert caught.value.message.startswith(f"{flag} holds a secret")
    assert caught.value.hint.startswith("take it out: ")
    assert SECRET not in str(caught.value)
    assert "hf_abc" not in str(caught.value)


@pytest.mark.parametrize("arguments", HARMLESS)
def test_what_holds_none_is_passed_on(arguments: list[str]) -> None:
    assert EngineSettings(context=256, extra_args=tuple(arguments)).extra_args == tuple(arguments)


@pytest.mark.parametrize(("arguments", "flag"), SECRETS)
def test_a_spec_with_one_is_refused_at_its_line(arguments: list[str], flag: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SPEC.format(arguments=[argument.replace("'", '"') for argument in arguments]), "demo.toml")
    text = str(caught.value)
    assert text.startswith(f"demo.toml:6: engine.extra_args: {flag} holds a secret")
    assert SECRET not in text
    assert "hf_abc" not in text


def test_a_source_with_one_is_refused_too() -> None:
    spec = SPEC.format(arguments=[]).replace("builtin:stand-in", f"https://me:{SECRET}@host/m.gguf")
    with pytest.raises(SpecError) as caught:
        parse_spec(spec, "demo.toml")
    assert str(caught.value).startswith("demo.toml:9: models[0].source: holds a secret")
    assert SECRET not in str(caught.value)


def test_the_hint_says_what_to_do_instead() -> None:
    for flag, words in {
        "--hf-token": "`hf auth login`",
        "--api-key": "a key of its own",
        "--x-secret": "pass_on in machine.toml",
    }.items():
        with pytest.raises(SecretArgumentError) as caught:
            EngineSettings(context=256, extra_args=(flag, SECRET))
        assert words in caught.value.hint


@pytest.mark.parametrize("flag", ["--host", "--port=1", "--api-key-file", "--api_key_file", "--api_prefix"])
def test_what_the_server_is_started_with_stays_ours(flag: str) -> None:
    program = Program(Path("/bin/llama-server"), "b1", "", frozenset(), ())
    settings = EngineSettings(context=256, extra_args=(flag, "x"))
    with pytest.raises(LoadError, match="extra_args may not hold"):
        command_line(program, Path("m.gguf"), settings, port=1, alias="me", device=None)
