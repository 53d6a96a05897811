"""llama-swap: llama.cpp behind a proxy that swaps models in. Its swap is a load, and in no answer's time.

A swap begins with the first request that names a model. So before anything is asked the model is called for by its
upstream's `/health`, which generates nothing, and each later request is preceded by a look whether it is still there.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from runners.chat import TransportError
from runners.engines import http
from runners.engines.base import LoadError
from runners.engines.endpoint_settings import LlamaSwapSettings
from runners.engines.figures import count
from runners.engines.messages import sent_message
from runners.engines.remote import EndpointServed, available_with_key, key_of, let_in
from runners.engines.reply import ReplyBuilder
from runners.engines.settings import of_kind

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from quants.models import EndpointModel
    from runners.chat import ChatRequest, ChatResult, OnEvent
    from runners.engines.base import EngineInfo, EngineUnavailable
    from runners.engines.settings import EngineSettings

KIND = LlamaSwapSettings.kind
ASK_S: Final = 10.0
_SHOWN: Final = 200


class LlamaSwapServed(EndpointServed):
    """A model that a llama-swap serves."""

    path = "/v1/chat/completions"

    def __init__(self, server: http.Server, settings: LlamaSwapSettings, model: str) -> None:
        super().__init__(server, model=model, who=f"llama-swap at {settings.provider}", key_env=settings.key_env)
        self._settings = settings
        self._upstream = f"/upstream/{quote(model, safe='')}"

    def swap_in(self, cancelled: threading.Event | None) -> None:
        """Has the model loaded, if it is not, and notes how long that took; raises `LoadError`."""
        if self._is_running():
            return
        began_s = time.monotonic()
        answer = self._ask(f"{self._upstream}/health", self._settings.load_timeout_s, cancelled)
        if answer.status != http.OK:
            said = self.shown(answer.body[:_SHOWN].decode(errors="replace").strip())
            raise LoadError(
                f"{self.who} could not bring up {self.model!r} (status {answer.status}): {said}",
                hint="its own log says more: /logs",
                reason="refused_here" if answer.status == 404 else "exited",
            )
        self.load_s = time.monotonic() - began_s

    def look_around(self) -> None:
        """Takes in what the llama.cpp behind it says of itself, if it is one."""
        found = self._ask(f"{self._upstream}/props", ASK_S, None).json()
        if not isinstance(found, dict):
            return
        settings, template = found.get("default_generation_settings"), found.get("chat_template")
        self.context = count(settings.get("n_ctx")) if isinstance(settings, dict) else None
        self.engine_build = str(found.get("build_info") or "")[:_SHOWN]
        self.chat_template = template if isinstance(template, str) and template else None

    def _is_running(self) -> bool:
        running = self._ask("/running", ASK_S, None).json()
        models = running.get("running") if isinstance(running, dict) else None
        return any(
            isinstance(each, dict) and each.get("model") == self.model and each.get("state", "ready") == "ready"
            for each in (models if isinstance(models, list) else [])
        )

    def _ask(self, path: str, timeout_s: float, cancelled: threading.Event | None) -> http.Answer:
        def look() -> None:
            if cancelled is not None and cancelled.is_set():
                raise LoadError(f"asking {self.who} was cancelled", reason="cancelled")

        try:
            return http.ask(self.server, path, look=look, timeout_s=timeout_s)
        except http.HttpError as error:
            raise LoadError(self.shown(error.message), hint="see that base_url is right") from None

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """A chat completion as llama.cpp takes it, prompt cache off, with its own clock in every chunk."""
        sampling = {name: value for name, value in dataclasses.asdict(request.sampling).items() if value is not None}
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [sent_message(message) for message in request.messages],
            "seed": request.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
            "return_progress": True,
            "cache_prompt": False,
            **sampling,
        }
        if request.tools:
            body["tools"] = list(request.tools)
            if request.must_call:
                body["tool_choice"] = "required"
        return {name: value for name, value in body.items() if name not in (self._settings.omit or ())}

    def reader(self, started_s: float, on_event: OnEvent | None) -> ReplyBuilder:
        """Chunks in OpenAI's form, with llama.cpp's `timings`."""
        return ReplyBuilder(started_s=started_s, on_event=on_event)

    def chat(
        self, request: ChatRequest, *, cancelled: threading.Event | None = None, on_event: OnEvent | None = None
    ) -> ChatResult:
        """Answer one request, after a swap if somebody else's model is there by now."""
        try:
            self.swap_in(cancelled)
        except LoadError as error:
            raise TransportError(error.message, hint=error.hint) from None
        return super().chat(request, cancelled=cancelled, on_event=on_event)


class LlamaSwapEngine:
    """Follows `runners.engines.base.EndpointEngine`."""

    kind = KIND

    def available(self, settings: EngineSettings) -> EngineInfo | EngineUnavailable:
        """Whether the key is on this node, where one is named."""
        return available_with_key(KIND, of_kind(settings, LlamaSwapSettings).key_env)

    def connect(
        self,
        model: EndpointModel,
        settings: EngineSettings,
        *,
        log_path: Path,  # noqa: ARG002 -- its log is on its own machine
        cancelled: threading.Event | None = None,
    ) -> LlamaSwapServed:
        """Sees that it has a model of that name, and has it swapped in."""
        own = of_kind(settings, LlamaSwapSettings)
        served = LlamaSwapServed(http.Server(own.base_url, key_of(own.key_env)), own, model.model_id)
        listed = let_in(served, "/v1/models", timeout_s=own.load_timeout_s, cancelled=cancelled)
        models = listed.get("data") if isinstance(listed, dict) else None
        names = [str(each.get("id")) for each in models if isinstance(each, dict)] if isinstance(models, list) else []
        if names and model.model_id not in names:
            hint = f"it has: {', '.join(name[:60] for name in names[:10])}"
            raise LoadError(f"{served.who} has no model {model.model_id!r}", hint=hint, reason="refused_here")
        served.swap_in(cancelled)
        served.look_around()
        return served
