"""The engines: which there are, one of them by name, and the settings that each has."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, cast

from runners.engines.settings import EmbeddedSettings, EngineSettings, LlamaServerSettings
from runners.errors import RunnersError

if TYPE_CHECKING:
    from runners.engines.base import Engine

# kind -> settings, and module and class: imported on demand, so that naming the engines costs nothing.
_ENGINES: dict[str, tuple[type[EngineSettings], str, str]] = {
    "embedded": (EmbeddedSettings, "runners.engines.embedded", "EmbeddedEngine"),
    "llama-server": (LlamaServerSettings, "runners.engines.llama_server", "LlamaServerEngine"),
}


def engine_kinds() -> list[str]:
    """Names a spec may use as `engine.kind`, the default first."""
    return list(_ENGINES)


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


def get_engine(kind: str, *, binary: str | None = None) -> Engine:
    """The engine of that name; `binary` names its program where it has one. Unknown: an error with the nearest name."""
    _, module, name = _known(kind)
    engine = getattr(importlib.import_module(module), name)
    return cast("Engine", engine(binary=binary))
