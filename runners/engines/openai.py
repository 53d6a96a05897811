"""Any server of OpenAI's Chat Completions API: OpenAI itself, DeepSeek, Gemini's endpoint, vLLM, LM Studio.

They agree on the form and differ in what they take: what a setting leaves out (`omit`) is not sent, and what nobody set
is left to the provider.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runners.engines import http
from runners.engines.endpoint_settings import OpenAISettings
from runners.engines.figures import count
from runners.engines.messages import sent_message
from runners.engines.remote import EndpointServed, available_with_key, key_of, let_in
from runners.engines.reply import ReplyBuilder
from runners.engines.settings import of_kind

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from quants.models import EndpointModel
    from runners.chat import ChatRequest, OnEvent
    from runners.engines.base import EngineInfo, EngineUnavailable
    from runners.engines.settings import EngineSettings

KIND = OpenAISettings.kind
_CONTEXTS = ("max_model_len", "context_length", "max_context_length", "context_window")


def completion_body(request: ChatRequest, *, model: str, settings: OpenAISettings) -> dict[str, Any]:
    """The JSON of a streamed chat completion with usage; sampling values that are None are left to the provider."""
    sampling = {name: value for name, value in asdict(request.sampling).items() if value is not None}
    most = sampling.pop("max_tokens", None)
    body: dict[str, Any] = {
        "model": model,
        "messages": [sent_message(message) for message in request.messages],
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling,
    }
    if most is not None:
        body[settings.tokens_key] = most
    if settings.reasoning_effort is not None:
        body["reasoning_effort"] = settings.reasoning_effort
    if request.tools:
        body["tools"] = list(request.tools)
        if request.must_call:
            body["tool_choice"] = "required"
    return {name: value for name, value in body.items() if name not in (settings.omit or ())}


class OpenAIServed(EndpointServed):
    """A model behind Chat Completions."""

    def __init__(self, server: http.Server, settings: OpenAISettings, model: str) -> None:
        super().__init__(server, model=model, who=settings.provider, key_env=settings.key_env)
        self._settings = settings

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """See `completion_body`."""
        return completion_body(request, model=self.model, settings=self._settings)

    def reader(self, started_s: float, on_event: OnEvent | None) -> ReplyBuilder:
        """Chunks in OpenAI's form."""
        return ReplyBuilder(started_s=started_s, on_event=on_event)


class OpenAIEngine:
    """Follows `runners.engines.base.EndpointEngine`."""

    kind = KIND

    def available(self, settings: EngineSettings) -> EngineInfo | EngineUnavailable:
        """Whether the key is on this node."""
        return available_with_key(KIND, of_kind(settings, OpenAISettings).key_env)

    def connect(
        self,
        model: EndpointModel,
        settings: EngineSettings,
        *,
        log_path: Path,  # noqa: ARG002 -- nothing is worth reading there
        cancelled: threading.Event | None = None,
    ) -> OpenAIServed:
        """Finds the key, and sees that the server takes it, by asking for its list of models."""
        own = of_kind(settings, OpenAISettings)
        server = http.Server(own.base_url, key_of(own.key_env))
        served = OpenAIServed(server, own, model.model_id)
        listed = let_in(served, "/models", timeout_s=own.load_timeout_s, cancelled=cancelled)
        served.context = _context(listed, model.model_id)
        return served


def _context(listed: Any, model_id: str) -> int | None:
    """The context of the model, of a server whose list says it (vLLM, OpenRouter, LM Studio); None of others."""
    models = listed.get("data") if isinstance(listed, dict) else None
    for each in models if isinstance(models, list) else []:
        if isinstance(each, dict) and each.get("id") == model_id:
            return next((known for name in _CONTEXTS if (known := count(each.get(name)))), None)
    return None
