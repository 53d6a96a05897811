"""What a model needs that is spread over several GPUs, judged without its header, against the estimate with it."""

from __future__ import annotations

from itertools import starmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quants.fit.amounts import GIB
from quants.fit.devices import footprint_key, shares_of, spread
from quants.fit.verdict import Memory
from quants.footprint import Backend, Estimator, FootprintSettings
from tests.quants.fitmodels import header_of

SHAPES = ("qwen3-32b", "qwen3-30b-a3b", "gemma-3-27b", "llama-3.1-8b", "falcon-h1-34b", "gpt-oss-20b", "jamba-moe-52b")
SHARES = st.lists(st.integers(1, 48), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from(SHAPES), shares=SHARES, context=st.sampled_from([2048, 32768]))
def test_a_spread_footprint_never_promises_less_than_the_estimate_with_the_header(
    shape: str, shares: list[int], context: int
) -> None:
    estimator = Estimator(header_of(shape, "Q4_K_M"))
    equal = FootprintSettings(context=context, backend=Backend.CUDA, gpus=len(shares))
    split = tuple(float(share) for share in shares)
    exact = estimator(FootprintSettings(context=context, backend=Backend.CUDA, gpus=len(shares), tensor_split=split))
    found = spread(estimator(equal), split)
    room = [part.safe_bytes for part in found.gpus]
    needed = [part.total_bytes for part in exact.gpus]
    assert all(ours >= theirs for ours, theirs in zip(room, needed, strict=True)), (room, needed)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_spread_footprint_is_not_much_more_than_is_needed(shape: str) -> None:
    """Or cards would be passed over that a model fits."""
    estimator = Estimator(header_of(shape, "Q4_K_M"))
    split = (24.0, 16.0)
    exact = estimator(FootprintSettings(context=8192, backend=Backend.CUDA, gpus=2, tensor_split=split))
    found = spread(estimator(FootprintSettings(context=8192, backend=Backend.CUDA, gpus=2)), split)
    needed = sum(part.safe_bytes for part in exact.gpus)
    assert sum(part.safe_bytes for part in found.gpus) < 1.3 * needed + 2 * GIB


def test_rows_count_caches_on_the_first_gpu_and_weights_by_share() -> None:
    estimator = Estimator(header_of("llama-3.1-8b", "Q4_K_M"))
    equal = estimator(FootprintSettings(context=32768, backend=Backend.CUDA, gpus=2))
    rows = spread(equal, (1.0, 1.0), "row")
    caches = sum(part.kv_bytes for part in equal.gpus)
    assert rows.gpus[0].kv_bytes == caches
    assert rows.gpus[1].kv_bytes == caches // 2
    assert rows.gpus[0].weights_bytes == rows.gpus[1].weights_bytes == sum(p.weights_bytes for p in equal.gpus) // 2
    assert spread(equal, (1.0, 1.0)) is equal
    one = estimator(FootprintSettings(context=4096, backend=Backend.CUDA, gpus=1))
    assert spread(one, (1.0,)) is one


def test_shares_follow_memory_where_cards_differ() -> None:
    def shares(*gib: float) -> tuple[float, ...]:
        return shares_of([Memory(total_bytes=int(each * GIB)) for each in gib])

    assert list(starmap(shares, [(24, 24), (23.9, 24), (31.8, 15.9), (24, 24, 12)])) == [
        (1.0, 1.0),
        (1.0, 1.0),
        (32.0, 16.0),
        (24.0, 24.0, 12.0),
    ]
    assert shares_of([Memory(total_bytes=None), Memory(total_bytes=None)]) == (1.0, 1.0)


def test_keys_of_footprints() -> None:
    assert [footprint_key("cuda"), footprint_key("cuda", 1), footprint_key("cpu"), footprint_key("rocm", 3)] == [
        "cuda",
        "cuda",
        "cpu",
        "3 x rocm",
    ]
