"""Bringing up a llama.cpp server of ours: wait for it, see that it is ours and locked, ask what it has, warm it up.

The same for the embedded engine and llama-server. If any of it fails, the process is gone when the error arrives.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from runners import stall
from runners.chat import CancelledError, ChatError, ChatRequest, Message, Sampling, ServerCrashError
from runners.engines.base import LoadError, WarmUp
from runners.engines.figures import count
from runners.engines.llama_cpp import KEY_VARIABLE, TAIL_LINES, LlamaCppServed
from runners.engines.llama_log import diagnose, last_line, parse_buffers, read_log
from runners.engines.llama_told import deviations, read_served, refusal
from runners.engines.wire import get_json
from runners.timing import measure
from runners.vitals import read_vitals

if TYPE_CHECKING:
    import threading

    from runners.engines.base import LoadFailure
    from runners.engines.llama_told import ServedSettings
    from runners.engines.settings import LlamaCppSettings
    from runners.process import ServerProcess

# Long enough for the batched kernels, short enough for a large model on a CPU.
_WARM_UP_PROMPT = "Count from one to fifty in words, with a comma after each. " * 4
_WARM_UP_TOKENS = 8
_WARM_UP_TIMEOUT_S = 300.0
_EXIT_CODE_S = 2.0
_CHANGED_HINT = "ask for what it can do under [engine], or use another build"


def bring_up(
    process: ServerProcess,
    *,
    kind: str,
    base_url: str,
    alias: str,
    key: str,
    engine_build: str,
    settings: LlamaCppSettings,
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
        properties = _properties(base_url, key)
        served.context = _context(properties) or settings.context
        served.told = _as_asked(process, kind, settings, properties)
        served.chat_template = _chat_template(properties)
        served.supports_tools = _supports_tools(properties)
        served.warm_up = _warm_up(served, cancelled)
        served.buffers = parse_buffers(read_log(process.log_path))
    except BaseException:
        process.stop()
        raise
    return served


def load_error(process: ServerProcess, kind: str) -> LoadError:
    """What to say of a server that ended while it loaded."""
    log = read_log(process.log_path)
    why = diagnose(log, process.ended(_EXIT_CODE_S), process.memory_kills())
    message = f"{kind} could not load the model: {why.sentence}"
    return LoadError(message, hint=why.hint, reason=why.reason, log_tail=process.tail(TAIL_LINES))


class LoadPatience:
    """How long a server may take to load; `check` is called a few times a second while it does."""

    def __init__(self, process: ServerProcess, kind: str, timeout_s: float, cancelled: threading.Event | None) -> None:
        self._process, self._kind, self._timeout_s, self._cancelled = process, kind, timeout_s, cancelled
        self._own_time = stall.OwnTime()
        self._began_s = self._own_time()
        self._look_s = self._own_time()
        self._stopped_since_s: float | None = None

    def check(self) -> None:
        """Raises `LoadError` if the server ended or is stopped, its time is up, or the caller gave up."""
        if not self._process.is_alive():
            raise load_error(self._process, self._kind)
        if self._cancelled is not None and self._cancelled.is_set():
            raise LoadError(f"loading with {self._kind} was cancelled", reason="cancelled")
        now_s = self._own_time()
        if now_s - self._began_s >= self._timeout_s:
            hint = "raise load_timeout_s in the engine's settings; a slow or remote disk needs longer"
            raise self._too_long(f"was not ready after {self._timeout_s:g} s", hint, "timeout")
        if now_s >= self._look_s:
            self._look_s = now_s + stall.STOPPED_S / 15
            vitals = read_vitals(self._process.pid)
            if vitals is None or not vitals.stopped:
                self._stopped_since_s = None
            elif self._stopped_since_s is None:
                self._stopped_since_s = now_s
            elif now_s - self._stopped_since_s >= stall.STOPPED_S:
                hint = "see who stops processes on this machine"
                raise self._too_long("is stopped (signal or debugger) and does not load", hint, "stopped")

    def _too_long(self, what: str, hint: str, reason: LoadFailure) -> LoadError:
        tail = self._process.tail(TAIL_LINES)
        last = last_line(tail)
        said = f"; the last line of its log: {last}" if last else "; it has logged nothing"
        return LoadError(f"{self._kind} {what}{said}", hint=hint, reason=reason, log_tail=tail)


def _wait_ready(
    process: ServerProcess, kind: str, base_url: str, timeout_s: float, cancelled: threading.Event | None
) -> float:
    """The moment /health answered 200 (it is 503 while the model loads)."""
    patience = LoadPatience(process, kind, timeout_s, cancelled)
    pause_s = 0.004
    while True:
        patience.check()
        with contextlib.suppress(OSError):
            status, _ = get_json(base_url, "/health", timeout_s=1.0)
            if status == 200:
                return time.monotonic()
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
    raise LoadError(message, hint=hint, log_tail=process.tail(TAIL_LINES))


def _is_ours(base_url: str, alias: str, key: str) -> bool:
    try:
        _, models = get_json(base_url, "/v1/models", key=key)
        return alias in {entry.get("id") for entry in models["data"]}
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def _properties(base_url: str, key: str) -> Any:
    """What the server says of itself and the model."""
    try:
        return get_json(base_url, "/props", key=key)[1]
    except OSError:
        return None


def _context(properties: Any) -> int | None:
    """Tokens of context for each slot, as the server says."""
    try:
        return count(properties["default_generation_settings"]["n_ctx"])
    except (KeyError, TypeError):
        return None


def _chat_template(properties: Any) -> str | None:
    """The template that the server uses, whoever gave it."""
    template = properties.get("chat_template") if isinstance(properties, dict) else None
    return template if isinstance(template, str) and template else None


def _as_asked(process: ServerProcess, kind: str, asked: LlamaCppSettings, properties: Any) -> ServedSettings:
    """What the server says that it serves with; raises `LoadError` where results would not be those asked for."""
    served = read_served(properties, read_log(process.log_path))
    if (why := refusal(asked, served)) is not None:
        message = f"{kind} was loaded, but {why}"
        raise LoadError(message, hint=_CHANGED_HINT, reason="changed_settings", log_tail=process.tail(TAIL_LINES))
    return replace(served, deviations=deviations(asked, served))


def _supports_tools(properties: Any) -> bool | None:
    """Whether the template tells the model of tools; None for a build that does not say."""
    capabilities = properties.get("chat_template_caps") if isinstance(properties, dict) else None
    said = capabilities.get("supports_tools") if isinstance(capabilities, dict) else None
    return said if isinstance(said, bool) else None


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
    except ServerCrashError as error:  # or it hangs, and has been killed for it
        raise LoadError(error.message, hint=error.hint, reason="exited", log_tail=error.log_tail) from None
    except CancelledError:
        raise LoadError("the load was cancelled", reason="cancelled") from None
    except ChatError:
        return None
    return WarmUp(
        ttft_s=timing.ttft_any_s,
        e2e_s=timing.e2e_s,
        gap_s=1.0 / timing.decode_tps if timing.decode_tps else None,  # ours sees chunks, of several tokens at times
        prompt_chars=len(_WARM_UP_PROMPT),
    )
