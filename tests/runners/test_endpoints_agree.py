"""The clients of OpenAI's and Anthropic's APIs against llama.cpp's own server, which speaks both: what our engine for
that very server reads, they have to read as well.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quants.models import EndpointModel
from runners.chat import ChatRequest, Message, Sampling
from runners.engines import get_endpoint_engine, settings_type
from runners.exams import get_exam
from runners.timing import measure

if TYPE_CHECKING:
    from runners.chat import ChatResult
    from runners.engines.base import Served
    from tests.runners.conftest import Serve

VARIABLE = "QS_TEST_LLAMA_KEY"
PROMPT = get_exam("todo").tasks()[0].messages
GREEDY = ChatRequest(
    messages=PROMPT, sampling=Sampling(temperature=0.0, top_k=1, max_tokens=120), seed=3, timeout_s=120.0
)


def asked(served: Served, kind: str, request: ChatRequest, **settings: Any) -> ChatResult:
    """What the endpoint engine `kind` makes of the server that `served` is."""
    own = settings_type(kind)(**{"base_url": f"{served.base_url}/v1", "key_env": VARIABLE, **settings})
    model = EndpointModel("m", f"{served.base_url}/v1", Path(str(served.base_url)).name)
    return get_endpoint_engine(kind).connect(model, own, log_path=Path("unused")).chat(request)


@pytest.fixture
def stand_in_served(serve: Serve, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    served = serve(stand_in, context=2048)
    monkeypatch.setenv(VARIABLE, served._key)  # type: ignore[attr-defined]  # of a server of ours
    return served


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_same_text_and_the_same_counts(stand_in_served: Served, kind: str) -> None:
    ours = stand_in_served.chat(GREEDY)
    theirs = asked(stand_in_served, kind, GREEDY)
    assert theirs.text == ours.text
    assert theirs.finish_reason == ours.finish_reason == "length"
    assert ours.usage is not None
    assert theirs.usage is not None
    assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens
    assert theirs.usage.completion_tokens == ours.usage.completion_tokens == 120
    one, other = measure(ours), measure(theirs)
    assert (other.answer_tokens, other.reasoning_tokens) == (one.answer_tokens, one.reasoning_tokens)
    assert other.decode_tps_client is not None
    assert other.ttft_any_s is not None
    if kind == "openai":
        assert other.decode_tps is not None, "llama.cpp's own clock rides along"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_prompt_that_is_too_long_is_that_everywhere(stand_in_served: Served, kind: str) -> None:
    long = dataclasses.replace(GREEDY, messages=(Message(role="user", content="word " * 4000),))
    with pytest.raises(Exception, match="does not fit the context") as caught:
        asked(stand_in_served, kind, long)
    assert getattr(caught.value, "outcome", "") == "context_overflow"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_wrong_key_is_said(stand_in_served: Served, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "not-the-key-of-this-server")
    with pytest.raises(Exception, match=r"does not let us in|does not take|Invalid API Key") as caught:
        asked(stand_in_served, kind, GREEDY)
    assert "not-the-key" not in str(caught.value)
