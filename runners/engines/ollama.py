"""Ollama by its own API: a model by name, its blobs' sha256 as identity, its load apart from its answers.

Its lines are put into the form of OpenAI's chunks, so that every column means the same whatever the engine.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runners.chat import ServerTimings
from runners.engines import http
from runners.engines.base import LoadError
from runners.engines.endpoint_settings import OllamaSettings
from runners.engines.figures import count
from runners.engines.messages import sent_message
from runners.engines.remote import EndpointServed, available_with_key, key_of
from runners.engines.reply import ReplyBuilder, ServerSaidError
from runners.engines.settings import of_kind
from runners.stream import LineParser

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from quants.models import EndpointModel
    from runners.chat import ChatRequest, ChatResult, Message, OnEvent
    from runners.engines.base import EngineInfo, EngineUnavailable
    from runners.engines.remote import Payloads, ReplyReader
    from runners.engines.settings import EngineSettings

KIND = OllamaSettings.kind
KEEP_ALIVE: Final = "10m"
"""How long the model stays loaded after a request, should nobody be there to end it."""
ASK_S: Final = 10.0
UNLOAD_S: Final = 5.0
_BLOB: Final = re.compile(r"^FROM\s+\S{0,4096}\bsha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)
_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_WITH_CACHE: Final = "Ollama counts tokens of its cache among the prompt's, and no time for them"
_OPTIONS: Final = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


class LineReader:
    """Takes the lines of `/api/chat`; a `ReplyReader`. `alone`: nothing can be in the server's cache."""

    def __init__(self, started_s: float, on_event: OnEvent | None, *, alone: bool) -> None:
        self._reply = ReplyBuilder(started_s=started_s, on_event=on_event)
        self._alone = alone
        self._last: Mapping[str, Any] = {}
        self._calls = 0

    @property
    def finished(self) -> bool:
        """Whether the last line came."""
        return bool(self._last)

    @property
    def generating(self) -> bool:
        """Whether a token has come."""
        return self._reply.generating

    @property
    def signs(self) -> int:
        """As `ReplyBuilder.signs`."""
        return self._reply.signs

    @property
    def garbled(self) -> int:
        """How many lines were no JSON object."""
        return self._reply.garbled

    @property
    def complete(self) -> bool:
        """Whether the server said how the reply ended."""
        return self._reply.complete

    def take(self, payload: bytes, at_s: float) -> None:
        """Take one line. Raises `ServerSaidError` for one of an error."""
        if not payload.strip():
            return
        try:
            line = json.loads(payload)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            self._reply.take(payload, at_s)  # which says what is wrong with it
            return
        if line.get("error"):
            raise ServerSaidError(str(line["error"]))
        message = _mapping(line.get("message"))
        delta: dict[str, Any] = {"content": message.get("content"), "reasoning_content": message.get("thinking")}
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            delta["tool_calls"] = [self._call(_mapping(each)) for each in calls]
        done = line.get("done") is True
        reason = (line.get("done_reason") or "stop") if done else None
        if done and self._calls and reason == "stop":
            reason = "tool_calls"
        chunk = {"model": line.get("model"), "choices": [{"delta": delta, "finish_reason": reason}]}
        if done:
            self._last = line
            chunk["usage"] = {
                "prompt_tokens": line.get("prompt_eval_count"),
                "completion_tokens": line.get("eval_count"),
                "prompt_tokens_details": {"cached_tokens": 0 if self._alone else None},
            }
        self._reply.take_chunk(chunk, at_s)

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """A call, which comes whole, and its arguments as an object."""
        function = _mapping(call.get("function"))
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments if arguments is not None else {})
        self._calls += 1
        identity = call.get("id") or f"call-{self._calls}"
        return {
            "index": self._calls - 1,
            "id": identity,
            "function": {"name": function.get("name"), "arguments": text},
        }

    def result(self, ended_s: float) -> ChatResult:
        """The reply as far as it has come."""
        found = self._reply.result(ended_s)
        if not self._last:
            return found
        decode_ms = _milliseconds(self._last.get("eval_duration"))
        prompt_ms = _milliseconds(self._last.get("prompt_eval_duration")) if self._alone else None
        timings = ServerTimings(
            prompt_n=count(self._last.get("prompt_eval_count")) if self._alone else None,
            prompt_ms=prompt_ms,
            predicted_n=count(self._last.get("eval_count")),
            predicted_ms=decode_ms,
        )
        unsound = dict(found.unsound)
        if not self._alone:
            unsound |= {"prompt_n": _WITH_CACHE, "cached_tokens": "Ollama does not say what was in its cache"}
        return dataclasses.replace(found, timings=timings, unsound=unsound)


def _milliseconds(nanoseconds: object) -> float | None:
    if not isinstance(nanoseconds, int) or isinstance(nanoseconds, bool) or not 0 <= nanoseconds < 10**18:
        return None
    return nanoseconds / 1e6


def _options(settings: OllamaSettings) -> dict[str, Any]:
    """Those that the model is loaded with."""
    return {"num_ctx": settings.context}


def chat_body(request: ChatRequest, *, model: str, settings: OllamaSettings) -> dict[str, Any]:
    """The JSON of a streamed chat."""
    sampling = dataclasses.asdict(request.sampling)
    options = _options(settings) | {name: sampling[name] for name in _OPTIONS if sampling[name] is not None}
    # Ollama reads the seed as a signed number.
    options |= {"seed": request.seed % (1 << 31), "num_predict": request.sampling.max_tokens or -1}
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, request.messages) for message in request.messages],
        "stream": True,
        "keep_alive": KEEP_ALIVE,
        "options": {name: value for name, value in options.items() if name not in (settings.omit or ())},
    }
    if settings.reasoning_effort is not None:
        body["think"] = settings.reasoning_effort
    elif settings.reasoning in {"on", "off"}:
        body["think"] = settings.reasoning == "on"
    if request.tools:
        body["tools"] = list(request.tools)
    return {name: value for name, value in body.items() if name not in (settings.omit or ())}


def _message(message: Message, others: tuple[Message, ...]) -> dict[str, Any]:
    """A message as Ollama takes it: arguments are an object, and a result names the tool."""
    fields = sent_message(message)
    for call in fields.get("tool_calls", ()):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    if message.tool_call_id:
        names = {call.id: call.name for each in others for call in each.tool_calls}
        fields["tool_name"] = names.get(message.tool_call_id, "")
    return fields


class OllamaServed(EndpointServed):
    """A model that an Ollama serves."""

    path = "/api/chat"

    def __init__(self, server: http.Server, settings: OllamaSettings, model: str) -> None:
        super().__init__(server, model=model, who=f"Ollama at {settings.provider}", key_env=settings.key_env)
        self.context: int | None = settings.context
        self._settings = settings
        self._untouched = False
        self._is_ours = False

    def load(self, cancelled: threading.Event | None) -> None:
        """Has the model loaded, if it is not; raises `LoadError`."""
        was_there = self._resident() is not None
        began_s = time.monotonic()
        body = {"model": self.model, "keep_alive": KEEP_ALIVE, "options": _options(self._settings), "stream": False}
        answer = _asked(self, "/api/generate", body, timeout_s=self._settings.load_timeout_s, cancelled=cancelled)
        if answer.status != http.OK:
            said = self.shown(str(_mapping(answer.json()).get("error") or f"status {answer.status}"))
            raise LoadError(
                f"{self.who} could not load {self.model}: {said}",
                reason="refused_here" if answer.status in {400, 404} else "exited",
            )
        took_s = time.monotonic() - began_s
        self._is_ours = not was_there
        # One that was there may have been loaded anew for another context: that is not told, and no load of ours.
        self.load_s = took_s if self._is_ours else 0.0
        self._untouched = self._is_ours
        vram = count_bytes((self._resident() or {}).get("size_vram"))
        self.reported_vram_bytes = vram or None

    def _resident(self) -> Mapping[str, Any] | None:
        """What `/api/ps` says of the model; None if it is not loaded."""
        answer = _asked(self, "/api/ps", None, timeout_s=ASK_S)
        models = _mapping(answer.json()).get("models")
        for each in models if isinstance(models, list) else []:
            if isinstance(each, dict) and self.model in (each.get("name"), each.get("model"), _short(each.get("name"))):
                return each
        return None

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """See `chat_body`."""
        return chat_body(request, model=self.model, settings=self._settings)

    def reader(self, started_s: float, on_event: OnEvent | None) -> LineReader:
        """Lines of JSON. Only the first request after a load finds an empty cache for sure."""
        alone, self._untouched = self._untouched, False
        return LineReader(started_s, on_event, alone=alone)

    def payloads(self) -> Payloads:
        """Lines."""
        return LineParser()

    def read_to_its_end(self, reader: ReplyReader) -> None:
        """Nothing is kept."""

    def stop(self) -> None:
        """Gives back the memory of a model that was loaded for us."""
        super().stop()
        if self._is_ours:
            self._is_ours = False
            body = {"model": self.model, "keep_alive": 0, "stream": False}
            try:
                http.ask(self.server, "/api/generate", body=body, timeout_s=UNLOAD_S)
            except http.HttpError:
                return  # it goes by itself after `KEEP_ALIVE`


def count_bytes(value: object) -> int | None:
    """A size in bytes; None for all that is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50 else None


def _short(name: object) -> str:
    return name.removesuffix(":latest") if isinstance(name, str) else ""


def _asked(
    served: EndpointServed,
    path: str,
    body: Mapping[str, Any] | None,
    *,
    timeout_s: float,
    cancelled: threading.Event | None = None,
) -> http.Answer:
    def look() -> None:
        if cancelled is not None and cancelled.is_set():
            raise LoadError(f"asking {served.who} was cancelled", reason="cancelled")

    try:
        return http.ask(served.server, path, body=body, look=look, timeout_s=timeout_s)
    except http.HttpError as error:
        hint = "see that it runs (`ollama serve`) and that base_url is right"
        raise LoadError(served.shown(error.message), hint=hint) from None


def identify(model_id: str, settings: OllamaSettings) -> tuple[str, str]:
    """The sha256 of the model's own blob, and of its manifest, which names all blobs: template and parameters as well.

    Raises:
        EngineUnavailableError: the key is not here.
        LoadError: nobody answers, or there is no such model.
    """
    served = OllamaServed(http.Server(settings.base_url, key_of(settings.key_env)), settings, model_id)
    listed = _mapping(_asked(served, "/api/tags", None, timeout_s=ASK_S).json()).get("models")
    models = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    found = next((each for each in models if model_id in (each.get("name"), _short(each.get("name")))), None)
    shown = _mapping(_asked(served, "/api/show", {"model": model_id}, timeout_s=ASK_S).json())
    blob = _BLOB.search(str(shown.get("modelfile") or "")[:65536])
    manifest = _DIGEST.fullmatch(str((found or {}).get("digest") or ""))
    if found is None or manifest is None:
        names = ", ".join(str(each.get("name"))[:60] for each in models[:10])
        host = urlsplit(settings.base_url).netloc
        hint = f"it has: {names}" if names else "it has none"
        raise LoadError(f"Ollama at {host} has no model {model_id!r}; {hint}; `ollama pull` brings one")
    if blob is None:
        raise LoadError(f"Ollama at {settings.base_url} does not say which file {model_id!r} is made of")
    return blob[1], manifest[1]


class OllamaEngine:
    """Follows `runners.engines.base.EndpointEngine`."""

    kind = KIND

    def available(self, settings: EngineSettings) -> EngineInfo | EngineUnavailable:
        """Whether the key is on this node, where one is named."""
        return available_with_key(KIND, of_kind(settings, OllamaSettings).key_env)

    def identify(self, model_id: str, settings: EngineSettings) -> tuple[str, str]:
        """See `identify`."""
        return identify(model_id, of_kind(settings, OllamaSettings))

    def connect(
        self,
        model: EndpointModel,
        settings: EngineSettings,
        *,
        log_path: Path,  # noqa: ARG002 -- nothing is worth reading there
        cancelled: threading.Event | None = None,
    ) -> OllamaServed:
        """Sees that the name still stands for the same blobs, and has the model loaded."""
        own = of_kind(settings, OllamaSettings)
        if model.blob_sha256 and identify(model.model_id, own) != (model.blob_sha256, model.manifest_sha256):
            text = f"Ollama at {own.base_url} has other files under the name {model.model_id!r} than the plan"
            raise LoadError(text, hint="pull the same version there, or make the sweep anew", reason="no_file")
        served = OllamaServed(http.Server(own.base_url, key_of(own.key_env)), own, model.model_id)
        version = _mapping(_asked(served, "/api/version", None, timeout_s=ASK_S).json()).get("version")
        served.engine_build = str(version or "")[:100]
        shown = _mapping(_asked(served, "/api/show", {"model": model.model_id}, timeout_s=ASK_S).json())
        template, can = shown.get("template"), shown.get("capabilities")
        served.chat_template = template if isinstance(template, str) and template else None
        served.supports_tools = "tools" in can if isinstance(can, list) else None
        served.load(cancelled)
        return served
