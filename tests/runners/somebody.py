"""An engine of tests that asks a server which is not ours: llama.cpp's own, found by its URL and key on the node."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import runners.engines
from runners.engines.base import BufferSizes, EngineInfo, EngineUnavailable, LoadError
from runners.engines.llama_cpp import request_body
from runners.engines.settings import EndpointSettings, of_kind
from runners.engines.wire import get_json, stream_chat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from quants.models import EndpointModel
    from runners.chat import ChatRequest, ChatResult, OnEvent
    from runners.engines.base import WarmUp
    from runners.engines.llama_told import ServedSettings
    from runners.engines.settings import EngineSettings

KIND = "somebody"
URL, KEY = "SOMEBODY_URL", "SOMEBODY_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class SomebodySettings(EndpointSettings):
    """Two requests at once, unless a test says otherwise."""

    kind = KIND
    concurrency: int = field(default=2, metadata={"comparable": False})


class AtOnce:
    """Counts the requests that are under way, and how many there were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.all = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


COUNTED = AtOnce()


class SomebodyServed:
    """What somebody serves. Follows `runners.engines.base.Served`."""

    def __init__(self, url: str, key: str, model: str, context: int, build: str) -> None:
        self.base_url: str | None = url
        self.pid: int | None = None
        self.load_s = 0.0
        self.engine_build = build
        self.buffers: BufferSizes | None = None
        self.log_path: Path | None = None
        self.context: int = context
        self.chat_template: str | None = None
        self.supports_tools: bool | None = None
        self.warm_up: WarmUp | None = None
        self.told: ServedSettings | None = None
        self.device_busy: Callable[[], bool | None] | None = None
        self._url, self._key, self._model, self._stopped = url, key, model, False

    def chat(
        self, request: ChatRequest, *, cancelled: threading.Event | None = None, on_event: OnEvent | None = None
    ) -> ChatResult:
        body = request_body(request, model=self._model)
        with COUNTED:
            return stream_chat(
                self._url, body, timeout_s=request.timeout_s, cancelled=cancelled, on_event=on_event, key=self._key
            )

    def is_alive(self) -> bool:
        return not self._stopped

    def kill(self) -> None:
        self._stopped = True

    def stop(self) -> None:
        self._stopped = True


class SomebodyEngine:
    """Follows `runners.engines.base.EndpointEngine`."""

    kind = KIND

    def available(self, settings: EngineSettings) -> EngineInfo | EngineUnavailable:
        if KEY not in os.environ:
            return EngineUnavailable(kind=KIND, reason=f"{KEY} is not set")
        return EngineInfo(kind=KIND, build="1")

    def connect(
        self,
        model: EndpointModel,
        settings: EngineSettings,
        *,
        log_path: Path,
        cancelled: threading.Event | None = None,
    ) -> SomebodyServed:
        own = of_kind(settings, SomebodySettings)
        url, key = os.environ[URL], os.environ[KEY]
        try:
            status, said = get_json(url, "/props", key=key, timeout_s=own.load_timeout_s)
        except OSError as error:
            raise LoadError(f"nobody answers at {url}: {error}") from None
        if status != 200:
            raise LoadError(f"{url} answers with status {status}", reason="bad_settings")
        context, build = said["default_generation_settings"]["n_ctx"], said["build_info"]
        return SomebodyServed(url, key, model.model_id, context, build)


def register(monkeypatch: pytest.MonkeyPatch, *, url: str = "", key: str = "") -> None:
    """Makes it one of the engines of this process, on a node that has the server's address and key."""
    line = (SomebodySettings, "tests.runners.somebody", "SomebodyEngine")
    monkeypatch.setitem(runners.engines._ENGINES, KIND, line)
    monkeypatch.setattr("tests.runners.somebody.COUNTED", AtOnce())
    monkeypatch.setenv(URL, url)
    monkeypatch.setenv(KEY, key)
