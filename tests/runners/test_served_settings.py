"""What a server says that it serves with, held against what it was asked: from real servers, and from lines of logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runners.engines import llama_load
from runners.engines.base import LoadError
from runners.engines.llama_told import ServedSettings, deviations, read_served, refusal, too_few_layers
from runners.engines.settings import LlamaServerSettings
from runners.outcomes import Outcome
from runners.row import server_columns
from tests.runners.models import settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from runners.engines.base import Engine, Served
    from tests.runners.conftest import Serve

ON_A_GPU = """
0.00.050 I llama_model_loader: - kv   3: general.name str = flash_attn = 0, offloaded 1/1 layers to GPU
0.00.053 I print_info: n_ctx_train           = 8192
0.00.053 I load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
0.00.054 I load_tensors: offloading output layer to GPU
0.00.054 I load_tensors: offloading 32 repeating layers to GPU
0.00.054 I load_tensors: offloaded 33/33 layers to GPU
0.00.054 I llama_context: flash_attn            = auto
0.00.055 I llama_kv_cache: size =  5.00 MiB ( 16384 cells,  32 layers,  1/1 seqs), K (q8_0): 2.0 MiB, V (f16): 1 MiB
0.00.068 I resolve_fused_ops: Flash Attention enabled
0.00.070 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 8192, kv_unified = 'false'
"""


def asked(**settings: Any) -> LlamaServerSettings:
    return LlamaServerSettings(**{"context": 4096, **settings})


def test_all_that_a_log_tells() -> None:
    told = read_served({"total_slots": 2, "default_generation_settings": {"n_ctx": 8192}}, ON_A_GPU)
    assert (told.context, told.slots, told.trained) == (8192, 2, 8192)
    assert (told.flash_attention, told.layers_on_gpu, told.layers) == (True, 33, 33)
    assert (told.cache_type_k, told.cache_type_v, told.load_mode) == ("q8_0", "f16", "mmap")
    assert read_served(None, "").context is None


@pytest.mark.parametrize(
    ("line", "on"),
    [
        ("llama_context: flash_attn            = disabled", False),
        ("llama_context: flash_attn            = 1", True),
        ("llama_context: flash_attn            = auto", None),
        ("llama_context: Flash Attention was auto, set to enabled", True),
        ("resolve_fused_ops: Flash Attention not supported, set to disabled", False),
        ("llama_init_from_model: flash_attn is not compatible with Grok - forcing off", False),
        ("llama_init_from_model: enabling flash_attn since it is required for quantized V cache", True),
    ],
)
def test_flash_attention_in_the_words_of_several_builds(line: str, on: bool | None) -> None:
    assert read_served(None, f"0.00.1 I {line}\n").flash_attention is on


def test_what_makes_results_another_thing_is_refused_and_the_rest_is_told() -> None:
    cut = ServedSettings(context=2048, trained=2048, slots=1)
    assert refusal(asked(), cut) is None
    (said,) = deviations(asked(), cut)
    assert said.startswith("2,048 tokens of context for each slot instead of 4,096: the server cut it down to what")
    assert refusal(asked(), ServedSettings(context=2048, trained=8192)) is not None
    assert refusal(asked(), ServedSettings(context=2048)) is not None
    assert refusal(asked(), ServedSettings(context=4352)) is None  # it rounds up
    assert (
        refusal(asked(cache_type_k="q8_0"), ServedSettings(cache_type_k="f16"))
        == "its K cache is of type f16, and not q8_0"
    )
    assert refusal(asked(flash_attention="on"), ServedSettings(flash_attention=False)) is not None
    assert refusal(asked(flash_attention="auto"), ServedSettings(flash_attention=False)) is None
    assert deviations(asked(slots=4), ServedSettings(slots=1)) == ("1 slots instead of 4",)
    assert deviations(asked(), ServedSettings()) == ()


@pytest.mark.parametrize(
    ("gpu_layers", "there", "wrong"),
    [(None, 33, False), (None, 20, True), (20, 20, False), (99, 33, False), (30, 20, True)],
)
def test_layers_that_a_gpu_was_to_have(gpu_layers: int | None, there: int, wrong: bool) -> None:
    told = ServedSettings(layers_on_gpu=there, layers=33)
    assert (too_few_layers(asked(gpu_layers=gpu_layers), told) is not None) is wrong
    assert too_few_layers(asked(gpu_layers=gpu_layers), ServedSettings()) is None


@given(st.text(max_size=300) | st.lists(st.sampled_from(ON_A_GPU.splitlines())).map("\n".join))
@hypothesis_settings(deadline=None)
def test_any_log_and_any_properties(log: str) -> None:
    odd: list[Any] = [None, [], {"default_generation_settings": 5}, {"total_slots": "many"}]
    for properties in odd:
        assert read_served(properties, log).slots in {None, 2}


def test_a_real_server_says_all_of_it(serve: Serve, tiny_model: Path) -> None:
    served = serve(tiny_model, context=512, slots=2, cache_type_k="q8_0", flash_attention="on")
    told = served.told
    assert told is not None
    assert (told.context, told.slots, told.trained, told.flash_attention) == (512, 2, 8192, True)
    assert (told.cache_type_k, told.cache_type_v, told.load_mode) == ("q8_0", "f16", "mmap")
    assert told.deviations == ()
    columns = columns_of(served)
    assert (columns["slots"], columns["flash_attention"], columns["deviations"]) == (2, "on", "[]")


def columns_of(served: Served) -> dict[str, Any]:
    return server_columns(served, cold=False)


def test_a_real_server_that_cuts_the_context_down(serve: Serve, tiny_model: Path) -> None:
    """The model was trained on 8192 tokens, and 20,000 are asked for."""
    served = serve(tiny_model, context=20_000)
    columns = columns_of(served)
    assert (served.context, columns["context"]) == (8192, 8192)
    assert "8,192 tokens of context for each slot instead of 20,000" in columns["deviations"]


def test_a_real_server_that_does_not_do_as_it_was_told_is_no_load(
    engine: Engine, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been told f16: it was loaded with q8_0, which its log says."""
    monkeypatch.setattr(llama_load, "refusal", lambda _, told: refusal(asked(context=256, cache_type_k="f16"), told))
    with pytest.raises(LoadError, match="its K cache is of type q8_0, and not f16") as caught:
        engine.load(tiny_model, settings_for(engine, context=256, cache_type_k="q8_0"), log_path=tmp_path / "log")
    assert (caught.value.outcome, caught.value.refused_by) == (Outcome.CHANGED_SETTINGS, "place")
    assert not list(tmp_path.glob("*.server.json"))
