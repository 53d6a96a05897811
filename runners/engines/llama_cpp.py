"""A running llama.cpp server, ours to talk to and to end: what the embedded engine and llama-server share.

It is brought up by `runners.engines.llama_load`.

A server of ours answers whoever has the key that was made for this start, and nobody else of this machine's users. It
reaches the server by its environment, so no list of processes shows it.

The prompt cache is off for the server and again in every request: a cell sends the same prompt for every seed, and a
cached prompt makes prefill look infinite (shared by all but the first seed).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from profiles.environment import engine_environment
from runners.bounded import HungError, within
from runners.chat import (
    CancelledError,
    ChatError,
    ChatRequest,
    ChatResult,
    OnEvent,
    Sampling,
    ServerCrashError,
    ServerStalledError,
    ToolFormatError,
    TransportError,
)
from runners.engines.figures import count
from runners.engines.llama_log import diagnose
from runners.engines.messages import sent_message
from runners.engines.wire import get_json, stream_chat
from runners.lookout import Lookout
from runners.stall import Pace, Signs
from runners.vitals import read_vitals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from runners.engines.base import BufferSizes, WarmUp
    from runners.engines.llama_told import ServedSettings
    from runners.process import ServerProcess

_DEATH_NOTICE_S = 2.0
TAIL_LINES = 20
_ASK_S = 3.0
_NEAR_TOKENS = 16
_STALL_HINT = "look at the machine: its GPU's driver, its memory, who stops processes there"
KEY_VARIABLE = "LLAMA_API_KEY"


def server_environment(key: str | None = None, **more: str) -> dict[str, str]:
    """The environment of a server: as when it was asked for its devices, and of llama.cpp's own variables `key`.

    LLAMA_ARG_* would change the server's settings behind the spec's back.
    """
    ours = {} if key is None else {KEY_VARIABLE: key}
    return {**engine_environment(), **ours, **more}


def variables(settings: tuple[str, ...]) -> dict[str, str]:
    """Variables that are given as NAME=value."""
    return {name: value for name, _, value in (each.partition("=") for each in settings)}


def new_key() -> str:
    """A key for one start of one server. llama.cpp logs the last four characters of its key; these say nothing."""
    return f"{secrets.token_urlsafe(32)}-key"


def request_body(request: ChatRequest, *, model: str) -> dict[str, Any]:
    """The JSON of a streamed chat completion; sampling values that are None are left to the server."""
    sampling = {name: value for name, value in dataclasses.asdict(request.sampling).items() if value is not None}
    body: dict[str, Any] = {
        "model": model,
        "messages": [sent_message(message) for message in request.messages],
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "return_progress": True,  # so that a long prompt is no silence
        "cache_prompt": False,
        **sampling,
    }
    if request.tools:
        body["tools"] = list(request.tools)
        if request.must_call:
            body["tool_choice"] = "required"
    return body


def _chars_of(request: ChatRequest) -> int:
    """How long the prompt will be, about: a template adds little to messages and tools."""
    messages = sum(
        len(message.content) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
        for message in request.messages
    )
    return messages + (len(json.dumps(request.tools)) if request.tools else 0)


class LlamaCppServed:
    """A loaded model behind llama.cpp's HTTP server. Follows `runners.engines.base.Served`."""

    def __init__(
        self, process: ServerProcess, *, kind: str, base_url: str, alias: str, key: str, engine_build: str
    ) -> None:
        self.base_url: str | None = base_url
        self.pid: int | None = process.pid
        self.load_s = 0.0
        self.engine_build = engine_build
        self.buffers: BufferSizes | None = None
        self.log_path: Path | None = process.log_path
        self.context = 0
        self.chat_template: str | None = None
        self.supports_tools: bool | None = None
        self.warm_up: WarmUp | None = None
        self.told: ServedSettings | None = None
        self.device_busy: Callable[[], bool | None] | None = None
        self._process = process
        self._kind = kind
        self._url = base_url
        self._alias = alias
        self._key = key
        self._stopping = False

    def chat(
        self,
        request: ChatRequest,
        *,
        cancelled: threading.Event | None = None,
        on_event: OnEvent | None = None,
    ) -> ChatResult:
        """Answer one request. Raises a `ChatError`; one that died says so with the last lines of its log."""
        if not self._process.is_alive():
            raise self._gone(None)
        if request.tools and self.supports_tools is False:
            raise ToolFormatError(
                "the chat template of this model has no place for tools: it would be asked without them",
                hint='give it one that has: chat_template under [engine], with kind = "llama-server"',
            )
        body = request_body(request, model=self._alias)
        try:
            result = stream_chat(
                self._url,
                body,
                timeout_s=request.timeout_s,
                cancelled=cancelled,
                on_event=on_event,
                key=self._key,
                lookout=Lookout(self._look, pace=self._pace(request)),
            )
        except ServerStalledError as error:
            # The next request must not find it again, and time of grace would only be more waiting.
            tail = self._process.tail(TAIL_LINES)
            self._process.kill()
            message = error.message.replace("the server", self._kind, 1)
            raise ServerStalledError(message, hint=_STALL_HINT, partial=error.partial, log_tail=tail) from None
        except TransportError as error:
            # The kernel closes a dying process's sockets before it reports the death.
            if self._stopping or self._process.wait(_DEATH_NOTICE_S):
                raise self._gone(error.partial) from None
            raise
        return self._checked(result, request.sampling)

    def _pace(self, request: ChatRequest) -> Pace:
        """What the warm-up says of how long this prompt should take, by its length, and its tokens."""
        warm_up = self.warm_up
        if warm_up is None or warm_up.ttft_s is None:
            return Pace()
        return Pace(prefill_s=warm_up.ttft_s * _chars_of(request) / warm_up.prompt_chars, gap_s=warm_up.gap_s or 0.0)

    def _look(self) -> Signs:
        """One look at a silent server; takes a few seconds at most."""
        vitals = read_vitals(self._process.pid)
        stopped = vitals is not None and vitals.stopped
        answered, steps = (False, None) if stopped else self._ask()
        busy = None
        if self.device_busy is not None:
            with contextlib.suppress(HungError):
                busy = within(_ASK_S, "the device's counters", self.device_busy)
        return Signs(
            stopped=stopped,
            answered=answered,
            steps=steps,
            cpu_s=None if vitals is None else vitals.cpu_s,
            read=None if vitals is None else vitals.read,
            gpu_busy=busy,
            has_gpu=self.device_busy is not None,
        )

    def _ask(self) -> tuple[bool, int | None]:
        """Whether the server answers, and the steps it counts.

        /slots is answered by the loop that computes, between two of its steps; /health by threads beside it.
        """
        with contextlib.suppress(OSError):
            status, slots = get_json(self._url, "/slots", key=self._key, timeout_s=_ASK_S)
            if status == HTTPStatus.OK:
                return True, _steps(slots)
        with contextlib.suppress(OSError):
            get_json(self._url, "/health", key=self._key, timeout_s=_ASK_S)
            return True, None
        return False, None

    def _checked(self, result: ChatResult, sampling: Sampling) -> ChatResult:
        usage = result.usage
        warnings = list(result.warnings)
        cached = max((usage.cached_tokens or 0) if usage else 0, (result.timings and result.timings.cache_n) or 0)
        if cached:
            warnings.append(f"{cached} tokens of the prompt came from the server's cache although it is switched off")
        full, cut_short = _cut(result, sampling.max_tokens, self.context)
        return dataclasses.replace(result, context_full=full, cut_short=cut_short, warnings=tuple(warnings))

    def _gone(self, partial: ChatResult | None) -> ChatError:
        if self._stopping:
            return CancelledError(f"{self._kind} was stopped", partial=partial)
        tail = self._process.tail(TAIL_LINES)
        why = diagnose(tail, self._process.ended(_DEATH_NOTICE_S), self._process.memory_kills())
        return ServerCrashError(f"{self._kind} died: {why.sentence}", hint=why.hint, partial=partial, log_tail=tail)

    def is_alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the server's process without asking it."""
        self._process.kill()

    def stop(self) -> None:
        """End the server and its whole process tree; does nothing the second time."""
        self._stopping = True
        self._process.stop()


def _cut(result: ChatResult, cap: int | None, context: int) -> tuple[bool, str]:
    """Whether a reply that was cut off by its length filled the context; a sentence if it reached no limit we know."""
    usage, timings = result.usage, result.timings
    generated = usage.completion_tokens if usage else None
    if result.finish_reason != "length" or generated is None or (cap is not None and generated >= cap):
        return False, ""
    prompt = usage.prompt_tokens if usage else None
    if prompt is None and timings is not None and timings.prompt_n is not None:
        prompt = timings.prompt_n + (timings.cache_n or 0)
    # The server ends a reply when the next step, of several tokens if some were drafted, would not fit.
    spare = max(_NEAR_TOKENS, context // 64)
    if prompt is not None and prompt + generated >= context - spare:
        return True, ""
    limit = "" if cap is None else f", below max_tokens ({cap})"
    used = "an unknown number" if prompt is None else f"{prompt + generated}"
    return False, (
        f"the server claimed that the reply was cut off by its length after {generated} tokens{limit}, "
        f"with {used} of the {context} tokens of context used"
    )


def _steps(slots: Any) -> int | None:
    """Tokens of the prompt that are processed and tokens generated, over all slots; None for a build that says less."""
    try:
        counts = [
            count(said)
            for slot in slots
            for said in (slot["n_prompt_tokens_processed"], *(token["n_decoded"] for token in slot["next_token"]))
        ]
    except (KeyError, TypeError):
        return None
    known = [each for each in counts if each is not None]
    return sum(known) if len(known) == len(counts) else None
