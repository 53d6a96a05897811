"""Sizes of models in parameters, and what they read for a token, held against figures that their makers publish."""

from __future__ import annotations

import math

import pytest

from quants.facts import facts_of
from quants.gguf import read_header
from tests.quants import ggufbytes as gb
from tests.quants.fitmodels import model
from tests.quants.ggufbytes import GGUF, Tensor


def test_experts_count_as_far_as_they_are_used() -> None:
    """35 billion parameters, of which some 3 take part in a token: the name says so."""
    facts = facts_of(read_header(model("qwen3.5-35b-a3b", "BF16").header()))
    assert facts.architecture is not None
    assert facts.parameters / 1e9 == pytest.approx(35, rel=0.03)
    assert facts.parameters_active / 1e9 == pytest.approx(3, rel=0.25)
    assert facts.token_bytes < facts.parameters_active * 2 * 1.01


def test_a_table_that_is_only_looked_up_is_not_read_whole() -> None:
    keys = [("general.architecture", gb.STRING, "llama")]
    table, block, output = (
        Tensor(name, (64, 8), 0, 64 * 8 * 4) for name in ("token_embd.weight", "blk.0", "output.weight")
    )
    tied, own = (
        facts_of(read_header(GGUF(keys, tensors).header())) for tensors in ([table, block], [table, block, output])
    )
    assert tied.token_bytes == own.token_bytes == 2 * 64 * 8 * 4
    assert (tied.parameters, own.parameters) == (1024, 1536)
    assert tied.parameters_active == tied.parameters
    assert tied.bits_per_weight == 32.0


def test_experts_without_a_figure_count_whole() -> None:
    experts = Tensor("blk.0.ffn_up_exps.weight", (32, 4, 8), 0, 32 * 4 * 8 * 4)
    for keys, share in (([], 1.0), ([("llama.expert_used_count", gb.UINT32, 2)], 0.25)):
        header = read_header(GGUF([("general.architecture", gb.STRING, "llama"), *keys], [experts]).header())
        assert facts_of(header).parameters_active == round(math.prod(experts.shape) * share)
