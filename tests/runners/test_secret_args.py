from __future__ import annotations

import os
import subprocess

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import parse_spec
from runners.engines import own_args
from runners.engines.llama_program import parse_flags
from runners.engines.own_args import OwnArgumentError
from runners.engines.secret_args import SecretArgumentError, refuse_secrets
from runners.engines.settings import LlamaServerSettings

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
        LlamaServerSettings(context=256, extra_args=tuple(arguments))
    assert caught.value.message.startswith(f"{flag} holds a secret")
    assert caught.value.hint.startswith("take it out: ")
    assert SECRET not in str(caught.value)
    assert "hf_abc" not in str(caught.value)


@pytest.mark.parametrize("arguments", HARMLESS)
def test_what_holds_none_is_passed_on(arguments: list[str]) -> None:
    refuse_secrets(arguments)


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
            LlamaServerSettings(context=256, extra_args=(flag, SECRET))
        assert words in caught.value.hint


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        *(
            (flag, "quantsweep chooses that")
            for flag in ("--host", "--port=1", "--api_prefix", "-sm", "--tools", "-fit")
        ),
        *((flag, "engine.context") for flag in ("-c", "--ctx-size=4096", "--ctx_size")),
        ("-ctk", "engine.cache_type_k"),
        ("-ngl", "engine.gpu_layers"),
        ("--temp", "sampling.temperature"),
        ("-hf", "models.source"),
        *((flag, "by its path") for flag in ("-md", "--lora", "--mmproj", "--spec-draft-model", "-jf")),
    ],
)
def test_what_a_key_of_the_spec_sets_may_not_be_set_behind_its_back(flag: str, said: str) -> None:
    with pytest.raises(OwnArgumentError, match=said) as caught:
        LlamaServerSettings(context=256, extra_args=("--no-host", flag, "x"))
    assert flag.partition("=")[0].replace("_", "-") in caught.value.message
    with pytest.raises(SpecError) as refused:
        parse_spec(SPEC.format(arguments=["--no-host", flag, "x"]), "demo.toml")
    assert str(refused.value).startswith("demo.toml:6: engine.extra_args: ")


def test_the_program_that_is_here_knows_every_flag_that_is_ours() -> None:
    """A list of flags that no build has would refuse nothing."""
    program = os.environ.get("LLAMA_SERVER")
    if program is None:
        pytest.skip("LLAMA_SERVER names no program")
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    known = parse_flags(said)
    for key, flags in (own_args._SETTINGS | own_args._SAMPLING).items():
        assert known.intersection(flags.split()), key
