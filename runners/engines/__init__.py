"""The engines: which there are, one of them by name, and the settings that each has."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, cast

from runners.engines.endpoint_settings import AnthropicSettings, LlamaSwapSettings, OllamaSettings, OpenAISettings
from runners.engines.settings import EmbeddedSettings, EndpointSettings, EngineSettings, LlamaServerSettings
from runners.errors import RunnersError

if TYPE_CHECKING:
    from runners.engines.base import EndpointEngine, Engine

# kind -> settings, and module and class: imported on demand, so that naming the engines costs nothing.
_ENGINES: dict[str, tuple[type[EngineSettings], str, str]] = {
    "embedded": (EmbeddedSettings, "runners.engines.embedded", "EmbeddedEngine"),
    "llama-server": (LlamaServerSettings, "runners.engines.llama_server", "LlamaServerEngine"),
    "openai": (OpenAISettings, "runners.engines.openai", "OpenAIEngine"),
    "anthropic": (AnthropicSettings, "runners.engines.anthropic", "AnthropicEngine"),
    "ollama": (OllamaSettings, "runners.engines.ollama", "OllamaEngine"),
    "llama-swap": (LlamaSwapSettings, "runners.engines.llama_swap", "LlamaSwapEngine"),
}


def engine_kinds() -> list[str]:
    """Names a spec may use as `engine.kind`, the default first."""
    return list(_ENGINES)


def file_engine_kinds() -> list[str]:
    """Those of them that load files, on devices of the node."""
    return [kind for kind, (settings, *_) in _ENGINES.items() if not issubclass(settings, EndpointSettings)]


def _known(kind: str) -> tuple[type[EngineSettings], str, str]:
    if kind not in _ENGINES:
        near = difflib.get_close_matches(kind, _ENGINES, n=1, cutoff=0.5)
        raise RunnersError(
            f"there is no engine {kind!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_ENGINES)}",
        )
    return _ENGINES[kind]


def settings_type(kind: str) -> type[EngineSettings]:
    """The class of the settings of an engine; raises as `get_engine`."""
    return _known(kind)[0]


def settings_from_json(raw: dict[str, Any]) -> EngineSettings:
    """What `EngineSettings.to_json` wrote; `KeyError`, `TypeError` or `RunnersError` if it is damaged."""
    return settings_type(raw["kind"]).from_json(raw)


def serves_endpoints(kind: str) -> bool:
    """Whether an engine asks a server that is not ours, and loads no files; raises as `get_engine`."""
    return issubclass(settings_type(kind), EndpointSettings)


def get_engine(kind: str, *, binary: str | None = None) -> Engine:
    """The engine of that name that loads files; `binary` names its program where it has one.

    Raises:
        RunnersError: there is none, with the nearest name, or it loads no files.
    """
    if serves_endpoints(kind):
        raise RunnersError(f"the engine {kind!r} loads no files: it asks a server that is not ours")
    return cast("Engine", _class_of(kind)(binary=binary))


def get_endpoint_engine(kind: str) -> EndpointEngine:
    """The engine of that name that asks endpoints.

    Raises:
        RunnersError: there is none, with the nearest name, or it loads files.
    """
    if not serves_endpoints(kind):
        raise RunnersError(f"the engine {kind!r} loads files: it asks no endpoint")
    return cast("EndpointEngine", _class_of(kind)())


def _class_of(kind: str) -> Any:
    _, module, name = _known(kind)
    return getattr(importlib.import_module(module), name)
