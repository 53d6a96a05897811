"""The decode rate that the memory bus allows, and when nothing can be said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quants.artifact import Artifact, ModelFile
from quants.facts import ModelFacts
from quants.footprint import Backend, DeviceFootprint, Footprint, FootprintSettings
from quants.models import EndpointModel, FileModel
from runners.ceiling import decode_ceiling_tps
from runners.chat import Sampling
from runners.engines.settings import LlamaServerSettings
from runners.orders import Place
from runners.row import ceiling_columns
from runners.work import Cell

GB = 10**9
CARD = Place(devices=("nvidia-0",), engine_device="CUDA0", backend="cuda", bandwidth_bytes_per_s=1000.0 * GB)


def cell(*, token_bytes: int = 10 * GB, kv_bytes: int = 0, **engine: int) -> Cell:
    settings = FootprintSettings(backend=Backend.CUDA, gpus=1, context=1000)
    device = DeviceFootprint(device="gpu0", kv_bytes=kv_bytes)
    footprint = Footprint(method="estimate", architecture="llama", settings=settings, devices=(device,))
    artifact = Artifact("Q4_K_M", (ModelFile("m.gguf", 11 * GB, "0" * 64),), root="/models")
    model = FileModel("m", artifact, {"cuda": footprint}, ModelFacts("llama", 20 * GB, 20 * GB, 4.5, token_bytes))
    served = LlamaServerSettings(**{"context": 1000, **engine})  # type: ignore[arg-type]  # a test's shorthand
    return Cell("c1", model, "", served, Sampling())


def test_each_token_reads_the_weights_and_the_cache_as_far_as_it_is_filled() -> None:
    assert decode_ceiling_tps(cell(), CARD, 500) == pytest.approx(100)
    assert decode_ceiling_tps(cell(kv_bytes=10 * GB), CARD, 500) == pytest.approx(1000 / 15)
    assert decode_ceiling_tps(cell(kv_bytes=10 * GB, slots=2), CARD, 500) == pytest.approx(1000 / 12.5)
    assert decode_ceiling_tps(cell(kv_bytes=10 * GB), CARD, None) == pytest.approx(100)


def test_what_cannot_be_known_is_said() -> None:
    known = cell()
    assert isinstance(known.model, FileModel)
    unread = replace(known, model=replace(known.model, facts=None))
    for one, place, said in (
        (unread, CARD, "header could not be read"),
        (replace(known, model=EndpointModel("m", "openai", "gpt")), CARD, "is not known"),
        (known, replace(CARD, bandwidth_bytes_per_s=None), "bandwidth"),
        (cell(token_bytes=2_000_000), CARD, "caches"),
        (cell(gpu_layers=10), CARD, "host memory"),
        (cell(cpu_moe_layers=3), CARD, "host memory"),
    ):
        found = decode_ceiling_tps(one, place, 10)
        assert isinstance(found, str)
        assert said in found
    assert isinstance(decode_ceiling_tps(cell(gpu_layers=0), replace(CARD, backend="cpu"), 10), float)


def test_a_rate_above_the_ceiling_is_marked_and_one_within_the_slack_is_not() -> None:
    for rate, above in ((104.0, False), (106.0, True), (None, None)):
        found = ceiling_columns(cell(), CARD, prompt_tokens=10, rate=rate, reasons={})
        assert (found["decode_ceiling_tps"], found["above_ceiling"]) == (pytest.approx(100), above)
    reasons: dict[str, str] = {}
    assert ceiling_columns(cell(gpu_layers=10), CARD, prompt_tokens=10, rate=1e9, reasons=reasons) == {
        "decode_ceiling_tps": None
    }
    assert "host memory" in reasons["decode_ceiling_tps"]
