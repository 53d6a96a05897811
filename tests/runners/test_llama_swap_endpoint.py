"""llama-swap: a swap is a load, whenever it happens, and in no answer's time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quants.models import EndpointModel
from runners.chat import ChatRequest, Message, Sampling, TransportError
from runners.engines import get_endpoint_engine
from runners.engines.base import LoadError
from runners.engines.endpoint_settings import LlamaSwapSettings
from runners.timing import measure
from tests.runners.endpoint_servers import Asked, EndpointServer, Played, json_answer, sse
from tests.runners.test_openai_endpoint import USAGE, chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runners.engines.base import Served

ASK = ChatRequest(
    messages=(Message(role="user", content="count"),),
    sampling=Sampling(temperature=0.5, top_k=3, max_tokens=50),
    seed=7,
    timeout_s=20.0,
)
TIMINGS = {"prompt_n": 20, "prompt_ms": 100.0, "predicted_n": 9, "predicted_ms": 80.0, "cache_n": 0}
ANSWER = sse(chunk(content="one"), {**chunk("stop"), "timings": TIMINGS}, USAGE)


class Swap(EndpointServer):
    """One with a model that takes a while to come up."""

    def __init__(self, model: str = "org/model") -> None:
        super().__init__(Played(pieces=[ANSWER]))
        self.running: list[str] = ["another"]
        self.upstream = f"/upstream/{model.replace('/', '%2F')}"
        props = {"default_generation_settings": {"n_ctx": 2048}, "chat_template": "{{ x }}", "build_info": "b9000"}
        self.routes |= {
            "/v1/models": json_answer({"data": [{"id": model}, {"id": "another"}]}),
            "/running": lambda _: json_answer(
                {"running": [{"model": each, "state": "ready"} for each in self.running]}
            ),
            f"{self.upstream}/health": self._swap,
            f"{self.upstream}/props": json_answer(props),
        }
        self.model = model

    def _swap(self, _: Asked) -> Played:
        self.running = [self.model]
        answer = json_answer({"status": "ok"})
        return dataclasses.replace(answer, pieces=[0.3, *answer.pieces])


@pytest.fixture
def swap() -> Iterator[Swap]:
    with Swap() as server:
        yield server


def connect(server: Swap, model: str = "org/model", **more: Any) -> Served:
    own = LlamaSwapSettings(**{"base_url": server.origin, "load_timeout_s": 10.0, **more})
    return get_endpoint_engine("llama-swap").connect(
        EndpointModel("m", server.origin, model), own, log_path=Path("unused")
    )


def test_a_swap_is_a_load(swap: Swap) -> None:
    served = connect(swap)
    assert served.load_s > 0.25
    assert (served.context, served.chat_template, served.engine_build) == (2048, "{{ x }}", "b9000")
    result = served.chat(ASK)
    body = swap.posts[0].body
    assert (body["model"], body["cache_prompt"], body["timings_per_token"]) == ("org/model", False, True)
    assert body["top_k"] == 3
    timing = measure(result)
    assert timing.prefill_tps == pytest.approx(200.0)
    assert timing.decode_tps == pytest.approx(8 / 0.08)


def test_a_model_that_was_swapped_out_is_swapped_in_before_the_clock_starts(swap: Swap) -> None:
    served = connect(swap)
    swap.running = ["another"]
    timing = measure(served.chat(ASK))
    assert swap.running == ["org/model"]
    assert timing.ttft_any_s is not None
    asked = [each.path for each in swap.asked]
    assert asked.count(f"{swap.upstream}/health") == 2
    assert asked[-1] == "/v1/chat/completions"


def test_what_is_running_already_is_no_load(swap: Swap) -> None:
    swap.running = ["org/model"]
    assert connect(swap).load_s == 0.0


def test_a_model_that_it_does_not_have_is_said_with_those_that_it_has(swap: Swap) -> None:
    with pytest.raises(LoadError, match="has no model 'nobody'") as caught:
        connect(swap, "nobody")
    assert caught.value.hint == "it has: org/model, another"
    assert caught.value.refused_by == "place"


def test_a_model_that_does_not_come_up(swap: Swap) -> None:
    served = connect(swap)
    swap.running = []
    swap.routes[f"{swap.upstream}/health"] = Played(502, {}, [b"process exited: CUDA out of memory"])
    with pytest.raises(TransportError, match="out of memory"):
        served.chat(ASK)
    with pytest.raises(LoadError, match="out of memory"):
        connect(swap)
