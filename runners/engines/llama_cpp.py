"""A running llama.cpp server, ours to talk to and to end: what the embedded engine and llama-server share.

Bringing one up is always the same: wait for /health, see that it is ours and not a stranger on the same port, ask it
what it has, warm it up, read its buffers from the log. If any of it fails, the process is gone when the error arrives.

A server of ours answers whoever has the key that was made for this start, and nobody else of this machine's users. It
reaches the server by its environment, so no list of processes shows it.

The prompt cache is off for the server and again in every request: a cell sends the same prompt for every seed, and a
cached prompt makes prefill look infinite (shared by all but the first seed).
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from profiles.environment import child_environment
from runners.chat import (
    CancelledError,
    ChatError,
    ChatRequest,
    ChatResult,
    Message,
    OnEvent,
    Sampling,
    ServerCrashError,
    TransportError,
)
from runners.engines.base import BufferSizes, EngineSettings, LoadError, WarmUp
from runners.engines.llama_log import diagnose, parse_buffers, read_log
from runners.engines.wire import get_json, stream_chat
from runners.timing import measure

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from runners.process import ServerProcess

_DEATH_NOTICE_S = 2.0
_TAIL_LINES = 20
KEY_VARIABLE = "LLAMA_API_KEY"
# Long enough for the batched kernels, short enough for a large model on a CPU.
_WARM_UP_PROMPT = "Count from one to fifty in words, with a comma after each. " * 4
_WARM_UP_TOKENS = 8
_WARM_UP_TIMEOUT_S = 300.0


def server_environment(key: str | None = None, **more: str) -> dict[str, str]:
    """The environment of a server: GPUs numbered as the driver numbers them, and of llama.cpp's own variables `key`.

    LLAMA_ARG_* would change the server's settings behind the spec's back.
    """
    ours = {} if key is None else {KEY_VARIABLE: key}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **child_environment(), **ours, **more}


def new_key() -> str:
    """A key for one start of one server. llama.cpp logs the last four characters of its key; these say nothing."""
    return f"{secrets.token_urlsafe(32)}-key"


def request_body(request: ChatRequest, *, model: str) -> dict[str, Any]:
    """The JSON of a streamed chat completion; sampling values that are None are left to the server."""
    sampling = {name: value for name, value in dataclasses.asdict(request.sampling).items() if value is not None}
    body: dict[str, Any] = {
        "model": model,
        "messages": [dataclasses.asdict(message) for message in request.messages],
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "cache_prompt": False,
        **sampling,
    }
    if request.tools:
        body["tools"] = list(request.tools)
    return body


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
        self.warm_up: WarmUp | None = None
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
        body = request_body(request, model=self._alias)
        try:
            result = stream_chat(
                self._url,
                body,
                timeout_s=request.timeout_s,
                cancelled=cancelled,
                on_event=on_event,
                key=self._key,
            )
        except TransportError as error:
            # The kernel closes a dying process's sockets before it reports the death.
            if self._stopping or self._process.wait(_DEATH_NOTICE_S):
                raise self._gone(error.partial) from None
            raise
        return self._checked(result, request.sampling)

    def _checked(self, result: ChatResult, sampling: Sampling) -> ChatResult:
        usage = result.usage
        warnings = list(result.warnings)
        cached = max((usage.cached_tokens or 0) if usage else 0, (result.timings and result.timings.cache_n) or 0)
        if cached:
            warnings.append(f"{cached} tokens of the prompt came from the server's cache although it is switched off")
        generated = usage.completion_tokens if usage else None
        below_cap = generated is not None and (sampling.max_tokens is None or generated < sampling.max_tokens)
        return dataclasses.replace(
            result,
            context_full=result.finish_reason == "length" and below_cap,
            warnings=tuple(warnings),
        )

    def _gone(self, partial: ChatResult | None) -> ChatError:
        if self._stopping:
            return CancelledError(f"{self._kind} was stopped", partial=partial)
        tail = self._process.tail(_TAIL_LINES)
        why = diagnose(tail, self._process.exit_code)
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


def bring_up(
    process: ServerProcess,
    *,
    kind: str,
    base_url: str,
    alias: str,
    key: str,
    engine_build: str,
    settings: EngineSettings,
    cancelled: threading.Event | None,
) -> LlamaCppServed | None:
    """Wait until `process` answers at `base_url`, to `key` alone, and make a served model of it.

    None: somebody else answers there (two programs were given the same port). Raises `LoadError`. Whoever does not
    get a served model finds the process stopped.
    """
    served = LlamaCppServed(process, kind=kind, base_url=base_url, alias=alias, key=key, engine_build=engine_build)
    try:
        ready_s = _wait_ready(process, kind, base_url, settings.load_timeout_s, cancelled)
        if not _is_ours(base_url, alias, key):
            process.stop()
            return None
        _require_lock(process, kind, base_url)
        served.load_s = ready_s - process.spawned_s
        served.context = _context(base_url, key) or settings.context
        served.warm_up = _warm_up(served, cancelled)
        served.buffers = parse_buffers(read_log(process.log_path))
    except BaseException:
        process.stop()
        raise
    return served


def load_error(process: ServerProcess, kind: str) -> LoadError:
    """What to say of a server that ended while it loaded."""
    log = read_log(process.log_path)
    why = diagnose(log, process.exit_code)
    message = f"{kind} could not load the model: {why.sentence}"
    return LoadError(message, hint=why.hint, reason=why.reason, log_tail=process.tail(_TAIL_LINES))


def cancelled_error(kind: str) -> LoadError:
    """The load was given up because the caller asked for it."""
    return LoadError(f"loading with {kind} was cancelled", reason="cancelled")


def timeout_error(kind: str, timeout_s: float, log_tail: str) -> LoadError:
    """The load took longer than it may."""
    hint = "raise load_timeout_s in the engine's settings; a slow or remote disk needs longer"
    message = f"{kind} was not ready after {timeout_s:g} s"
    return LoadError(message, hint=hint, reason="timeout", log_tail=log_tail)


def _wait_ready(
    process: ServerProcess, kind: str, base_url: str, timeout_s: float, cancelled: threading.Event | None
) -> float:
    """The moment /health answered 200 (it is 503 while the model loads)."""
    deadline = process.spawned_s + timeout_s
    pause_s = 0.004
    while True:
        if not process.is_alive():
            raise load_error(process, kind)
        if cancelled is not None and cancelled.is_set():
            raise cancelled_error(kind)
        with contextlib.suppress(OSError):
            status, _ = get_json(base_url, "/health", timeout_s=1.0)
            if status == 200:
                return time.monotonic()
        if time.monotonic() >= deadline:
            raise timeout_error(kind, timeout_s, process.tail(_TAIL_LINES))
        # Finely at first (a small model loads in milliseconds), within 2% of the load time later.
        time.sleep(pause_s)
        pause_s = min(0.1, max(0.004, (time.monotonic() - process.spawned_s) * 0.02))


def _require_lock(process: ServerProcess, kind: str, base_url: str) -> None:
    """Raise `LoadError` unless the server refuses who comes without the key.

    Older builds list models and properties to everybody, so it is a completion that is asked for; an empty one, which
    a server without a lock refuses for another reason.
    """
    status = 0
    with contextlib.suppress(OSError):
        status, _ = get_json(base_url, "/v1/chat/completions", body="{}", timeout_s=30.0)
    if status == HTTPStatus.UNAUTHORIZED:
        return
    if not process.is_alive():
        raise load_error(process, kind)
    message = f"{kind} answers every user of this machine: it asks for no key"
    hint = f"use a newer build of llama.cpp: one that knows {KEY_VARIABLE}"
    raise LoadError(message, hint=hint, log_tail=process.tail(_TAIL_LINES))


def _is_ours(base_url: str, alias: str, key: str) -> bool:
    try:
        _, models = get_json(base_url, "/v1/models", key=key)
        return alias in {entry.get("id") for entry in models["data"]}
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def _context(base_url: str, key: str) -> int | None:
    """Tokens of context for each slot, as the server says."""
    try:
        _, properties = get_json(base_url, "/props", key=key)
        return int(properties["default_generation_settings"]["n_ctx"])
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _warm_up(served: LlamaCppServed, cancelled: threading.Event | None) -> WarmUp | None:
    """One small request that does not count: the first after a load pays for page faults and kernels not yet built.

    None if the server refused it or was too slow; then the first real request is a cold one. A server that dies of it
    did not load.
    """
    request = ChatRequest(
        messages=(Message(role="user", content=_WARM_UP_PROMPT),),
        sampling=Sampling(temperature=0.0, max_tokens=_WARM_UP_TOKENS),
        seed=0,
        timeout_s=_WARM_UP_TIMEOUT_S,
    )
    try:
        timing = measure(served.chat(request, cancelled=cancelled))
    except ServerCrashError as error:
        raise LoadError(error.message, hint=error.hint, reason="exited", log_tail=error.log_tail) from None
    except CancelledError:
        raise LoadError("the load was cancelled", reason="cancelled") from None
    except ChatError:
        return None
    return WarmUp(ttft_s=timing.ttft_any_s, e2e_s=timing.e2e_s)
