"""What tests ask of a cell whose model is files, and of an engine of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quants.models import FileModel
from runners.engines import settings_type

if TYPE_CHECKING:
    from runners.engines.base import Engine
    from runners.engines.settings import EngineSettings
    from runners.work import Cell


def file_of(cell: Cell) -> FileModel:
    """Its model."""
    assert isinstance(cell.model, FileModel)
    return cell.model


def settings_for(engine: Engine, **values: Any) -> EngineSettings:
    """Settings of its kind."""
    return settings_type(engine.kind)(**values)
