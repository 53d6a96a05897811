"""The stand-in model ships whole and small, says what it is, and its files are what their names say."""

import hashlib
from pathlib import Path

import pytest

from quants.gguf import Header, read_header
from quants.sources.labels import parse_path
from quants.standin import STANDIN_DIR

QUANTS = {"Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_S", "Q2_K", "TQ1_0"}
# llama-quantize --pure makes every matrix of a file the base type of its mix.
MATRIX_TYPE = {"Q8_0": "Q8_0", "Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K", "Q3_K_S": "Q3_K", "Q2_K": "Q2_K", "TQ1_0": "TQ1_0"}
FILES = sorted(STANDIN_DIR.glob("*.gguf"))


def manifest() -> dict[str, str]:
    """File name -> sha256, from SHA256SUMS."""
    lines = (STANDIN_DIR / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def header(request: pytest.FixtureRequest) -> Header:
    path: Path = request.param
    return read_header(path)


def test_the_manifest_names_every_file_and_its_content() -> None:
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES} == manifest()


def test_every_quant_is_there_by_name() -> None:
    assert {parse_path(path.name).label for path in FILES} == QUANTS


def test_all_files_together_have_at_most_12_megabytes() -> None:
    assert 0 < sum(path.stat().st_size for path in FILES) <= 12_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_what_its_name_says(path: Path) -> None:
    header = read_header(path)
    label = parse_path(path.name).label
    assert label is not None
    assert header.file_type == label
    assert {tensor.type_name for tensor in header.tensors if len(tensor.shape) > 1} == {MATRIX_TYPE[label]}


def test_the_metadata_say_that_it_is_a_stand_in(header: Header) -> None:
    assert header.name == "quantsweep stand-in"
    assert "no real model" in (header.text("general.description") or "")
    assert header.text("general.license") == "apache-2.0"
    assert header.text("general.version")
    assert (header.text("quantsweep.stand_in.script") or "").startswith("tools/standin/build.py")


def test_the_header_has_what_a_chat_needs(header: Header) -> None:
    tokens = header.get("tokenizer.ggml.tokens")
    end = header.integer("tokenizer.ggml.eos_token_id")
    assert header.architecture == "llama"
    assert (header.integer("llama.context_length") or 0) >= 2048
    assert "add_generation_prompt" in (header.text("tokenizer.chat_template") or "")
    assert end is not None
    assert tokens[end] == "<|im_end|>"
