"""What there is to do: a cell, which is everything that shares one loaded server, and the jobs that it is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from quants.models import FileModel

if TYPE_CHECKING:
    from quants.artifact import Artifact
    from quants.models import Model
    from runners.chat import Sampling
    from runners.engines.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class Cell:
    """A model, how it is served, and how tokens are drawn. `variant` is empty where the model has only one."""

    cell_id: str
    model: Model
    variant: str
    engine: EngineSettings
    sampling: Sampling

    @property
    def artifact(self) -> Artifact:
        """The files of its model; `TypeError` for a model that has none."""
        if not isinstance(self.model, FileModel):
            msg = f"{self.model.name} is no model that has files"
            raise TypeError(msg)
        return self.model.artifact

    @property
    def label(self) -> str:
        """How a person knows it, here as in tables and notes: model, variant if there is one, quant."""
        return label_of(self.model.name, self.model.quant, self.variant)


def label_of(model: str, quant: str, variant: str) -> str:
    """How a person knows a cell of `model`, `quant` and `variant` ("" for none)."""
    return " ".join(part for part in (model, f"({variant})" if variant else "", quant) if part)


@dataclass(frozen=True, slots=True)
class Job:
    """One task of an exam with one seed in a cell. `job_id` is the same wherever and whenever the same job is planned.

    `prompt_version` is the exam's: a job is identified by what is generated. Grading is apart (`runners.exams.base`).
    """

    job_id: str
    cell_id: str
    exam: str
    prompt_version: str
    seed: int
    task: str = "main"


def cell_identity(model: Model, engine: EngineSettings, sampling: Sampling) -> dict[str, Any]:
    """What makes two cells the same: the model's content, comparable settings, sampling. Never names or places."""
    given = {name: value for name, value in asdict(sampling).items() if value is not None}
    return {"model": model.identity(), "engine": engine.comparable(), "sampling": given}
