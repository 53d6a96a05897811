"""The engines: which there are, and one of them by name."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, cast

from runners.errors import RunnersError

if TYPE_CHECKING:
    from runners.engines.base import Engine

# kind -> module and class: imported on demand, so that naming the engines costs nothing.
_ENGINES = {
    "embedded": ("runners.engines.embedded", "EmbeddedEngine"),
    "llama-server": ("runners.engines.llama_server", "LlamaServerEngine"),
}


def engine_kinds() -> list[str]:
    """Names a spec may use as `engine.kind`, the default first."""
    return list(_ENGINES)


def get_engine(kind: str, *, binary: str | None = None) -> Engine:
    """The engine of that name; `binary` names its program where it has one. Unknown: an error with the nearest name."""
    if kind not in _ENGINES:
        near = difflib.get_close_matches(kind, _ENGINES, n=1, cutoff=0.5)
        raise RunnersError(
            f"there is no engine {kind!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_ENGINES)}",
        )
    module, name = _ENGINES[kind]
    engine = getattr(importlib.import_module(module), name)
    return cast("Engine", engine(binary=binary))
