"""How many tokens a model was made for: what the header says, what rope scaling adds, and what hostile headers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.commands.fits_notes import notes
from orchestrator.expand import expand
from orchestrator.spec import parse_spec
from quants.fit.rows import FitsSettings
from quants.fit.table import fits
from quants.fit.targets import by_size
from quants.gguf import read_header
from quants.trained import beyond_trained, trained_context
from tests.quants import ggufbytes as gb
from tests.quants.fitmodels import model, write_sparse

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = ("qwen2.context_length", gb.UINT32, 32_768)
YARN = (
    ("qwen2.rope.scaling.type", gb.STRING, "yarn"),
    ("qwen2.rope.scaling.factor", gb.FLOAT32, 4.0),
    ("qwen2.rope.scaling.original_context_length", gb.UINT32, 32_768),
)


def changed(
    keys: tuple[tuple[str, int, Any], ...], key: str, kind: int, value: Any
) -> tuple[tuple[str, int, Any], ...]:
    return tuple((key, kind, value) if each[0] == key else each for each in keys)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ((LENGTH,), 32_768),
        ((), None),
        ((("qwen2.context_length", gb.UINT32, 0),), None),
        ((("qwen2.context_length", gb.STRING, "many"),), None),
        ((LENGTH, *YARN), 131_072),
        # Most converters write the stretched length already: gpt-oss has 32 x 4,096 beside 131,072.
        ((("qwen2.context_length", gb.UINT32, 131_072), *YARN), 131_072),
        ((LENGTH, *changed(YARN, "qwen2.rope.scaling.type", gb.STRING, "none")), 32_768),
        ((LENGTH, *YARN[:2]), 32_768),
        ((LENGTH, *changed(YARN, "qwen2.rope.scaling.factor", gb.FLOAT32, float("inf"))), 32_768),
        ((LENGTH, *changed(YARN, "qwen2.rope.scaling.factor", gb.FLOAT32, float("nan"))), 32_768),
        ((LENGTH, *changed(YARN, "qwen2.rope.scaling.factor", gb.FLOAT32, -4.0)), 32_768),
        ((LENGTH, *changed(YARN, "qwen2.rope.scaling.factor", gb.STRING, "four")), None),
    ],
)
def test_what_the_header_says(tmp_path: Path, keys: tuple[Any, ...], expected: int | None) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gb.GGUF(keys=[("general.architecture", gb.STRING, "qwen2"), *keys]).data())
    assert trained_context(read_header(path)) == expected


def test_a_warning_needs_a_longer_context_and_a_known_one() -> None:
    text = beyond_trained("m", 65_536, [40_960, None, 131_072])
    assert text is not None
    assert text.startswith("m: a context of 65,536 tokens is beyond the 40,960 that it was trained on")
    assert beyond_trained("m", 40_960, [40_960]) is None
    assert beyond_trained("m", 65_536, [None]) is None
    assert beyond_trained("m", 65_536, []) is None


@pytest.mark.parametrize(
    "extra_args",
    [["--rope-scaling", "yarn"], ["--yarn_orig_ctx=4096"], ["--override-kv", "qwen3.context_length=int:1"]],
)
def test_who_stretches_the_context_himself_is_not_warned(extra_args: list[str]) -> None:
    assert beyond_trained("m", 65_536, [40_960], extra_args) is None


@pytest.mark.parametrize(("context", "warned"), [(131_073, True), (131_072, False), (None, False)])
def test_fits_warns(tmp_path: Path, context: int | None, warned: bool) -> None:
    write_sparse(tmp_path / "m.gguf", model("qwen3-8b", "Q4_K_M"))
    table = fits([str(tmp_path)], [by_size("16")], FitsSettings(context=context))
    assert [row.to_json()["trained_context"] for row in table.rows] == [131_072]
    assert any(line.startswith(f"warning: {tmp_path}: a context of 131,073") for line in notes(table)) == warned


def test_a_plan_warns_once_for_all_quants_and_variants(tmp_path: Path) -> None:
    spec = """\
name = "demo"
seeds = "1-2"
exams = ["todo"]
[engine]
context = 16384
[[models]]
name = "small"
source = "builtin:stand-in"
quants = ["Q8_0", "Q2_K"]
[[models.variants]]
name = "a"
[[models.variants]]
name = "b"
sampling = {temperature = 0.1}
[[models]]
name = "short"
source = "builtin:stand-in"
quants = ["Q4_K_M"]
engine = {context = 2048}
sampling = {max_tokens = 1024}
"""
    plan = expand(parse_spec(spec, "d.toml"), file="d.toml", text=spec, base_dir=tmp_path)
    (warning,) = plan.warnings
    assert warning.startswith("model 'small': a context of 16,384 tokens is beyond the 2,048 that it was trained on")
